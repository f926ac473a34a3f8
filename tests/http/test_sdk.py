"""The openai SDK works with the server without changes."""

from collections.abc import Iterator

import openai
import pytest
from fake_process import MODEL, FakeServer, fake_server
from openai import OpenAI

HELLO = [{"role": "user", "content": "please stop"}]


@pytest.fixture
def client(server: FakeServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="unused", max_retries=0) as sdk:
        yield sdk


def test_a_chat_returns_text_and_usage(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=9, temperature=0, seed=1, stop=["x"]
    )
    assert answer.choices[0].message.content == "w0 w1 w2 w3 "
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 4
    again = client.chat.completions.create(
        model=MODEL, messages=[*HELLO, answer.choices[0].message, *HELLO], max_tokens=1
    )
    assert again.choices[0].finish_reason == "length"


def test_every_sampling_field_is_accepted(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        max_completion_tokens=4,
        n=2,
        logprobs=True,
        top_logprobs=3,
        presence_penalty=0.5,
        frequency_penalty=0.5,
        logit_bias={"5": 1},
        metadata={"a": "b"},
        service_tier="auto",
        user="u",
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.system_fingerprint
    assert answer.service_tier == "default"
    assert answer.choices[1].logprobs is not None
    content = answer.choices[1].logprobs.content
    assert content is not None
    assert len(content[0].top_logprobs) == 3
    assert b"".join(bytes(entry.bytes or []) for entry in content).decode() == answer.choices[1].message.content


def test_a_stream_ends_with_its_usage(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True})
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "w0 w1 w2 w3 "
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4


def test_the_stream_helper_returns_the_whole_text(client: OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=HELLO) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "w0 w1 w2 w3 "


def test_a_completion_returns_text(client: OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt=["please stop", "stop"], max_tokens=9, n=2, logprobs=2, echo=True
    )
    assert [choice.text for choice in answer.choices][::2] == ["please stopw0 w1 w2 w3 ", "stopw0 w1 w2 w3 "]
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert "".join(logprobs.tokens) == answer.choices[0].text
    stream = client.completions.create(model=MODEL, prompt="please stop", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "w0 w1 w2 w3 "


def test_the_models_are_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def test_the_sdk_raises_the_error_of_each_status(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="other", messages=HELLO)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as unsupported:
        client.chat.completions.create(model=MODEL, messages=HELLO, n=129)
    assert (unsupported.value.code, unsupported.value.param) == ("integer_above_max_value", "n")
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "boom"}])
    with pytest.raises(openai.APIError, match="see its log"):
        list(client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "boom"}], stream=True))


def test_a_full_queue_raises_a_rate_limit_error() -> None:
    with fake_server(rows=1, max_queue=0, interval=0.05) as busy:
        sdk = OpenAI(base_url=f"http://127.0.0.1:{busy.port}/v1", api_key="unused", max_retries=0)
        first = sdk.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        with pytest.raises(openai.RateLimitError):
            sdk.chat.completions.create(model=MODEL, messages=HELLO)
        first.close()
