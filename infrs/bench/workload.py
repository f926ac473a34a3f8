"""The workload: conversations in which later turns contain the answers to earlier ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from infrs.errors import InfrsError

# Common words that most vocabularies hold as one token with their leading space: n words are about n tokens.
_TEXT = """
time people way day man thing woman life child world school state family student group country problem hand part
place case week company system program question work government number night point home water room mother area money
story fact month lot right study book eye job word business issue side kind head house service friend father power
hour game line end member law car city community name president team minute idea body information back parent face
others level office door health person art war history party result change morning reason research girl guy moment
air teacher force education foot boy age policy music market sense nation plan college interest death experience
effect use class control care field development role effort rate heart drug show leader light voice wife police mind
price report decision son view relationship town road arm difference value building
"""
_WORDS = _TEXT.split()


class WorkloadError(InfrsError):
    """The prompts to send could not be read."""

    code = "invalid_workload"
    exit_code = 2


@dataclass(frozen=True, slots=True)
class Conversation:
    """What one user says, turn by turn, behind an optional system message."""

    turns: tuple[str, ...]
    system: str | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """The lengths of synthetic conversations, in words, which are about tokens.

    prefix: words of one system message that all conversations share; 0 for none.
    """

    input_words: int = 100
    prefix_words: int = 0
    turns: int = 1


def words(count: int, seed: int | str) -> str:
    """`count` words drawn by `seed`. Different seeds part at the first word, almost surely."""
    return " ".join(random.Random(seed).choices(_WORDS, k=count))  # noqa: S311  # not a secret


def synthetic(shape: Shape, count: int, seed: int | str) -> list[Conversation]:
    """`count` conversations; no two share a turn, and another seed shares none of them."""
    system = words(shape.prefix_words, f"{seed} prefix") if shape.prefix_words else None
    return [
        Conversation(tuple(words(shape.input_words, f"{seed} {index} {turn}") for turn in range(shape.turns)), system)
        for index in range(count)
    ]


def read_prompts(path: Path) -> list[Conversation]:
    """A prompt set: one a line, either bare text or JSON {"prompt": text}, {"turns": [text, ...], "system": text}.

    Raises WorkloadError.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{path} cannot be read: {error}") from error
    conversations = [_conversation(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not conversations:
        raise WorkloadError(f"{path} holds no prompt; write one a line")
    return conversations


def _conversation(path: Path, number: int, line: str) -> Conversation:
    if not line.lstrip().startswith("{"):
        return Conversation((line,))
    try:
        value = orjson.loads(line)
        turns = value.get("turns", [value.get("prompt")])
        system = value.get("system")
    except (orjson.JSONDecodeError, AttributeError) as error:
        raise WorkloadError(f"{path}, line {number}: not JSON; write the prompt as plain text or an object") from error
    said = isinstance(turns, list) and turns and all(isinstance(turn, str) for turn in turns)
    if not said or not isinstance(system, str | None):
        raise WorkloadError(f'{path}, line {number}: give "prompt" or "turns" as text, and "system" if there is one')
    return Conversation(tuple(turns), system)


def take(prompts: Sequence[Conversation], count: int, start: int) -> list[Conversation]:
    """`count` of the prompts from `start`, beginning again at the end of the set."""
    return [prompts[(start + index) % len(prompts)] for index in range(count)]
