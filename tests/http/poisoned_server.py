"""A fake server over the real engine. With the seed 1000 + n, the scores of a request are not finite after n tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
from fake_server import main, synthetic_model

from infrs.engine.scheduling.plan import StepResults
from infrs.models.loaded import LoadedModel

FIRST_SEED = 1000


def poisoned_model(rows: int, max_queue: int) -> LoadedModel:
    model = synthetic_model(rows, max_queue, 96, exact=False)
    engine: Any = model.engine
    sample = engine._engine._sample

    def poisoned_sample(sequence: Any, row: Any, results: StepResults, best: int | None = None) -> None:
        if sequence.request.sampling.seed == FIRST_SEED + len(sequence.tokens.output_ids):
            row[:] = np.nan
            best = None if best is None else int(row.argmax())
        sample(sequence, row, results, best)

    engine._engine._sample = poisoned_sample
    return model


if __name__ == "__main__":
    main(poisoned_model)
