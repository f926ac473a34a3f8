"""The events of a streamed answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Content:
    """A piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of text from inside a reasoning block."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """The start of a call. The Arguments up to the next CallStart belong to it."""

    name: str


@dataclass(frozen=True, slots=True)
class Arguments:
    """A piece of the current call's arguments: JSON as the model wrote it."""

    text: str


Event = Content | Reasoning | CallStart | Arguments
