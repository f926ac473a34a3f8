"""The sampling parameters of a manifest are the defaults of requests, and every answer shows them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fake_process import MODEL, FakeServer, fake_server
from fake_server import MANIFEST
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from infrs.api.common.fields import GenerationFields
from infrs.bundle.manifest import Manifest, Sampling
from infrs.config.settings import ModelSettings
from infrs.core import SamplingParams
from infrs.models.load import default_sampling, fingerprint

SAYS = {"temperature": 0.6, "top_p": 0.9, "top_k": 7, "min_p": 0.05, "typical_p": 0.95, "repetition_penalty": 1.25}
QUIET = {"access_log": False}

samplings = st.builds(
    Sampling,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    top_k=st.none() | st.integers(0, 2**31 - 1),
    min_p=st.none() | st.floats(0, 1),
    typical_p=st.none() | st.floats(0, 1, exclude_min=True),
    repetition_penalty=st.none() | st.floats(0.01, 100),
)


@given(sampling=samplings)
def test_a_manifest_keeps_its_sampling(sampling: Sampling) -> None:
    written = MANIFEST.model_copy(update={"sampling": sampling}).model_dump_json()
    assert Manifest.model_validate_json(written).sampling == sampling


def test_a_manifest_without_sampling_gives_the_default_parameters() -> None:
    written = json.loads(MANIFEST.model_dump_json())
    del written["sampling"]
    manifest = Manifest.model_validate_json(json.dumps(written))
    assert default_sampling(manifest, ModelSettings()) == SamplingParams()


@pytest.mark.parametrize(
    "says", [{"temperature": 2.1}, {"top_p": -0.1}, {"top_k": 1.5}, {"top_k": -1}, {"min_p": "0"}, {"temp": 1}]
)
def test_a_manifest_with_invalid_sampling_is_refused(says: dict[str, object]) -> None:
    written = json.loads(MANIFEST.model_dump_json()) | {"sampling": says}
    with pytest.raises(ValidationError):
        Manifest.model_validate_json(json.dumps(written))


@pytest.mark.parametrize("name", Sampling.model_fields)
def test_the_bounds_of_a_manifest_are_those_of_a_request(name: str) -> None:
    ours, requests = (kind.model_json_schema()["properties"][name]["anyOf"] for kind in (Sampling, GenerationFields))
    if name == "top_k":  # -1, which a request may say, is the same as 0
        requests[0]["minimum"] = 0
    assert ours == requests


def test_generation_config_none_ignores_the_sampling_of_a_manifest() -> None:
    manifest = MANIFEST.model_copy(update={"sampling": Sampling(**SAYS)})
    assert default_sampling(manifest, ModelSettings()) == SamplingParams(**SAYS)
    assert default_sampling(manifest, ModelSettings(generation_config="none")) == SamplingParams()


def test_the_fingerprint_depends_on_the_default_sampling() -> None:
    kinds = [SamplingParams(), SamplingParams(temperature=0.6), SamplingParams(top_k=6)]
    assert len({fingerprint(MANIFEST, {}, kind) for kind in kinds}) == 3


@pytest.fixture(scope="module")
def own() -> Iterator[FakeServer]:
    with fake_server(sampling=SAYS, server=QUIET) as running:
        yield running


def seen(text: str) -> dict[str, float]:
    """Return the parameters that reached the fake engine, of those that a manifest may set."""
    fields = json.loads(text)
    values = [fields[3], fields[4], fields[5], fields[6], fields[8][0], fields[8][3]]
    return dict(zip(SAYS, values, strict=True))


def of_chat(server: FakeServer, **fields: object) -> dict[str, float]:
    return seen(server.chat("seen", max_tokens=1, **fields).json["choices"][0]["message"]["content"])


def of_completion(server: FakeServer, **fields: object) -> dict[str, float]:
    return seen(server.complete("seen", max_tokens=1, **fields).json["choices"][0]["text"])


def of_message(server: FakeServer, **fields: object) -> dict[str, float]:
    messages = [{"role": "user", "content": "seen"}]
    answer = server.post("/v1/messages", model=MODEL, max_tokens=1, messages=messages, **fields)
    return seen(answer.json["content"][0]["text"])


def of_response(server: FakeServer, **fields: object) -> dict[str, float]:
    answer = server.post("/v1/responses", model=MODEL, input="seen", max_output_tokens=1, **fields).json
    values = seen(answer["output"][0]["content"][0]["text"])
    assert (answer["temperature"], answer["top_p"]) == (values["temperature"], values["top_p"])
    return values


@pytest.mark.parametrize("ask", [of_chat, of_completion, of_message, of_response])
def test_every_route_takes_omitted_parameters_from_the_manifest(own: FakeServer, ask: Any) -> None:
    assert ask(own) == SAYS
    assert ask(own, temperature=0) == SAYS | {"temperature": 0}
    assert ask(own, temperature=1, top_p=1) == SAYS | {"temperature": 1, "top_p": 1}


def test_every_event_of_a_response_shows_the_sampling(own: FakeServer) -> None:
    answer = own.post("/v1/responses", model=MODEL, input="hi", max_output_tokens=2, top_p=0.5, stream=True)
    frames = [json.loads(line[6:]) for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    bodies = [frame["response"] for frame in frames if "response" in frame]
    assert [(body["temperature"], body["top_p"]) for body in bodies] == [(0.6, 0.5)] * 3


def test_props_show_the_default_sampling(own: FakeServer, server: FakeServer) -> None:
    props = own.get("/props").json
    assert props["default_sampling_params"] == SAYS
    assert props["settings"]["model"]["generation_config"] == "auto"
    neutral = dict(zip(SAYS, [1, 1, 0, 0, 1, 1], strict=True))
    assert server.get("/props").json["default_sampling_params"] == neutral


def test_a_server_with_generation_config_none_uses_the_defaults_of_openai(server: FakeServer) -> None:
    with fake_server(sampling=SAYS, model={"generation_config": "none"}, server=QUIET) as without:
        assert of_chat(without) == of_chat(server)
        assert of_response(without) == of_response(server)


def test_a_greedy_model_is_greedy_by_default() -> None:
    with fake_server(engine="synthetic", sampling={"top_k": 1}, server=QUIET) as greedy:

        def text(**fields: object) -> str:
            answer = greedy.complete("abc", max_tokens=12, ignore_eos=True, **fields).json
            return str(answer["choices"][0]["text"])

        assert text(seed=1) == text(seed=2) == text(temperature=0)
        assert text(seed=1, temperature=2, top_k=0) != text(seed=1)
        for filters in ({}, {"min_p": 0.1}, {"top_k": 20}):
            assert text(seed=1, temperature=2, **{"top_k": 0, **filters}, top_p=0) == text(temperature=0)
