"""The server's log-probabilities equal those of the source model in eager PyTorch, token by token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from infrs_export.sources.demo import find_gguf
from live_server import Server
from transformers import AutoModelForCausalLM

from infrs.bundle.manifest import Dtype

pytestmark = pytest.mark.slow

MODEL = "demo/SmolLM2-135M-Instruct"
TOLERANCE = 1e-3  # nats; the graph's own scores differ from PyTorch's by less than a tenth of it
TEXT = "The capital of France is Paris. In 1789, »liberté« was on everyone's lips: 日本語 🎉\n\n    return x + 1"
MESSAGES = [{"role": "user", "content": "Why is the sky blue? Answer in one sentence."}]
DemoServer = Callable[[Dtype], Server]


@pytest.fixture(scope="module")
def score() -> Callable[[list[int]], torch.Tensor]:
    """Log-probabilities over the vocabulary after each of some token ids: (len(ids), vocab), float32."""
    torch.set_num_threads(1)
    path = find_gguf(lambda: None)
    options: Any = {"gguf_file": path.name, "dtype": torch.float32, "attn_implementation": "eager"}
    model = AutoModelForCausalLM.from_pretrained(path.parent, **options).eval()

    def of(ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            return torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), dim=-1)

    return of


@pytest.fixture
def post(demo_server: DemoServer) -> Callable[..., Any]:
    def send(path: str, **fields: Any) -> Any:
        server = demo_server("float32")
        return server.client().post(server.url + path, cast_to=object, body={"model": MODEL} | fields)

    return send


def test_scores_of_a_prompt(post: Callable[..., Any], score: Callable[[list[int]], torch.Tensor]) -> None:
    """What evaluation harnesses read: `echo` with `logprobs` and no answer."""
    ids = post("/tokenize", prompt=TEXT)["tokens"]
    assert len(ids) > 30
    logprobs = post("/v1/completions", prompt=ids, echo=True, max_tokens=0, logprobs=5)["choices"][0]["logprobs"]
    expected = score(ids)
    assert logprobs["token_logprobs"][0] is None
    actual = torch.tensor(logprobs["token_logprobs"][1:])
    torch.testing.assert_close(actual, expected[range(len(ids) - 1), ids[1:]], rtol=0, atol=TOLERANCE)
    for top, row in zip(logprobs["top_logprobs"][1:], expected, strict=False):
        best = torch.tensor(sorted(top.values(), reverse=True)[:5])
        torch.testing.assert_close(best, row.topk(5).values, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("stream", [False, True])
def test_scores_of_an_answer(
    demo_server: DemoServer, post: Callable[..., Any], score: Callable[[list[int]], torch.Tensor], stream: bool
) -> None:
    """Of a greedy chat, the best five at each place."""
    fields: Any = {"temperature": 0, "max_tokens": 24, "logprobs": True, "top_logprobs": 5}
    create = demo_server("float32").client().chat.completions.create
    if stream:
        chunks = list(create(model=MODEL, messages=MESSAGES, stream=True, **fields))
        entries = [entry for c in chunks for entry in (c.choices[0].logprobs.content if c.choices[0].logprobs else [])]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    else:
        choice = create(model=MODEL, messages=MESSAGES, **fields).choices[0]
        entries, text = choice.logprobs.content, choice.message.content
    ids = post("/tokenize", messages=MESSAGES)["tokens"]
    answer: list[int] = []
    for entry in entries:
        best = score(ids + answer)[-1].topk(5)
        answer.append(int(best.indices[0]))
        top = torch.tensor([alternative.logprob for alternative in entry.top_logprobs])
        torch.testing.assert_close(top, best.values, rtol=0, atol=TOLERANCE)
        assert abs(entry.logprob - float(best.values[0])) < TOLERANCE
    assert len(answer) > 10
    assert post("/detokenize", tokens=answer)["prompt"] == text
