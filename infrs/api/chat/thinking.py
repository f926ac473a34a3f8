"""The fields that control reasoning: OpenAI's `reasoning_effort`, and the switches of other servers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from infrs.api.common.fields import AnyHint, Body, Flag, Unset

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
_Budget = Annotated[int, Field(ge=-1, lt=1 << 31)]


class ReasoningSwitch(Body):
    """`reasoning`, as OpenRouter takes it. The answer shows all reasoning."""

    effort: Effort | None = None
    enabled: bool | None = None
    max_tokens: _Budget | None = None
    exclude: Flag | None = None
    summary: AnyHint = None


class ThinkingSwitch(Body):
    """`thinking`, as Z.ai, DeepSeek and Moonshot take it."""

    type: Literal["enabled", "disabled", "adaptive", "auto"]
    budget_tokens: _Budget | None = None


class ThinkingFields(Body):
    """The fields that control reasoning. Contradictions: off wins, then the field that is first here."""

    reasoning_effort: Annotated[Effort | None, Unset("", [], "auto", "default")] = None
    enable_thinking: bool | None = None  # DashScope and SiliconFlow
    thinking_budget: _Budget | None = None
    thinking: ThinkingSwitch | None = None
    reasoning: ReasoningSwitch | None = None
    # How an answer shows reasoning. Here it is always separate from the text.
    reasoning_format: AnyHint = None
    reasoning_split: AnyHint = None
    reasoning_summary: AnyHint = None

    @property
    def effort(self) -> Effort | None:
        """The effort; `none` if a switch turns reasoning off."""
        if self.thinks is False:
            return "none"
        return self.reasoning_effort or (self.reasoning.effort if self.reasoning else None)

    @property
    def thinks(self) -> bool | None:
        """Whether the model shall write reasoning; None if no switch is given."""
        kind = self.thinking.type if self.thinking else "auto"
        switches = {
            self.enable_thinking,
            None if kind == "auto" else kind != "disabled",
            self.reasoning.enabled if self.reasoning else None,
        }
        return False if False in switches else True if True in switches else None

    @property
    def budget(self) -> int | None:
        """Most tokens of the reasoning."""
        budgets = (
            self.thinking_budget,
            self.thinking.budget_tokens if self.thinking else None,
            self.reasoning.max_tokens if self.reasoning else None,
        )
        return next((budget for budget in budgets if budget is not None), None)

    @property
    def effort_field(self) -> str:
        """The name of the field that gives the effort or turns reasoning on or off."""
        names = ("reasoning_effort", "enable_thinking", "thinking", "reasoning")
        return next((name for name in names if getattr(self, name) is not None), names[0])
