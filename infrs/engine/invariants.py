"""What must hold between any two steps: a function that returns violations, for tests and for idle moments."""

from __future__ import annotations

from infrs.engine.engine import Engine


def violations(engine: Engine) -> list[str]:
    """Every broken rule, in words; empty if all is well."""
    found = []
    scheduler = engine.scheduler
    rows = [sequence.row for sequence in scheduler.running]
    if len(set(rows)) != len(rows):
        found.append(f"two sequences share a row: {rows}")
    if any(row is None or not 0 <= row < scheduler.num_rows for row in rows):
        found.append(f"a running sequence has no row or one outside the slab: {rows}")
    if any(sequence.row is not None for sequence in scheduler.waiting):
        found.append("a waiting sequence has a row")
    for sequence in (*scheduler.running, *scheduler.waiting):
        name = sequence.request.request_id
        num_output, num_computed = len(sequence.output_ids), sequence.num_computed_tokens
        if sequence.finish_reason is not None:
            found.append(f"{name} has finished but is still held")
        if sequence.is_prefilling and num_output:
            found.append(f"{name} has output before its prompt is computed")
        if not sequence.is_prefilling and num_computed != sequence.num_prompt_tokens + num_output - 1:
            found.append(f"{name} has {num_computed} computed tokens beside {num_output} output tokens")
        if num_computed > engine.runner.capacity:
            found.append(f"{name} is longer than its row")
    return found
