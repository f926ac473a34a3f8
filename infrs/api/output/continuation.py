"""The text of an answer that continues the client's text."""

from __future__ import annotations

from infrs.core import Delta
from infrs.text.token_bytes import TokenBytes


class Continuation:
    """Restores the leading space that some tokenizers strip at the start of a text.

    The engine decodes each answer alone. Where the answer continues the prompt (a plain completion, a continued
    message), its first token does not start a text: `Hello` and ` world` must not become `Helloworld`.
    """

    def __init__(self, token_bytes: TokenBytes, previous: int | None) -> None:
        """`previous`: the token before the answer; None starts a text, where nothing is restored."""
        self._token_bytes = token_bytes
        self._previous = previous
        self._lacking: str | None = "" if previous is None else None  # None until the first token with text

    def feed(self, delta: Delta) -> str:
        """Return the text of a delta, the stripped space before the first of it included."""
        if self._lacking is None:
            token_id = next((i for i in delta.token_ids if not self._token_bytes.is_control(i)), None)
            if token_id is not None:
                stripped = self._token_bytes.of(token_id, None)
                self._lacking = self._token_bytes.of(token_id, self._previous).removesuffix(stripped).decode()
        if delta.text and self._lacking:
            text, self._lacking = self._lacking + delta.text, ""
            return text
        return delta.text
