"""Fields of tokenizer_config.json that change parts of tokenizer.json, as the classes of transformers 4 apply them.

transformers 5 writes none that contradicts its tokenizer.json, and it ignores `add_bos_token` next to one.
"""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import ByteLevel

# Classes that put tokens at the ends of a text by `add_bos_token` and `add_eos_token` -> the default of the first.
_ENDS = {"Llama": True, "CodeLlama": True, "Gemma": True, "Cohere": True, "GPTNeoX": False}
_GENERIC = ("PreTrained", "TokenizersBackend")  # reads no field of BERT's
_BERT = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


def ends_of_texts(names: dict[str, Any]) -> dict[str, Any]:
    """Return whether a text gets a BOS and an EOS token, by the fields; empty if tokenizer.json decides.

    names: the object of tokenizer_config.json.
    """
    if (default := _ENDS.get(_class(names))) is None:
        return {}
    ends = {"add_bos_token": default, "add_eos_token": False}
    given = {name: bool(names[name]) for name in ends if names.get(name) is not None}
    return ends | given if given else {}


def apply_settings(tokenizer: Tokenizer, names: dict[str, Any]) -> None:
    """Set what the fields of `names` set, in place: a space before the text, and the parts of BERT's normalizer."""
    pre_tokenizer, normalizer = tokenizer.pre_tokenizer, tokenizer.normalizer
    if isinstance(pre_tokenizer, ByteLevel) and isinstance(space := names.get("add_prefix_space"), bool):
        pre_tokenizer.add_prefix_space = space
        tokenizer.pre_tokenizer = pre_tokenizer
    if isinstance(normalizer, BertNormalizer) and not is_generic(names):
        for name, part in _BERT.items():
            if isinstance(names.get(name), bool):
                setattr(normalizer, part, names[name])
        tokenizer.normalizer = normalizer


def is_generic(names: dict[str, Any]) -> bool:
    """Return whether the fields name no class but the one for any tokenizer.json."""
    return _class(names) in _GENERIC


def _class(names: dict[str, Any]) -> str:
    return str(names.get("tokenizer_class")).removesuffix("Fast").removesuffix("Tokenizer")
