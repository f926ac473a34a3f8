import re

import pytest
from api_table import API, ROOT, proof, with_tables

from infrs.server.routes import ROUTES

FIELDS = [
    (model, name, bool(field.get("x-refused")))
    for route in ROUTES
    for model in route.operation.bodies
    for name, field in model.model_json_schema()["properties"].items()
]


def test_the_document_is_as_the_models_are() -> None:
    text = API.read_text(encoding="utf-8")
    assert text == with_tables(text), "run: python tests/openai/api_table.py"


@pytest.mark.parametrize(("model", "name", "refused"), FIELDS, ids=[f"{m.__name__}.{n}" for m, n, _ in FIELDS])
def test_each_field_has_a_test_that_is_there(model: type, name: str, refused: bool) -> None:
    path, _, test = proof(model, name, refused).partition("::")
    source = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^def {test}\(", source, re.MULTILINE)
