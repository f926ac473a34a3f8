"""The text of an answer that goes on with a text that the client has."""

from __future__ import annotations

from infrs.core import Delta
from infrs.text.token_bytes import TokenBytes


class Continuation:
    """Gives an answer the leading space back that some tokenizers strip at the start of a text.

    The engine decodes each answer by itself. Where it goes on with the prompt (a plain completion, a message to be
    continued), its first token is no start of a text, so `Hello` and ` world` must not become `Helloworld`.
    """

    def __init__(self, token_bytes: TokenBytes, previous: int | None) -> None:
        """`previous`: the token that the answer goes on from; None begins a text, to which nothing is given back."""
        self._token_bytes = token_bytes
        self._previous = previous
        self._lacking: str | None = "" if previous is None else None  # None until the first token with text has come

    def read(self, delta: Delta) -> str:
        """The text of a delta, and before the first of it what was stripped."""
        if self._lacking is None:
            token_id = next((i for i in delta.token_ids if not self._token_bytes.is_control(i)), None)
            if token_id is not None:
                stripped = self._token_bytes.of(token_id, None)
                self._lacking = self._token_bytes.of(token_id, self._previous).removesuffix(stripped).decode()
        if delta.text and self._lacking:
            text, self._lacking = self._lacking + delta.text, ""
            return text
        return delta.text
