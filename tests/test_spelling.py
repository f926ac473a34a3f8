import pytest

from infrs.spelling import nearest

FIELDS = ["max_output_tokens", "messages", "repetition_penalty", "stop", "temperature"]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("temprature", "temperature"),
        ("max_tokens", "max_output_tokens"),
        ("repeat_penalty", "repetition_penalty"),
        ("stops", "stop"),
        ("images", None),
        ("keep_alive", None),
        ("", None),
    ],
)
def test_nearest(word: str, meant: str | None) -> None:
    assert nearest(word, FIELDS) == meant


def test_a_long_word_is_not_compared() -> None:
    assert nearest("x" * 65, ["x" * 65]) is None
