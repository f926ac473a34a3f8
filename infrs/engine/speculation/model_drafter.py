"""Draft with a draft model what the lookup does not find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from infrs.engine.speculation.draft_model import DraftModel
from infrs.engine.speculation.draft_rows import Reader
from infrs.engine.speculation.drafter import Ahead, Draft, Text
from infrs.engine.speculation.lookup import PromptLookup
from infrs.engine.speculation.pace import Acceptance

_REFRESH = 64  # after so many drafts a step has none, which measures what it costs


class ModelDrafter:
    """Drafts for one sequence of a tenant. The lookup's drafts cost nothing, so they come first. See `Drafter`."""

    def __init__(self, model: DraftModel, tenant: str) -> None:
        self._model, self._reader = model, Reader(tenant, Acceptance(model.acceptance))
        self._lookup = PromptLookup()
        self._num_plain = 0  # steps without a draft
        self._num_drafts = 0

    def propose(self, text: Text, limit: int) -> Draft:
        """See Drafter.propose."""
        draft = self._lookup.propose(text, limit)
        if draft.tokens or self._num_drafts == _REFRESH:
            return draft
        reading = self._model.plan(text, limit, self._reader, self._num_plain)
        return replace(draft, reading=reading)

    def complete(self, draft: Draft, text: Text, ahead: Callable[[], Ahead]) -> Draft:
        """See Drafter.complete."""
        if draft.reading is None:
            return draft
        drafted = self._model.draft(draft.reading, text, self._reader, ahead)
        return replace(
            draft,
            tokens=tuple(token.token_id for token in drafted),
            probabilities=tuple(token.probability for token in drafted),
        )

    def record(self, draft: Draft, num_accepted: int) -> None:
        """See Drafter.record."""
        if draft.reading is None:
            self._lookup.record(draft, num_accepted)
        else:
            self._lookup.record(replace(draft, tokens=()), 0)
        self._reader.acceptance.note(draft.probabilities, num_accepted if draft.probabilities else 0)
        self._num_plain += not draft.tokens
        self._num_drafts = self._num_drafts + 1 if draft.probabilities else 0
