import re

import pytest
from anthropic.types import MessageCountTokensParams
from anthropic.types.message_create_params import MessageCreateParamsStreaming as MessageParameters
from api_table import API, ROOT, proof, with_tables
from openai.types import EmbeddingCreateParams
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming as ChatParameters
from openai.types.completion_create_params import CompletionCreateParamsStreaming as CompletionParameters
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming as ResponseParameters
from pydantic import BaseModel

from infrs.api.anthropic.request import CountTokensRequest, MessagesRequest
from infrs.api.chat.request import ChatCompletionRequest
from infrs.api.completions.request import CompletionRequest
from infrs.api.embeddings.request import EmbeddingRequest
from infrs.api.responses.request import ResponsesRequest
from infrs.http.routes.table import ROUTES

SENT_AS_HEADERS = {"user_profile_id", "workspace_id"}  # Anthropic's SDK takes these from its arguments

FIELDS = [
    (model, name, bool(field.get("x-refused")))
    for route in ROUTES
    for model in route.operation.bodies
    for name, field in model.model_json_schema()["properties"].items()
]


def test_the_document_is_as_the_models_are() -> None:
    text = API.read_text(encoding="utf-8")
    assert text == with_tables(text), "run: python tests/api/api_table.py"


@pytest.mark.parametrize(("model", "name", "refused"), FIELDS, ids=[f"{m.__name__}.{n}" for m, n, _ in FIELDS])
def test_each_field_has_a_test_that_is_there(model: type, name: str, refused: bool) -> None:
    path, _, test = proof(model, name, refused).partition("::")
    source = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^def {test}\(", source, re.MULTILINE)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (ChatCompletionRequest, ChatParameters),
        (CompletionRequest, CompletionParameters),
        (ResponsesRequest, ResponseParameters),
        (EmbeddingRequest, EmbeddingCreateParams),
        (MessagesRequest, MessageParameters),
        (CountTokensRequest, MessageCountTokensParams),
    ],
    ids=lambda kind: kind.__name__,
)
def test_each_field_of_the_sdks_is_honoured_or_refused_by_name(model: type[BaseModel], parameters: type) -> None:
    """A field that a later SDK can send and no table tells of is found here."""
    known = parameters.__required_keys__ | parameters.__optional_keys__  # type: ignore[attr-defined]
    assert len(known) >= 5
    assert known - SENT_AS_HEADERS <= set(model.model_json_schema()["properties"])
