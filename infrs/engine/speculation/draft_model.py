"""A draft model: a smaller model with the same tokens, which reads the text of a sequence and proposes what follows."""

from __future__ import annotations

import logging
from collections.abc import Callable

from infrs.engine.runners.runner import Segment
from infrs.engine.speculation.draft_rows import DraftRows, Reader
from infrs.engine.speculation.drafter import Ahead, Next, Reading, Text
from infrs.engine.speculation.pace import MAX_DRAFT, Acceptance, choose_pace
from infrs.engine.speculation.timed import TimedRunner

logger = logging.getLogger(__name__)

_FEW = 16  # unread tokens that are read in the same run as they would be one by one


class DraftModel:
    """The draft model of an engine. All its sequences share the rows, of which each has the beginning of one text.

    An error of the model ends its use. It never reaches a sequence.
    """

    def __init__(self, runner: TimedRunner, target: TimedRunner, chunk: int) -> None:
        """Use a runner for drafts. target: the runner that verifies them. chunk: the most tokens to read in a step."""
        self.store = runner.store
        self.acceptance = Acceptance()
        self.is_off = False
        self._runner, self._target, self._chunk = runner, target, chunk
        self.rows = DraftRows(runner.num_rows)

    def plan(self, text: Text, limit: int, reader: Reader, num_plain: int) -> Reading | None:
        """Return what to read and to draft in this step, or None if drafts do not pay. Changes nothing.

        limit: of the draft. num_plain: the tokens that were decoded without a draft. A text with many unread tokens is
        read once their drafts would have saved as much time as that takes: at worst it takes twice what it had to.
        """
        end = len(text)
        if self.is_off or end >= self._runner.capacity:
            return None
        room, limit = limit, min(limit, MAX_DRAFT, self._runner.capacity - end)
        pace = choose_pace(self._target.costs, self._runner.costs, reader.acceptance.rate, limit)
        if not pace.pays:
            return None
        row, source, start = self.rows.choose(text, reader)
        num_unread = end - start
        if num_unread > _FEW:
            cost = self._runner.costs.of(num_unread)
            if cost > pace.saved * min(room, num_plain + 1):
                return None
            if num_unread > self._chunk:
                return Reading(row, source, start, start + self._chunk, 0)
        return Reading(row, source, start, end, limit, pace.least)

    def draft(self, reading: Reading, text: Text, reader: Reader, ahead: Callable[[], Ahead]) -> list[Next]:
        """Carry out a reading and return the draft; an empty one if the model fails, which ends its use."""
        if self.is_off:
            return []
        try:
            return self._draft(reading, text, reader, ahead)
        except Exception as error:  # ONNX Runtime's exceptions have no common type
            self._switch_off(error)
            return []

    def release(self) -> None:
        """Return the memory of all rows to the system."""
        self.rows.clear()
        self.store.release()

    def _draft(self, reading: Reading, text: Text, reader: Reader, ahead: Callable[[], Ahead]) -> list[Next]:
        row, start, end = reading.row, reading.start, reading.end
        if reading.source != row:
            self.store.copy(reading.source, row, start)
        self.rows.begin(row, reading.source, start, reader)
        input_ids = text[start:end]
        logits = self._runner.run([Segment(row, start, input_ids, (end - start - 1,) if reading.limit else ())])
        self.rows.append(row, input_ids, is_text=True)
        drafted: list[Next] = []
        sampler = ahead() if reading.limit else None
        reached = 1.0  # how probable it is that all draft tokens so far are accepted
        while sampler is not None:
            token = sampler.next(logits[0])
            drafted.append(token)
            reached *= reader.acceptance.of(token.probability)
            if token.is_end or len(drafted) == reading.limit or reached < reading.least:
                break
            logits = self._runner.run([Segment(row, end + len(drafted) - 1, (token.token_id,), (0,))])
            self.rows.append(row, (token.token_id,), is_text=False)
        return drafted

    def _switch_off(self, error: Exception) -> None:
        self.is_off = True
        reason = " ".join(str(error).split())[:200]
        logger.warning(
            "the draft model has failed and is off until the model is loaded again; answers are the same without it "
            "(%s: %s)",
            type(error).__name__,
            reason,
        )
