"""Which tokens the rows of a draft model have, and which row a text continues."""

from __future__ import annotations

from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field

from infrs.engine.speculation.drafter import Text
from infrs.engine.speculation.pace import Acceptance

_STRIDE = 64  # tokens compared in one operation
_MIN_KEPT = 64  # a row with more tokens that a text does not share is left to the text that does


@dataclass(eq=False, frozen=True, slots=True)
class Reader:
    """A sequence for which a draft model reads. Texts of a tenant continue rows of the same tenant only."""

    tenant: str
    acceptance: Acceptance


@dataclass(slots=True)
class DraftRow:
    """One row of a draft model, and the tokens of which it has the keys and values.

    reader: for which it was computed; the first `num_sure` tokens are certainly those of its text. last_used: the
    number of the reading.
    """

    row: int
    tokens: list[int] = field(default_factory=list)
    reader: Reader | None = None
    num_sure: int = 0
    last_used: int = 0

    def common(self, text: Text, reader: Reader) -> int:
        """Count the tokens at the beginning that the row shares with a text, but for the text's last one."""
        if self.reader is None or self.reader.tenant != reader.tenant:
            return 0
        count, limit = self.num_sure if self.reader is reader else 0, min(len(self.tokens), len(text) - 1)
        for size in (_STRIDE, 1):
            while count + size <= limit and [*text[count : count + size]] == self.tokens[count : count + size]:
                count += size
        return min(count, limit)


class DraftRows:
    """The rows of a draft model. A text continues the row that has most of its beginning."""

    def __init__(self, num_rows: int) -> None:
        self.rows = [DraftRow(row) for row in range(num_rows)]
        self._clock = 0

    def choose(self, text: Text, reader: Reader) -> tuple[int, int, int]:
        """Return the row that a text may have, the row to continue, and how many of its tokens. Changes nothing."""
        common = {each.row: each.common(text, reader) for each in self.rows}
        own = next((each for each in self.rows if each.reader is reader), None)
        source = own or max(self.rows, key=lambda each: (common[each.row], -each.last_used))
        row = source
        if own is None and len(source.tokens) - common[source.row] >= _MIN_KEPT:
            row = min(self.rows, key=lambda each: each.last_used)
        return row.row, source.row, common[source.row]

    def begin(self, row: int, source: int, start: int, reader: Reader) -> None:
        """Note that a row has the first `start` tokens of row `source`, and belongs to a reader from now on."""
        self._clock += 1
        kept = self.rows[source].tokens[:start] if source != row else None
        target = self.rows[row]
        if kept is not None:
            target.tokens = kept
        del target.tokens[start:]
        target.reader, target.num_sure, target.last_used = reader, start, self._clock

    def append(self, row: int, tokens: Tokens[int], *, is_text: bool) -> None:
        """Note that tokens were computed in a row. is_text: they are the reader's, and not draft tokens."""
        self.rows[row].tokens += tokens
        if is_text:
            self.rows[row].num_sure = len(self.rows[row].tokens)

    def clear(self) -> None:
        """Note that no row has any token."""
        self.rows = [DraftRow(each.row) for each in self.rows]
