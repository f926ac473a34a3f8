"""A tokenizer for tiny models, with a chat template."""

from __future__ import annotations

import json
from pathlib import Path

from infrs_export.parity.text import TEXT
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCAB = 320
SPECIAL = ["<s>", "</s>", "<|im_end|>"]
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}<|im_end|>\\n{% endfor %}"


def write_tokenizer(folder: Path) -> None:
    """Byte-level BPE of VOCAB tokens, trained on the parity text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(names | {"tokenizer_class": "PreTrainedTokenizerFast"}))
