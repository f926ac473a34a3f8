"""Plan one step: admit, preempt, compact, decode, prefill."""

from __future__ import annotations

from dataclasses import dataclass, replace

from infrs.engine.runners.runner import Capabilities, Runner
from infrs.engine.scheduling.fairness import by_need, choose_victim, usable
from infrs.engine.scheduling.placement import Placement
from infrs.engine.scheduling.plan import Copy, Decode, Prefill, StepPlan
from infrs.engine.scheduling.snapshots import Snapshot, choose_number
from infrs.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class SchedulingPolicy:
    """The values that balance the planner's choices. They change which work a step does, and no answer.

    min_kept: tokens; fewer are computed again as fast as they are copied. patience: the steps for which a preempted
    sequence leaves a slot empty after another tenant's sequence. drafts: whether sequences propose draft tokens.
    """

    min_kept: int = 64
    patience: int = 16
    drafts: bool = True


@dataclass(frozen=True, slots=True)
class Limits:
    """What the planner has to know of the runner and the settings.

    rows: for sequences. spare_rows: only keep cached tokens. num_snapshots: of the store. capacity: tokens of a row.
    prefill_chunk: the most prompt tokens of a step.
    """

    rows: range
    spare_rows: range
    num_snapshots: int
    capacity: int
    capabilities: Capabilities
    prefill_chunk: int
    policy: SchedulingPolicy

    @classmethod
    def of(cls, runner: Runner, prefill_chunk: int, policy: SchedulingPolicy) -> Limits:
        """Return the limits of a runner."""
        return cls(
            rows=range(runner.num_rows),
            spare_rows=runner.spare_rows,
            num_snapshots=runner.num_snapshots,
            capacity=runner.capacity,
            capabilities=runner.capabilities,
            prefill_chunk=prefill_chunk,
            policy=policy,
        )

    @property
    def exact(self) -> bool:
        """Return whether a token has the same bits however its prompt is chunked."""
        return self.capabilities.chunk_invariant

    @property
    def reuse_alignment(self) -> int:
        """Return the number of tokens of which cached prefixes are a multiple."""
        return 1 if self.exact else self.prefill_chunk


class Planner:
    """Plan one step on a copy of the placement. No sequence changes."""

    def __init__(self, limits: Limits, placement: Placement) -> None:
        self._limits = limits
        self._view = placement.copy()
        self._view.clock += 1
        self._copies: list[Copy] = []
        self._preempted: list[Sequence] = []
        self._needed_snapshots: set[int] = set()  # by prefills of this step

    def plan(self) -> StepPlan | None:
        """Return the plan, or None if there is nothing to do."""
        self._admit()
        if all(sequence.paused for sequence in self._view.running):
            return None
        decoding = self._decoding()
        if self._compact([*decoding]):
            decoding = self._decoding()
        decode, prefills = self._plan_decode(decoding), self._plan_prefills()
        return StepPlan(tuple(self._copies), decode, prefills, tuple(self._preempted), self._view)

    def _free_rows(self) -> list[int]:
        taken = set(self._view.running.values())
        return [row for row in self._limits.rows if row not in taken]

    def _admit(self) -> None:
        """Give rows to waiting sequences, in the order of `WaitingSequences`."""
        view = self._view
        if not view.waiting:
            return
        free = self._free_rows()
        is_own = False
        while (sequence := view.waiting.next(view.running)) is not None:
            victim = None if free else self._choose_victim(sequence)
            choice = free
            if free and not all(other.paused for other in view.running):
                slots = (view.slots[row] for row in free)
                choice = usable(slots, sequence, view.running, view.clock, self._limits.policy.patience)
            if victim is None and not choice:
                return
            if not is_own:
                view.waiting, is_own = view.waiting.copy(), True
            if victim is not None:
                choice = free = [self._preempt(victim)]
            view.waiting.take(sequence)
            row = self._choose_row(sequence, choice)
            free.remove(row)
            view.running[sequence] = row

    def _choose_victim(self, sequence: Sequence) -> Sequence | None:
        return choose_victim(self._view.running, sequence) if self._limits.exact else None

    def _preempt(self, victim: Sequence) -> int:
        """Take a sequence from its row and return the row."""
        view = self._view
        row = view.leave(victim, caches_answer=True)
        view.waiting.put_back(victim)
        view.num_preemptions += 1
        self._preempted.append(victim)
        return row

    def _choose_row(self, sequence: Sequence, choice: list[int]) -> int:
        """Return the row of a choice that suits a sequence best, and keep a copy of what it loses."""
        slots, alignment = self._view.slots, self._limits.reuse_alignment
        row = max(choice, key=lambda row: (slots[row].common(sequence, alignment), -slots[row].last_used))
        self._view.touch(self._prefix(sequence, row)[0])  # not the row to overwrite now
        self._keep(row, slots[row].common(sequence, alignment))
        return row

    def _keep(self, row: int, num_staying: int) -> None:
        """Copy what a row caches to a spare row, before all but its first `num_staying` tokens are overwritten."""
        view, slot = self._view, self._view.slots[row]
        spare = [view.slots[other] for other in self._limits.spare_rows if view.slots[other].last_used < view.clock]
        if not spare or len(slot.cached) - num_staying < self._limits.policy.min_kept:
            return
        if any(slot.is_within(other) for other in view.slots.values() if other is not slot):
            return
        target = max(spare, key=lambda other: (other.is_within(slot), -other.last_used)).row
        view.cache_copy(row, target)
        view.touch(target)
        self._copies.append(Copy(row, target, len(slot.cached)))

    def _prefix(self, sequence: Sequence, row: int) -> tuple[int, int]:
        """Return the row that caches most of a sequence's beginning, and how much. A begun sequence has its own."""
        if sequence.tokens.num_computed or sequence.scores_prompt:
            return row, sequence.tokens.num_computed
        alignment = self._limits.reuse_alignment
        lengths = {slot.row: slot.common(sequence, alignment) for slot in self._view.slots.values()}
        source = max(lengths, key=lambda other: (lengths[other], other == row))
        return source, lengths[source]

    def _decoding(self) -> list[tuple[int, Sequence]]:
        """Return the sequences that decode in this step and their rows, in the order of the rows."""
        running = self._view.running.items()
        return sorted([(row, seq) for seq, row in running if not (seq.tokens.is_prefilling or seq.paused)])

    def _compact(self, decoding: list[tuple[int, Sequence]]) -> bool:
        """Move the last decoding rows into free ones between: an idle row costs as much as a busy one."""
        view, has_moved = self._view, False
        while decoding and decoding[-1][0] - decoding[0][0] >= len(decoding):  # rows lie between
            source, sequence = decoding.pop()
            between = [row for row in self._free_rows() if decoding[0][0] < row < source]
            if not between:
                break
            target = min(between, key=lambda row: view.slots[row].last_used)
            self._keep(target, 0)
            self._copies.append(Copy(source, target, sequence.tokens.num_computed, needed_by=sequence))
            left, joined = view.slots[source], view.slots[target]
            # What the source caches is cached twice now, so it is the first to overwrite.
            view.slots[source] = replace(left, last_used=0, left_by=joined.left_by, left_at=joined.left_at)
            view.cache_copy(source, target)
            view.running[sequence] = target
            has_moved = True
        return has_moved

    def _plan_decode(self, decoding: list[tuple[int, Sequence]]) -> Decode | None:
        if not decoding:
            return None
        limits = self._limits
        if limits.policy.drafts and limits.capabilities.verifies_drafts and len(decoding) == 1:
            [(row, sequence)] = decoding
            return Decode(row, (sequence,), (sequence.tokens.num_computed,), sequence.draft(limits.capacity))
        first, last = decoding[0][0], decoding[-1][0]
        span = range(first, max(last + 1, first + limits.capabilities.min_rows))
        rows = tuple(map(dict(decoding).get, span))
        positions = tuple(
            self._free_from(row) if sequence is None else sequence.tokens.num_computed
            for row, sequence in zip(span, rows, strict=True)
        )
        return Decode(first, rows, positions)

    def _free_from(self, row: int) -> int:
        """Return the first position behind all that a row has. It does not decode, or lies behind the last row."""
        computed = [sequence.tokens.num_computed for sequence, other in self._view.running.items() if other == row]
        cached = len(self._view.slots[row].cached) if row in self._limits.rows else 0
        return max((*computed, cached))

    def _plan_prefills(self) -> tuple[Prefill, ...]:
        prefilling = [
            sequence for sequence in self._view.running if sequence.tokens.is_prefilling and not sequence.paused
        ]
        if not prefilling:
            return ()
        # Where a chunk must not be cut, the first sequence has all of it.
        queues = by_need(prefilling) if self._limits.exact else [prefilling]
        prefills: list[Prefill] = []
        budget = self._limits.prefill_chunk
        for num_left, queue in zip(range(len(queues), 0, -1), queues, strict=True):
            planned = self._fill(-(-budget // num_left), queue)
            budget -= sum(prefill.end - prefill.start for prefill in planned)
            prefills += planned
        return tuple(prefills)

    def _fill(self, budget: int, queue: list[Sequence]) -> list[Prefill]:
        """Return the runs of the sequences of a queue, in order, for which there are `budget` tokens."""
        view, chunk = self._view, self._limits.prefill_chunk
        prefills: list[Prefill] = []
        for sequence in queue:
            if any(sequence.request is prefill.sequence.request for prefill in prefills):
                continue  # it shares the prompt that another answer of its request computes
            row, tokens = view.running[sequence], sequence.tokens
            source, start = self._prefix(sequence, row)
            border = start + budget if self._limits.exact else (start // chunk + 1) * chunk
            end = min((border, tokens.num_prefill, *(point for point in sequence.save_points if point > start)))
            if end - start > budget or (end == start and end < tokens.num_prefill):
                break
            budget -= end - start
            resumed = None if tokens.num_computed else view.slots[source].snapshot_at(start)
            prefix = None
            if source != row or resumed is not None:
                prefix = Copy(
                    source, row, start, needed_by=sequence, snapshot=None if resumed is None else resumed.number
                )
            snapshots = view.slots[source].cut(start).snapshots
            # The prefix is not copied yet, and the copy may fail. No other run of this step may depend on it.
            view.forget(row, start if source == row else 0)
            view.touch(source)
            snapshots, saved = self._plan_snapshot(sequence, end, snapshots)
            samples = end == len(tokens.prompt_ids) and not tokens.output_ids
            copies = self._copies_to_siblings(sequence, row) if samples else ()
            prefills.append(Prefill(sequence, row, start, end, samples, prefix, copies, snapshots, saved))
        return prefills

    def _plan_snapshot(
        self, sequence: Sequence, end: int, snapshots: tuple[Snapshot, ...] | None
    ) -> tuple[tuple[Snapshot, ...] | None, int | None]:
        """Return the snapshots of a row after a run that ends at `end`, and the number of a new one."""
        if snapshots is None:
            return None, None
        view = self._view
        self._needed_snapshots |= {each.number for each in snapshots}
        if end not in sequence.save_points or any(each.num_tokens == end for each in snapshots):
            return snapshots, None
        used = [(slot.last_used, each) for slot in view.slots.values() for each in slot.snapshots or ()]
        number = choose_number(self._limits.num_snapshots, used, self._needed_snapshots)
        if number is None:
            return snapshots, None
        view.forget_snapshot(number)
        self._needed_snapshots.add(number)
        return (*snapshots, Snapshot(number, end)), number

    def _copies_to_siblings(self, sequence: Sequence, row: int) -> tuple[Copy, ...]:
        """Return the copies of a prompt to the other answers of its request that need no more than its prompt."""
        view, size = self._view, len(sequence.tokens.prompt_ids)
        copies = tuple(Copy(row, view.running[other], size, needed_by=other) for other in self._siblings(sequence))
        for copy in copies:
            view.forget(copy.target)  # overwritten in this step
        return copies

    def _siblings(self, sequence: Sequence) -> list[Sequence]:
        """Return the other answers of a request that have a row and have not begun, nor score the prompt themselves."""
        return [
            other
            for other in self._view.running
            if other.request is sequence.request
            and other is not sequence
            and not (other.tokens.num_computed or other.tokens.output_ids or other.scores_prompt)
        ]
