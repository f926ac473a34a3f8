import pytest
from anthropic.types import MessageCountTokensParams
from anthropic.types.message_create_params import MessageCreateParamsStreaming as MessageParameters
from api_table import API, with_tables
from openai.types import BatchCreateParams, EmbeddingCreateParams
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming as ChatParameters
from openai.types.completion_create_params import CompletionCreateParamsStreaming as CompletionParameters
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming as ResponseParameters
from pydantic import BaseModel, ValidationError

from infrs.api.anthropic.request import CountTokensRequest, MessagesRequest
from infrs.api.batches.request import BatchCreateRequest
from infrs.api.chat.request import ChatCompletionRequest
from infrs.api.completions.request import CompletionRequest
from infrs.api.embeddings.request import EmbeddingRequest
from infrs.api.responses.request import ResponsesRequest
from infrs.http.routes.table import ROUTES

SENT_AS_HEADERS = {"user_profile_id", "workspace_id"}  # Anthropic's SDK takes these from its arguments

REFUSED = [
    (model, name)
    for route in ROUTES
    for model in route.operation.bodies
    for name, field in model.model_json_schema()["properties"].items()
    if field.get("x-refused")
]


def test_the_document_is_as_the_models_are() -> None:
    text = API.read_text(encoding="utf-8")
    assert text == with_tables(text), "run: python tests/api/api_table.py"


@pytest.mark.parametrize(("model", "name"), REFUSED, ids=[f"{m.__name__}.{n}" for m, n in REFUSED])
def test_a_field_with_neutral_values_only_refuses_others_by_name(model: type[BaseModel], name: str) -> None:
    with pytest.raises(ValidationError) as raised:
        model.model_validate({name: {"no": "neutral value"}})
    assert name in {error["loc"][0] for error in raised.value.errors() if error["loc"]}


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (ChatCompletionRequest, ChatParameters),
        (CompletionRequest, CompletionParameters),
        (ResponsesRequest, ResponseParameters),
        (EmbeddingRequest, EmbeddingCreateParams),
        (BatchCreateRequest, BatchCreateParams),
        (MessagesRequest, MessageParameters),
        (CountTokensRequest, MessageCountTokensParams),
    ],
    ids=lambda kind: kind.__name__,
)
def test_each_field_of_the_sdks_is_honoured_or_refused_by_name(model: type[BaseModel], parameters: type) -> None:
    """Finds the fields of a later SDK that no request model declares."""
    known = parameters.__required_keys__ | parameters.__optional_keys__  # type: ignore[attr-defined]
    assert len(known) >= 5
    assert known - SENT_AS_HEADERS <= set(model.model_json_schema()["properties"])
