"""What a stream of answer text means, piece by piece."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Content:
    """Text for the reader."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Text from inside a reasoning block."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """A call begins; the Arguments up to the next CallStart are its."""

    name: str


@dataclass(frozen=True, slots=True)
class Arguments:
    """A piece of the running call's arguments, JSON as the model wrote it."""

    text: str


Event = Content | Reasoning | CallStart | Arguments
