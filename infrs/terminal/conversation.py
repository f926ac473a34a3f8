"""A conversation in a terminal: its messages, its parameters, and the commands that change it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infrs.errors import InfrsError
from infrs.spelling import nearest

PARAMETERS = ("temperature", "top_p", "top_k", "min_p", "max_tokens", "seed", "presence_penalty", "frequency_penalty")


class CommandError(InfrsError):
    """A command of a conversation cannot be carried out."""

    code = "invalid_command"


@dataclass
class Conversation:
    """Messages in OpenAI's form, the system prompt apart, and parameters for each request.

    stats: whether the pace of each answer is shown.
    """

    system: str = ""
    messages: list[dict[str, str]] = field(default_factory=list)
    parameters: dict[str, float] = field(default_factory=dict)
    stats: bool = False

    def body(self, model: str) -> dict[str, Any]:
        """Return the body of the request for the next answer."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return {
            "model": model,
            "messages": [*system, *self.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.parameters,
        }

    def ask(self, text: str) -> None:
        """Add a question."""
        self.messages.append({"role": "user", "content": text})

    def answer(self, text: str) -> None:
        """Add an answer. Without text, the question is dropped too, so that roles keep alternating."""
        if text:
            self.messages.append({"role": "assistant", "content": text})
        else:
            self.messages.pop()

    def undo(self) -> str:
        """Remove the last question with its answer, and return the question. Raises CommandError if there is none."""
        while self.messages:
            message = self.messages.pop()
            if message["role"] == "user":
                return message["content"]
        raise CommandError("the conversation has no question yet")


@dataclass(frozen=True, slots=True)
class Reply:
    """What follows a command. text: for the person. ask: a question to send now. leave: the conversation ends."""

    text: str = ""
    ask: str | None = None
    leave: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its argument for the help, what it does, and the function."""

    argument: str
    help: str
    run: Callable[[Conversation, str], Reply]


def run_command(conversation: Conversation, line: str) -> Reply:
    """Carry out a line that begins with a slash. Raises CommandError."""
    name, _, argument = line[1:].partition(" ")
    command = COMMANDS.get(name)
    if command is None:
        instead = nearest(name, COMMANDS)
        hint = f"did you mean /{instead}?" if instead else "/help lists the commands"
        raise CommandError(f"there is no command /{name}; {hint}")
    return command.run(conversation, argument.strip())


def help_text(commands: Mapping[str, Command]) -> str:
    """Return one line for each command, and the keys."""
    lines = {f"/{name} {command.argument}".rstrip(): command.help for name, command in commands.items()}
    lines |= {'"""': "Begin and end a text of several lines.", "Ctrl-C": "Stop the answer.", "Ctrl-D": "Leave."}
    width = max(map(len, lines))
    return "\n".join(f"{left:<{width}}  {right}" for left, right in lines.items())


def _new(conversation: Conversation, argument: str) -> Reply:
    conversation.messages.clear()
    return Reply("A new conversation begins.")


def _system(conversation: Conversation, argument: str) -> Reply:
    if argument:
        conversation.system = "" if argument == "none" else argument
    return Reply(f"System prompt: {conversation.system or 'none'}")


def _set(conversation: Conversation, argument: str) -> Reply:
    name, _, value = argument.partition(" ")
    if name and name not in PARAMETERS:
        raise CommandError(f"there is no parameter {name}; there are {', '.join(PARAMETERS)}")
    if name and not value:
        conversation.parameters.pop(name, None)
    elif name:
        conversation.parameters[name] = _number(name, value.strip())
    values = ", ".join(f"{key} {value:g}" for key, value in conversation.parameters.items())
    return Reply(f"Parameters: {values or 'the defaults of the server'}")


def _number(name: str, text: str) -> float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise CommandError(f"{name} is a number, not {text!r}") from None


def _retry(conversation: Conversation, argument: str) -> Reply:
    return Reply(ask=conversation.undo())


def _undo(conversation: Conversation, argument: str) -> Reply:
    return Reply(f"Removed: {conversation.undo()}")


def _save(conversation: Conversation, argument: str) -> Reply:
    if not argument:
        raise CommandError("name a file: /save chat.json")
    saved = {"system": conversation.system, "messages": conversation.messages, "parameters": conversation.parameters}
    try:
        with Path(argument).expanduser().open("x", encoding="utf-8") as file:
            json.dump(saved, file, ensure_ascii=False, indent=2)
    except OSError as error:
        raise CommandError(f"{argument} cannot be written ({error.strerror}); name another file") from None
    return Reply(f"Saved to {argument}.")


def _stats(conversation: Conversation, argument: str) -> Reply:
    conversation.stats = not conversation.stats
    return Reply(f"The pace of each answer is {'shown' if conversation.stats else 'not shown'}.")


def _help(conversation: Conversation, argument: str) -> Reply:
    return Reply(help_text(COMMANDS))


def _leave(conversation: Conversation, argument: str) -> Reply:
    return Reply(leave=True)


COMMANDS = {
    "help": Command("", "Show this help.", _help),
    "new": Command("", "Begin a new conversation.", _new),
    "system": Command("[TEXT]", "Show or set the system prompt; none: remove it.", _system),
    "set": Command("[NAME VALUE]", "Set a parameter such as temperature. Without a value: use the default.", _set),
    "retry": Command("", "Answer the last question again.", _retry),
    "undo": Command("", "Remove the last question and its answer.", _undo),
    "save": Command("FILE", "Save the conversation as JSON.", _save),
    "stats": Command("", "Show the pace of each answer, or hide it.", _stats),
    "bye": Command("", "Leave.", _leave),
}
