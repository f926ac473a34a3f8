"""The words of other servers: refused, with what there is for them here."""

from __future__ import annotations

import pytest

from infrs.api.anthropic.request import MessagesRequest
from infrs.api.chat.request import ChatCompletionRequest
from infrs.api.common.fields import Body, parse_body
from infrs.api.common.validation_errors import INSTEAD, NEEDLESS
from infrs.api.completions.request import CompletionRequest
from infrs.api.embeddings.request import EmbeddingRequest
from infrs.api.responses.request import ResponsesRequest
from infrs.errors import RequestError

REQUIRED: dict[type[Body], dict[str, object]] = {
    ChatCompletionRequest: {"messages": [{"role": "user", "content": "a"}]},
    CompletionRequest: {"prompt": "a"},
    ResponsesRequest: {"input": "a"},
    MessagesRequest: {"messages": [{"role": "user", "content": "a"}], "max_tokens": 5},
    EmbeddingRequest: {"input": "a"},
}


def refusal(kind: type[Body], word: str) -> str:
    with pytest.raises(RequestError) as caught:
        parse_body(kind, {"model": "m", **REQUIRED[kind], word: 1})
    assert (caught.value.param, caught.value.code) == (word, "unknown_parameter")
    return caught.value.message.removeprefix(f"{word} is not a parameter of this endpoint; ")


@pytest.mark.parametrize(
    ("kind", "word", "to_do"),
    [
        (ChatCompletionRequest, "n_predict", "use max_tokens"),
        (CompletionRequest, "num_predict", "use max_tokens"),
        (ResponsesRequest, "max_new_tokens", "use max_output_tokens"),
        (EmbeddingRequest, "num_predict", "remove it"),
        (ChatCompletionRequest, "n_probs", "use top_logprobs"),
        (CompletionRequest, "n_probs", "use logprobs"),
        (ChatCompletionRequest, "think", "use chat_template_kwargs"),
        (MessagesRequest, "think", "use thinking"),
        (ResponsesRequest, "format", "use text"),
        (ChatCompletionRequest, "num_ctx", "remove it: the context is as long as engine.max_model_len says"),
        (EmbeddingRequest, "num_ctx", "remove it"),
        (ChatCompletionRequest, "extra_body", "remove it: send its entries as fields of their own, next to `model`"),
    ],
)
def test_an_unknown_field_of_another_server_names_ours(kind: type[Body], word: str, to_do: str) -> None:
    assert refusal(kind, word) == to_do


@pytest.mark.parametrize("word", [*INSTEAD, *NEEDLESS])
def test_every_word_gets_advice_and_none_is_honoured(word: str) -> None:
    assert refusal(ChatCompletionRequest, word).startswith(("use ", "remove it: "))


def test_only_the_body_itself_is_spoken_of() -> None:
    with pytest.raises(RequestError, match=r"^stream_options\.n_predict is not .*; remove it$"):
        parse_body(
            ChatCompletionRequest,
            {"model": "m", **REQUIRED[ChatCompletionRequest], "stream_options": {"n_predict": 1}},
        )
