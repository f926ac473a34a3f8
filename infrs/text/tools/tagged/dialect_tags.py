"""The tags of the dialects."""

from __future__ import annotations

from dataclasses import dataclass

from infrs.text.tools.parser import Syntax


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of a dialect and the line breaks that chat templates write between them.

    block: the texts around the calls of a block. holds_many: whether a block holds several calls. call: the texts
    before and after a name, and at the end of a call. key: the texts before and after a key. key_of_text: the text
    after the key of a string, if that has its own. value_end: the text after a value. join: the text between two calls
    of a block, or between two blocks. tokens: parts of these texts that can be control tokens. needs_block: whether a
    call without a block is text. quotes: the texts around a string that has `<`, `&` or a line break.
    """

    block: tuple[str, str]
    call: tuple[str, str, str]
    key: tuple[str, str]
    value_end: str
    join: str
    tokens: tuple[str, ...]
    key_of_text: str = ""
    holds_many: bool = False
    needs_block: bool = True
    quotes: tuple[str, str] = ("", "")

    @property
    def syntax(self) -> Syntax:
        """Return the markers for the parser."""
        starts = (self.block[0],) if self.needs_block else (self.block[0], self.call[0])
        return Syntax(starts=tuple(start.strip() for start in starts), ends=(self.block[1].strip(),), inner=self.tokens)
