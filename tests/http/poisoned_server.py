"""A fake server over the real engine. With the seed 1000 + n, the scores of a request are not finite after n tokens."""

from __future__ import annotations

import numpy as np
from fake_server import main, synthetic_model
from poison import poisoned_sample

from infrs.engine.sequence import Sequence
from infrs.models.loaded import LoadedModel

FIRST_SEED = 1000


def poisoned_model(rows: int, max_queue: int) -> LoadedModel:
    def is_sick(sequence: Sequence) -> bool:
        return sequence.request.sampling.seed == FIRST_SEED + len(sequence.tokens.output_ids)

    Sequence.sample = poisoned_sample(np.nan, is_sick)  # type: ignore[method-assign]
    return synthetic_model(rows, max_queue, 96, exact=False)


if __name__ == "__main__":
    main(poisoned_model)
