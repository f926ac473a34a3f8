"""Make or read the workload: conversations of several turns."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from infrs.errors import InfrsError

# Common words that are one token in most vocabularies, with their leading space: n words are about n tokens.
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
    """The prompts cannot be read."""

    code = "invalid_workload"
    exit_code = 2


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages of one user, turn by turn, after an optional system message."""

    turns: tuple[str, ...]
    system: str | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """The lengths of synthetic conversations, in words, which are about tokens.

    prefix_words: length of a system message that all conversations share; 0 for none.
    """

    input_words: int = 100
    prefix_words: int = 0
    turns: int = 1


def words(count: int, seed: int | str) -> str:
    """Return `count` random words. Texts of different seeds almost always differ in the first word."""
    return " ".join(random.Random(seed).choices(_WORDS, k=count))  # noqa: S311  # not a secret


def synthetic(shape: Shape, count: int, seed: int | str) -> list[Conversation]:
    """Return `count` conversations. No turn occurs twice, also with other seeds."""
    system = words(shape.prefix_words, f"{seed} prefix") if shape.prefix_words else None
    return [
        Conversation(tuple(words(shape.input_words, f"{seed} {index} {turn}") for turn in range(shape.turns)), system)
        for index in range(count)
    ]


def read_prompts(path: Path) -> list[Conversation]:
    """Read a prompt set with one prompt per line.

    A line is plain text, {"prompt": text} or {"turns": [text, ...], "system": text}.

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
    """Return `count` prompts from `start` on, cyclically."""
    return [prompts[(start + index) % len(prompts)] for index in range(count)]
