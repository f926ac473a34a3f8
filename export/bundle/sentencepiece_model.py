"""Make the tokenizer.json of a folder that has a SentencePiece model alone, and compare it with SentencePiece itself.

transformers has two ways to read such a model. The way by class, such as LlamaTokenizer, loses a space at the start of
a text. The way without a class follows the model's own settings, so it is the one here.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from infrs.errors import SourceError

from ..sources.config_check import LARGEST
from ..sources.side_files import LONGEST_TOKEN
from .added_tokens import optional_json, text
from .tokenizer_file import explained, open_tokenizer, token_ids
from .tokenizer_settings import is_generic

MODEL_FILE = "tokenizer.model"
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # kinds of pieces, of sentencepiece_model.proto
# Spaces at every place, scripts, digits, code, characters that normalisation changes, bytes that no piece has.
_TEXTS = (
    "",
    "a",
    "Hello, world! It's a test.",
    "two  spaces   three    four \t tab\n\nlines \r\n end ",
    "1 12 123 1234 12345.67 \u0663\u0664 \u00bd x2y3",
    "na\u00efve caf\u00e9 e\u0301 \ufb01 \u212b \u2460 \uff21 \u00df \u0130",
    "\u5317\u4eac \u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4 \u0e20\u0e32\u0e29\u0e32 \u05e2\u05d1\u05e8\u05d9\u05ea "
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0939\u093f\u0928\u094d\u0926\u0940",
    "\U0001f642 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \U00020000",
    "def f(x: int) -> int:\n    return x**2\n\n\nclass A:\n\tpass\n",
    "a\u2581b \u2581 \u2581\u2581 bom \ufeff nbsp \u00a0 wide \u3000 zero\u200bwidth",
)
_TEXTS_WITH_SPACE = (" ", "   ", " start", "   start  ", "\n start")


@dataclass(frozen=True, slots=True)
class _Model:
    """A SentencePiece model, and its file as an object."""

    processor: SentencePieceProcessor
    proto: Any

    @property
    def pieces(self) -> Sequence[Any]:
        """Return the pieces by id, each with `piece` (the text) and `type`."""
        return cast(Sequence[Any], self.proto.pieces)

    @classmethod
    def open(cls, path: Path) -> _Model:
        """Read a model. Raises SourceError."""
        most = LARGEST["vocab_size"]
        with explained(f"{path.name} is no readable SentencePiece model"):
            processor = SentencePieceProcessor(model_file=str(path))
            if (count := processor.get_piece_size()) > most:
                raise SourceError(f"{path.name} has {count} pieces, but {most} is the maximum; download it again")
            # mypy knows no names of compiled messages.
            proto = cast(Any, sentencepiece_model_pb2).ModelProto.FromString(processor.serialized_model_proto())
        longest = max((len(each.piece) for each in proto.pieces), default=0)
        if longest > LONGEST_TOKEN:
            raise SourceError(
                f"{path.name} has a piece of {longest} characters, but {LONGEST_TOKEN} is the maximum; "
                "download it again"
            )
        return cls(processor, proto)

    def ids(self, sample: str) -> list[int]:
        """Return the ids of a text, without BOS and EOS."""
        with explained(f"{MODEL_FILE} cannot tokenise a text"):
            return [int(index) for index in self.processor.encode(sample)]

    def is_apart(self, index: int) -> bool:
        """Return whether a text gets a token only by its name: an unknown or control piece, or one of another file."""
        return index >= len(self.pieces) or self.pieces[index].type in (_UNKNOWN, _CONTROL)

    def renamed(self, declared: object) -> bytes:
        """Return the file of the model in which pieces have the names of `declared`, tokens by id in digits."""
        known = {each.piece for each in self.pieces}
        proto = type(self.proto)()
        proto.CopyFrom(self.proto)
        for index, token in declared.items() if isinstance(declared, dict) else ():
            content = text(token)
            if index.isdecimal() and int(index) < len(self.pieces) and content and content not in known:
                proto.pieces[int(index)].piece = content
        return bytes(proto.SerializeToString())


def convert_sentencepiece(source: Path, path: Path) -> None:
    """Write to `path` the tokenizer of the SentencePiece model in the folder `source`.

    Tokens that only other files name are left out, unless they are a new name of a piece.
    Raises SourceError if the model cannot be read or has more or longer pieces than a model needs.
    """
    model, names = _Model.open(source / MODEL_FILE), _names(source)
    fields = {
        f"{role}_token": content for role in ("bos", "eos", "unk") if (content := text(names.get(f"{role}_token")))
    }
    with tempfile.TemporaryDirectory() as name, explained(f"{MODEL_FILE} cannot be converted"):
        folder = Path(name)
        (folder / MODEL_FILE).write_bytes(model.renamed(names.get("added_tokens_decoder")))
        (folder / "tokenizer_config.json").write_text(json.dumps(fields | {"legacy": _is_legacy(names)}))
        made: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(
            folder, local_files_only=True, **_ends(names)
        )
        made.backend_tokenizer.save(str(path))


def match_sentencepiece(source: Path, path: Path) -> None:
    """Compare the tokenizer at `path` with the SentencePiece model in the folder `source`.

    Raises SourceError with the first text that gets other ids.
    """
    model, tokenizer, names = _Model.open(source / MODEL_FILE), open_tokenizer(path), _names(source)
    is_legacy = _is_legacy(names)
    bos, eos = (_end(tokenizer, model, names, role) for role in ("bos", "eos"))
    for sample in _samples(model, tokenizer, with_space=is_legacy):
        wanted = model.ids(sample)
        _require(sample, token_ids(tokenizer, sample, special=False), wanted)
        _require(sample, token_ids(tokenizer, sample), [*bos, *wanted, *eos])
    before, after = model.ids("a"), model.ids("b")
    for index, token in sorted(tokenizer.get_added_tokens_decoder().items()):
        if not model.is_apart(index) or token.lstrip or token.rstrip or token.single_word:
            continue
        sample = f"a{token.content}b"
        ids = token_ids(tokenizer, sample, special=False)
        # If the field `legacy` is false, only the start of a text gets a space.
        _require(sample, ids, [*before, index, *(after if is_legacy else ids[len(before) + 1 :])])


def _samples(model: _Model, tokenizer: Tokenizer, *, with_space: bool) -> Iterator[str]:
    """Yield texts. with_space: also those that begin with white space."""
    yield from _TEXTS
    if with_space:
        yield from _TEXTS_WITH_SPACE
    for index, each in enumerate(model.pieces):
        if each.type == _USER_DEFINED and tokenizer.id_to_token(index) == each.piece:
            word = each.piece.replace("\u2581", " ")
            yield f"a{word}b {word} {word}"


def _require(sample: str, ids: list[int], wanted: list[int]) -> None:
    if ids != wanted:
        pairs = zip(ids, wanted, strict=False)
        start = next((index for index, (left, right) in enumerate(pairs) if left != right), min(len(ids), len(wanted)))
        raise SourceError(
            f"the tokenizer made of {MODEL_FILE} gives {sample!r:.80} other tokens than SentencePiece: from token "
            f"{start}, {ids[start : start + 4]} instead of {wanted[start : start + 4]}; save it as tokenizer.json with "
            "the version of transformers that saved the model"
        )


def _names(source: Path) -> dict[str, Any]:
    return {**optional_json(source / "special_tokens_map.json"), **optional_json(source / "tokenizer_config.json")}


def _is_legacy(names: dict[str, Any]) -> bool:
    """Return whether text after an added token begins with a space too, as transformers 4 has it by default."""
    return names.get("legacy") is not False


def _ends(names: dict[str, Any]) -> dict[str, Any]:
    """Return whether a text gets a BOS and an EOS token. The classes of SentencePiece models add BOS by default."""
    default = {"add_bos_token": not is_generic(names), "add_eos_token": False}
    return default | {name: bool(names[name]) for name in default if names.get(name) is not None}


def _end(tokenizer: Tokenizer, model: _Model, names: dict[str, Any], role: str) -> list[int]:
    """Return the tokens that a text gets at an end: one or none."""
    if not _ends(names)[f"add_{role}_token"]:
        return []
    content = text(names.get(f"{role}_token"))
    own = int(getattr(model.processor, f"{role}_id")())
    index = own if content is None else tokenizer.token_to_id(content)
    return [] if index is None or index < 0 else [index]
