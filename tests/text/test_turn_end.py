"""The control token that a chat template writes after an answer ends a turn, whatever its name."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordLevel

from infrs.text.chat.template import ChatTemplate, SimpleFormat
from infrs.text.chat.turn_end import find_turn_end
from infrs.text.tokenizer import Tokenizer

ANSWER = "{% for m in messages %}[{{ m.role }}]{{ m.content }}"
TURN, TURN_AND_MORE, PLAIN = 1, 2, 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    backend = Backend(WordLevel({"?": 0}, unk_token="?"))
    backend.add_special_tokens(["<turn>", "<turn><more>"])
    backend.add_tokens([AddedToken("<plain>", special=False)])
    return Tokenizer(backend.to_str())


@pytest.mark.parametrize(
    ("template", "token_id"),
    [
        (ANSWER + "<turn>\n{% endfor %}", TURN),
        (ANSWER + " \n<turn>{% endfor %}", TURN),
        (ANSWER + "<turn><more>{% endfor %}", TURN_AND_MORE),
        (ANSWER + "<plain>{% endfor %}", None),
        (ANSWER + "!<turn>{% endfor %}", None),
        (ANSWER + "{% endfor %}", None),
        ("<turn>", None),
        ("{{ raise_exception('no') }}", None),
    ],
)
def test_the_token_after_an_answer(tokenizer: Tokenizer, template: str, token_id: int | None) -> None:
    assert find_turn_end(ChatTemplate(template, {}), tokenizer) == token_id


def test_a_token_that_ends_reasoning_does_not_end_an_answer(tokenizer: Tokenizer) -> None:
    chat_format = ChatTemplate(ANSWER + "<turn>{% endfor %}", {})
    assert find_turn_end(chat_format, tokenizer, "<turn>assistant") is None
    assert find_turn_end(chat_format, tokenizer, "</think>") == TURN


def test_the_plain_format_ends_turns_by_text(tokenizer: Tokenizer) -> None:
    assert find_turn_end(SimpleFormat(), tokenizer) is None
