"""The scheduler: which sequences have a row, and what the next step computes."""

from __future__ import annotations

from collections.abc import Iterator

from infrs.engine.runners.runner import Runner
from infrs.engine.scheduling.fairness import by_need, choose_victim, usable
from infrs.engine.scheduling.plan import Copy, Decode, Prefill, StepPlan
from infrs.engine.scheduling.slots import Slot, Slots
from infrs.engine.scheduling.waiting import WaitingSequences
from infrs.engine.sequence import Sequence


class Scheduler:
    """Gives `num_rows` slots to those who wait, in the order of `WaitingSequences`, and plans steps.

    `running` maps the sequences that have a slot to it, in the order they got it. A step computes at most
    `prefill_chunk` prompt tokens, which bounds the wait of the rows that decode. Unless the runner is
    `chunk_invariant`, a prompt is cut at multiples of it whatever the load, so that its arithmetic never depends on its
    companions, and nobody who has a slot loses it (`infrs.engine.scheduling.fairness`).
    """

    def __init__(self, runner: Runner, prefill_chunk: int) -> None:
        self.slots = Slots(runner, grain=1 if runner.capabilities.chunk_invariant else prefill_chunk)
        self.running: dict[Sequence, Slot] = {}
        self.waiting = WaitingSequences()
        self.prefill_chunk = prefill_chunk
        self.num_preemptions = 0
        self._runner = runner

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs or waits."""
        return not self.running and not self.waiting

    def find(self, request_id: str) -> list[Sequence]:
        """The sequences of a request that run or wait."""
        return [sequence for sequence in (*self.running, *self.waiting) if sequence.request.request_id == request_id]

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence; its slot is free at once and goes on holding its tokens."""
        slot = self.running.pop(sequence, None)
        if slot is None:
            self.waiting.remove(sequence)
            return
        slot.last_used = slot.left_at = self.slots.clock
        slot.left_by = sequence.request.tenant
        if self._runner.capabilities.chunk_invariant and not sequence.is_prefilling:
            slot.hold(sequence, sequence.num_computed_tokens)

    def forget(self, sequence: Sequence) -> None:
        """Remove a sequence whose run has failed: what its slot holds is not to be trusted."""
        slot = self.running[sequence]
        self.remove(sequence)
        slot.held = ()

    def forget_all(self) -> list[Sequence]:
        """Remove every sequence, and trust no row: a plan may have been left half-way. Those who were removed."""
        sequences = list(dict.fromkeys((*self.running, *self.waiting)))
        self.running.clear()
        self.waiting = WaitingSequences()
        self.slots.forget()
        return sequences

    def siblings(self, sequence: Sequence) -> list[Sequence]:
        """The other answers of its request that have a slot and nothing in it yet, and need no more than its prompt."""
        return [
            other
            for other in self.running
            if other.request is sequence.request
            and other is not sequence
            and not (other.num_computed_tokens or other.output_ids or other.scores_prompt)
        ]

    def adopt(self, sequence: Sequence, sibling: Sequence) -> Copy:
        """Let a sibling have the prompt that a sequence has computed: the copy that does it."""
        source, target = self.running[sequence], self.running[sibling]
        count = sequence.num_prompt_tokens
        sibling.reuse(count)
        target.hold(sequence, len(source.held))
        return Copy(source.row, target.row, count)

    def computed(self, prefill: Prefill) -> None:
        """Take note of a chunk that has been run."""
        sequence = prefill.sequence
        sequence.num_computed_tokens = prefill.end
        self.running[sequence].hold(sequence, prefill.end // self.slots.grain * self.slots.grain)

    def plan(self) -> StepPlan | None:
        """Give slots to those who wait and plan a step; None if there is nothing to do."""
        self.slots.clock += 1
        moves = [*self._admit()]
        if not self.running:
            return None
        decoding = self._decoding()
        if compaction := [*self._compact([*decoding])]:
            moves += compaction
            decoding = self._decoding()
        return StepPlan(tuple(moves), self._plan_decode(decoding), self._plan_prefills())

    def _admit(self) -> Iterator[Copy]:
        if not self.waiting:
            return
        free = self.slots.free(set(self.running.values()))
        while self.waiting:
            sequence = self.waiting.next(self.running)
            if not free:
                choice = free = self._preempt(sequence.request.tenant)
            else:
                choice = usable(free, sequence, self.slots.clock) if self.running else free
            if not choice:
                return
            self.waiting.take(sequence)
            slot, kept = self.slots.give(sequence, choice)
            yield from kept
            free.remove(slot)
            self.running[sequence] = slot

    def _preempt(self, tenant: str) -> list[Slot]:
        """The slot that somebody has to give up for a tenant; none if nobody has to."""
        victim = choose_victim(self.running, tenant) if self._runner.capabilities.chunk_invariant else None
        if victim is None:
            return []
        slot = self.running[victim]
        self.remove(victim)
        victim.preempt()
        self.waiting.put_back(victim)
        self.num_preemptions += 1
        return [slot]

    def _decoding(self) -> list[tuple[int, Sequence]]:
        """Rows, in order, and their sequences, whose prompts are computed."""
        return sorted([(slot.row, sequence) for sequence, slot in self.running.items() if not sequence.is_prefilling])

    def _compact(self, decoding: list[tuple[int, Sequence]]) -> Iterator[Copy]:
        """Move the last decoding rows into free ones between: an idle row costs as much as a busy one."""
        while decoding and decoding[-1][0] - decoding[0][0] >= len(decoding):  # rows lie between
            source, sequence = decoding.pop()
            left = self.running[sequence]
            free = self.slots.free(set(self.running.values()))
            between = [slot for slot in free if decoding[0][0] < slot.row < source]
            if not between:
                break
            target = min(between, key=lambda slot: slot.last_used)
            yield from self.slots.keep(target, 0)
            yield Copy(source, target.row, sequence.num_computed_tokens)
            target.hold(sequence, len(left.held))
            left.last_used = 0  # what it still holds is held twice now
            left.left_by, left.left_at = target.left_by, target.left_at
            self.running[sequence] = target

    def _plan_decode(self, decoding: list[tuple[int, Sequence]]) -> Decode | None:
        if not decoding:
            return None
        if self._runner.capabilities.verifies_drafts and len(decoding) == 1:
            [(row, sequence)] = decoding
            return Decode(row, (sequence,), (sequence.num_computed_tokens,), sequence.guess(self._runner.capacity))
        first, last = decoding[0][0], decoding[-1][0]
        span = range(first, max(last + 1, first + self._runner.capabilities.min_rows))
        rows = tuple(map(dict(decoding).get, span))
        positions = [
            self._free_from(row) if sequence is None else sequence.num_computed_tokens
            for row, sequence in zip(span, rows, strict=True)
        ]
        return Decode(first, rows, tuple(positions))

    def _free_from(self, row: int) -> int:
        """The first position of a row that does not decode behind all that it holds; the row may be one too many."""
        computed = [sequence.num_computed_tokens for sequence, slot in self.running.items() if slot.row == row]
        held = [len(slot.held) for slot in self.slots.serving[row : row + 1]]
        return max((*computed, *held), default=0)

    def _plan_prefills(self) -> tuple[Prefill, ...]:
        prefilling = [sequence for sequence in self.running if sequence.is_prefilling]
        # Where a chunk must not be cut, it is the first one's.
        queues = by_need(prefilling) if self._runner.capabilities.chunk_invariant else [prefilling]
        prefills: list[Prefill] = []
        budget = self.prefill_chunk
        for num_left, queue in zip(range(len(queues), 0, -1), queues, strict=True):
            planned = self._fill(-(-budget // num_left), queue)
            budget -= sum(prefill.end - prefill.start for prefill in planned)
            prefills += planned
        return tuple(prefills)

    def _fill(self, budget: int, queue: list[Sequence]) -> list[Prefill]:
        """The runs of those in a queue, in order, for which there are `budget` tokens."""
        chunk = self.prefill_chunk
        prefills: list[Prefill] = []
        for sequence in queue:
            if any(sequence.request is prefill.sequence.request for prefill in prefills):
                continue  # an answer takes over the prompt that its sibling computes
            slot = self.running[sequence]
            source, start = self.slots.prefix(sequence, slot)
            border = start + budget if self._runner.capabilities.chunk_invariant else (start // chunk + 1) * chunk
            end = min(border, sequence.num_prefill_tokens)
            if end == start or end - start > budget:
                break
            budget -= end - start
            sequence.reuse(start)
            # A copy is yet to be made, and may fail: nobody in this step is to go on from it.
            slot.hold(sequence, start if source is slot else 0)
            source.last_used = self.slots.clock
            copy = None if source is slot else Copy(source.row, slot.row, start)
            prefills.append(Prefill(sequence, slot.row, start, end, copy))
            if prefills[-1].draws:
                for sibling in self.siblings(sequence):
                    self.running[sibling].held = ()  # written over in this step
        return prefills
