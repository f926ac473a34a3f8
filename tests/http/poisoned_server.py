"""A fake server over the real engine. With the seed 1000 + n, the scores of a request are not finite after n tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from fake_server import main, synthetic_model

from infrs.core import Delta
from infrs.models.loaded import LoadedModel

FIRST_SEED = 1000


def poisoned_model(rows: int, max_queue: int) -> LoadedModel:
    model = synthetic_model(rows, max_queue, 96, exact=False)
    engine: Any = model.engine
    commit = engine._engine._commit

    def poisoned_commit(sequence: Any, row: Any, best: int | None = None) -> Iterator[Delta]:
        if sequence.request.sampling.seed == FIRST_SEED + len(sequence.output_ids):
            row[:] = np.nan
            best = None if best is None else int(row.argmax())
        return commit(sequence, row, best)  # type: ignore[no-any-return]

    engine._engine._commit = poisoned_commit
    return model


if __name__ == "__main__":
    main(poisoned_model)
