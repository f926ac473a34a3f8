"""LangChain, Pydantic AI and llm work with infrs by a change of the base URL alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llm
import pytest
from fake_process import MODEL, FakeServer, fake_server
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from llm.default_plugins.openai_models import Chat
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'


class Place(BaseModel):
    city: str
    days: int


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    script = Path(__file__).parent / "scripted_server.py"
    with fake_server(script=script, server={"access_log": False}) as running:
        yield url(running)


def url(server: FakeServer) -> str:
    return f"http://127.0.0.1:{server.port}/v1"


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


class TestLangChain:
    @pytest.fixture
    def chat(self, base_url: str) -> ChatOpenAI:
        return ChatOpenAI(base_url=base_url, api_key="unused", model=MODEL, max_retries=0, timeout=30)

    def test_text_is_answered(self, chat: ChatOpenAI) -> None:
        answer = chat.invoke("say:Hello, Köln.")
        assert answer.content == "Hello, Köln."
        assert answer.usage_metadata is not None
        assert answer.usage_metadata["output_tokens"] == 4
        assert answer.response_metadata["finish_reason"] == "stop"

    def test_a_stream_is_read(self, chat: ChatOpenAI) -> None:
        chunks = list(chat.stream("say:Hello, Köln."))
        assert "".join(str(chunk.content) for chunk in chunks) == "Hello, Köln."
        assert len(chunks) > 4

    def test_several_concurrent_requests_are_answered(self, chat: ChatOpenAI) -> None:
        assert [a.content for a in chat.batch([f"say:number {i}" for i in range(5)])] == [
            f"number {i}" for i in range(5)
        ]

    def test_results_of_tools_get_an_answer(self, chat: ChatOpenAI) -> None:
        with_tools = chat.bind_tools([weather])
        asked = HumanMessage(f"say:{CALL}")
        first = with_tools.invoke([asked])
        assert [(call["name"], call["args"]) for call in first.tool_calls] == [("weather", {"city": "Köln"})]
        pieces: Any = AIMessageChunk("")
        for chunk in with_tools.stream([asked]):
            pieces += chunk
        assert [(call["name"], call["args"]) for call in pieces.tool_calls] == [("weather", {"city": "Köln"})]
        result = weather.invoke(first.tool_calls[0])
        assert isinstance(result, ToolMessage)
        last = with_tools.invoke([asked, first, result, HumanMessage("say:It is sunny.")])
        assert (last.content, last.tool_calls) == ("It is sunny.", [])

    def test_a_tool_that_must_be_called_is_called(self, chat: ChatOpenAI) -> None:
        answer = chat.bind_tools([weather], tool_choice="weather").invoke("say:no")
        assert [call["name"] for call in answer.tool_calls] == ["weather"]

    @pytest.mark.parametrize("method", ["json_schema", "function_calling"])
    def test_structured_output_is_typed(self, chat: ChatOpenAI, method: Any) -> None:
        place = chat.with_structured_output(Place, method=method).invoke("say:nonsense")
        assert isinstance(place, Place)

    def test_the_responses_api_is_answered(self, base_url: str) -> None:
        chat = ChatOpenAI(base_url=base_url, api_key="unused", model=MODEL, use_responses_api=True, timeout=30)
        assert chat.invoke("say:Hello.").text == "Hello."
        assert "".join(chunk.text for chunk in chat.stream("say:Hello.")) == "Hello."


class TestPydanticAI:
    @pytest.fixture(params=[OpenAIChatModel, OpenAIResponsesModel])
    def model(self, base_url: str, request: pytest.FixtureRequest) -> Any:
        return request.param(MODEL, provider=OpenAIProvider(base_url=base_url, api_key="unused"))

    def test_text_is_answered(self, model: Any) -> None:
        assert Agent(model).run_sync("say:Hello.").output == "Hello."

    def test_structured_output_is_typed(self, model: Any) -> None:
        assert isinstance(Agent(model, output_type=Place).run_sync("say:nonsense").output, Place)

    def test_a_tool_is_called(self, model: Any) -> None:
        seen: list[str] = []
        agent = Agent(model)

        @agent.tool_plain(strict=False)  # else the grammar, not the script, writes the answer
        def weather(city: str) -> str:
            """The weather of a city."""
            seen.append(city)
            return "say:It is sunny."

        answer = agent.run_sync(f"say:{CALL}").output
        assert answer.startswith("It is sunny.")  # and continues with the text after the result in the prompt
        assert seen == ["Köln"]


class TestLLM:
    @pytest.fixture
    def model(self, base_url: str) -> Any:
        return Chat("infrs", model_name=MODEL, api_base=base_url, supports_tools=True, supports_schema=True)

    @pytest.mark.parametrize("stream", [False, True])
    def test_text_is_answered(self, model: Any, stream: bool) -> None:
        response = model.prompt("say:Hello, Köln.", stream=stream, key="unused", temperature=0.5, max_tokens=20)
        assert response.text() == "Hello, Köln."
        assert response.usage().output == 4

    def test_an_answer_follows_its_schema(self, model: Any) -> None:
        Place.model_validate_json(model.prompt("say:nonsense", schema=Place, key="unused").text())

    def test_a_tool_is_called(self, model: Any) -> None:
        def weather(city: str) -> str:
            """The weather of a city."""
            return f"sunny in {city}"

        response = model.prompt(f"say:{CALL}", tools=[llm.Tool.function(weather)], key="unused")
        assert [(call.name, call.arguments) for call in response.tool_calls()] == [("weather", {"city": "Köln"})]
