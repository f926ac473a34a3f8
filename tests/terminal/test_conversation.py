"""The state of a chat in a terminal, and its commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infrs.terminal.conversation import COMMANDS, CommandError, Conversation, run_command


def talk() -> Conversation:
    conversation = Conversation("Be brief.")
    conversation.ask("one")
    conversation.answer("1")
    conversation.ask("two")
    conversation.answer("2")
    return conversation


def test_the_body_has_the_system_prompt_the_messages_and_the_parameters() -> None:
    conversation = talk()
    run_command(conversation, "/set temperature 0.5")
    run_command(conversation, "/set seed 7")
    body = conversation.body("m")
    assert [message["content"] for message in body["messages"]] == ["Be brief.", "one", "1", "two", "2"]
    assert (body["model"], body["temperature"], body["seed"], body["stream"]) == ("m", 0.5, 7, True)


@pytest.mark.parametrize(
    ("line", "left", "asked"),
    [
        ("/new", [], None),
        ("/undo", ["one", "1"], None),
        ("/retry", ["one", "1"], "two"),
        ("/stats", ["one", "1", "two", "2"], None),
        ("/help", ["one", "1", "two", "2"], None),
    ],
)
def test_a_command_leaves_these_messages(line: str, left: list[str], asked: str | None) -> None:
    conversation = talk()
    assert run_command(conversation, line).ask == asked
    assert [message["content"] for message in conversation.messages] == left


def test_an_unanswered_question_is_dropped() -> None:
    conversation = talk()
    conversation.ask("three")
    conversation.answer("")
    assert len(conversation.messages) == 4


def test_the_system_prompt_is_set_and_removed() -> None:
    conversation = talk()
    run_command(conversation, "/system Answer in French.")
    assert run_command(conversation, "/system").text == "System prompt: Answer in French."
    run_command(conversation, "/system none")
    assert conversation.system == ""


def test_a_parameter_without_a_value_takes_the_default() -> None:
    conversation = talk()
    assert run_command(conversation, "/set top_k 40").text == "Parameters: top_k 40"
    assert run_command(conversation, "/set top_k").text == "Parameters: the defaults of the server"


def test_a_conversation_is_saved_but_never_over_a_file(tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    run_command(talk(), f"/save {file}")
    assert json.loads(file.read_text())["messages"] == talk().messages
    with pytest.raises(CommandError, match="File exists"):
        run_command(talk(), f"/save {file}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/hlep", "there is no command /hlep; did you mean /help?"),
        ("/x", "there is no command /x; /help lists the commands"),
        ("/set tmp 1", "there is no parameter tmp; there are temperature, "),
        ("/set seed x", "seed is a number, not 'x'"),
        ("/save", "name a file: /save chat.json"),
    ],
)
def test_a_wrong_command_says_what_to_do(line: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        run_command(talk(), line)
    assert str(caught.value).startswith(message)


def test_nothing_to_undo_is_an_error() -> None:
    with pytest.raises(CommandError, match="no question yet"):
        run_command(Conversation(), "/undo")


def test_help_names_every_command() -> None:
    text = run_command(Conversation(), "/help").text
    assert all(f"/{name}" in text for name in COMMANDS)
