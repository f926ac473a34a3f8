"""Ask for each everyday type with one client library, as its documentation shows, and print what came of it.

    python typed_answers.py BASE_URL MODEL LIBRARY [MAX_TOKENS]

Prints a JSON object: the library's version, the number of types, and the error of each type without a typed answer.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable
from typing import Any

from everyday_types import PROMPTS
from pydantic import BaseModel

KEY = "unused"

Ask = Callable[[type[BaseModel], str], Any]  # asks for a type with a prompt, and returns what the client returns


def langchain(method: str) -> Callable[[str, str, int], Ask]:
    def start(base_url: str, model: str, max_tokens: int) -> Ask:
        from langchain_openai import ChatOpenAI

        chat = ChatOpenAI(model=model, base_url=base_url, api_key=KEY, max_retries=0, max_tokens=max_tokens)
        return lambda kind, prompt: chat.with_structured_output(kind, method=method).invoke(prompt)

    return start


def pydantic_ai(output: str) -> Callable[[str, str, int], Ask]:
    def start(base_url: str, model: str, max_tokens: int) -> Ask:
        import pydantic_ai
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        chat = OpenAIChatModel(model, provider=OpenAIProvider(base_url=base_url, api_key=KEY))
        wrap = getattr(pydantic_ai, output)

        def ask(kind: type[BaseModel], prompt: str) -> Any:
            agent = pydantic_ai.Agent(
                chat, output_type=wrap(kind), retries=0, model_settings={"max_tokens": max_tokens}
            )
            return agent.run_sync(prompt).output

        return ask

    return start


def openai_agents(api: str) -> Callable[[str, str, int], Ask]:
    def start(base_url: str, model: str, max_tokens: int) -> Ask:
        import agents
        from openai import AsyncOpenAI

        agents.set_tracing_disabled(True)
        chat = getattr(agents, api)(model, AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=0))
        settings = agents.ModelSettings(max_tokens=max_tokens)

        def ask(kind: type[BaseModel], prompt: str) -> Any:
            typed = agents.AgentOutputSchema(kind, strict_json_schema=False)
            agent = agents.Agent("typed", output_type=typed, model=chat, model_settings=settings)
            return agents.Runner.run_sync(agent, prompt, max_turns=1).final_output

        return ask

    return start


def instructor(mode: str) -> Callable[[str, str, int], Ask]:
    def start(base_url: str, model: str, max_tokens: int) -> Ask:
        import instructor
        from openai import OpenAI

        client = instructor.from_openai(OpenAI(base_url=base_url, api_key=KEY), mode=instructor.Mode[mode])
        return lambda kind, prompt: client.chat.completions.create(
            model=model,
            response_model=kind,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=max_tokens,
            max_retries=0,
        )

    return start


def litellm(base_url: str, model: str, max_tokens: int) -> Ask:
    import litellm

    def ask(kind: type[BaseModel], prompt: str) -> Any:
        done = litellm.completion(
            model=f"openai/{model}",
            api_base=base_url,
            api_key=KEY,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=max_tokens,
            response_format=kind,
        )
        return kind.model_validate_json(done.choices[0].message.content)

    return ask


# By name: the package that has its version, and what starts the client.
LIBRARIES: dict[str, tuple[str, Callable[[str, str, int], Ask]]] = {
    "langchain-json": ("langchain-openai", langchain("json_schema")),
    "langchain-tools": ("langchain-openai", langchain("function_calling")),
    "pydantic-ai-native": ("pydantic-ai-slim", pydantic_ai("NativeOutput")),
    "pydantic-ai-tools": ("pydantic-ai-slim", pydantic_ai("ToolOutput")),
    "openai-agents-chat": ("openai-agents", openai_agents("OpenAIChatCompletionsModel")),
    "openai-agents-responses": ("openai-agents", openai_agents("OpenAIResponsesModel")),
    "instructor-tools": ("instructor", instructor("TOOLS")),
    "instructor-json": ("instructor", instructor("JSON_SCHEMA")),
    "litellm": ("litellm", litellm),
}


def main(base_url: str, model: str, library: str, max_tokens: str = "2000") -> None:
    """Ask for all types."""
    package, start = LIBRARIES[library]
    ask = start(base_url, model, int(max_tokens))
    failed: dict[str, str] = {}
    for kind, prompt in PROMPTS.items():
        try:
            answer = ask(kind, prompt)
            if not isinstance(answer, kind):
                failed[kind.__name__] = f"the answer is a {type(answer).__name__}"
        except Exception as error:  # of any library
            failed[kind.__name__] = f"{type(error).__name__}: {error}"[:500]
    version = importlib.metadata.version(package)
    print(json.dumps({"version": version, "asked": len(PROMPTS), "failed": failed}))


if __name__ == "__main__":
    main(*sys.argv[1:])
