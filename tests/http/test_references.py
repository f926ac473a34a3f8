"""`item_reference`: items of stored responses, named by their ids."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fake_process import MODEL, FakeServer, fake_server
from test_responses_store import KEYS, ask

from infrs.api.responses.history import open_conversation, resolve
from infrs.api.responses.items import ItemReference, MessageItem, parse_items
from infrs.api.responses.request import parse_responses_request
from infrs.api.responses.store import ResponseStore, StoredResponse
from infrs.errors import RequestError

ECHO = {"role": "user", "content": "echo"}  # which the fake engine answers with its prompt


def stored(**own: bytes) -> StoredResponse:
    return StoredResponse(b"", own=own)


def test_a_conversation_is_opened_without_a_look_at_its_stored_text() -> None:
    """The event loop opens it; a text thread parses megabytes of stored items."""
    store, unparsed = ResponseStore(8, 1 << 30), b"[" * (1 << 20)
    store.put("", "resp_1", StoredResponse(b"", (("msg_1", unparsed),), (("msg_2", unparsed),), {"msg_2": unparsed}))
    body = {"model": MODEL, "previous_response_id": "resp_1", "input": [{"type": "item_reference", "id": "msg_2"}]}
    asked = open_conversation(parse_responses_request(body), store, "", 1 << 30)
    assert asked.num_earlier_bytes > 2 << 20
    with pytest.raises(json.JSONDecodeError):
        asked.read()


def test_a_continued_response_shares_the_items_of_the_one_before() -> None:
    store = ResponseStore(8, 1 << 30)
    store.put("", "resp_1", StoredResponse(b"", (), (("msg_1", b'{"id":"msg_1","role":"user","content":"hi"}'),)))
    body = {"model": MODEL, "previous_response_id": "resp_1", "input": "bye"}
    keep = open_conversation(parse_responses_request(body), store, "", 1 << 30).read().keeper("resp_2")
    assert keep is not None
    keep({"output": []})
    first, second = store.get("", "resp_1"), store.get("", "resp_2")
    assert first
    assert second
    assert second.items[0] is first.output[0]
    assert [json.loads(text)["role"] for _, text in second.items] == ["user", "user"]


def answer(server: FakeServer, items: list[Any], **fields: Any) -> Any:
    asked = {"model": MODEL, "max_output_tokens": 1, "input": items, **fields}
    return server.post("/v1/responses", **asked).json


def text(response: Any) -> str:
    return str(response["output"][0]["content"][0]["text"])


def test_a_reference_stands_for_a_message_of_an_earlier_answer(server: FakeServer) -> None:
    first = answer(server, [{"role": "user", "content": "please"}])
    named = {"type": "item_reference", "id": first["output"][0]["id"]}
    again = answer(server, [named, ECHO])
    assert text(again) == f"assistant: {text(first)}\nuser: echo"
    assert text(answer(server, [{"id": named["id"]}, ECHO])) == text(again)  # `type` may be left out
    items = server.get(f"/v1/responses/{again['id']}/input_items?order=asc").json["data"]
    assert [item["type"] for item in items] == ["message", "message"]
    assert items[0]["id"] == named["id"]
    asked = {"type": "item_reference", "id": items[1]["id"]}
    assert text(answer(server, [asked])) == "user: echo"  # what the client sent can be named too


@pytest.mark.parametrize("twice", [False, True])
def test_items_of_the_conversation_are_not_repeated(server: FakeServer, twice: bool) -> None:
    first = answer(server, [{"role": "user", "content": "please"}])
    named = {"type": "item_reference", "id": first["output"][0]["id"]}
    again = answer(server, [named, *[named] * twice, ECHO], previous_response_id=first["id"])
    assert text(again) == f"user: please\nassistant: {text(first)}\nuser: echo"


def test_a_reference_to_a_deleted_response_is_refused(server: FakeServer) -> None:
    first = answer(server, [{"role": "user", "content": "please"}])
    named = {"type": "item_reference", "id": first["output"][0]["id"]}
    server.request("DELETE", f"/v1/responses/{first['id']}")
    lost = server.post("/v1/responses", model=MODEL, input=[ECHO, named])
    assert lost.error == (400, "invalid_request_error", "input[1].id", "item_not_found")
    unstored = answer(server, [{"role": "user", "content": "please"}], store=False)
    named["id"] = unstored["output"][0]["id"]
    assert server.post("/v1/responses", model=MODEL, input=[named]).error[2:] == ("input[0].id", "item_not_found")


def test_a_key_cannot_refer_to_items_of_another_key() -> None:
    def post(key: str, items: Any) -> Any:
        return ask(guarded, key, "POST", "/v1/responses", json.dumps({"model": MODEL, "input": items}).encode())

    with fake_server(keys=",".join(KEYS), server={"access_log": False}) as guarded:
        mine = [{"type": "item_reference", "id": post(KEYS[0], "please stop").json["output"][0]["id"]}]
        assert post(KEYS[0], [*mine, ECHO]).status == 200
        assert post(KEYS[1], [*mine, ECHO]).error[2:] == ("input[0].id", "item_not_found")


def test_a_reference_stands_for_a_call() -> None:
    call = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "sunny"}
    items = parse_items([{"type": "item_reference", "id": "fc_1"}, output])
    [found, _] = resolve(items, [], {"fc_1": json.dumps(call).encode()}.get, 1000)
    assert found == parse_items([call])[0]


def test_the_size_of_referenced_items_is_bounded() -> None:
    found = json.dumps({"type": "message", "role": "user", "content": "x" * 400}).encode()
    items = [ItemReference(id=str(number)) for number in range(3)]
    assert all(isinstance(item, MessageItem) for item in resolve(items, [], lambda _: found, 3 * len(found)))
    with pytest.raises(RequestError, match="longer than") as refused:
        resolve(items, [], lambda _: found, 3 * len(found) - 1)
    assert refused.value.param == "input"


def test_the_store_finds_items_of_stored_responses() -> None:
    store = ResponseStore(2, 1000)
    store.put("a", "1", stored(x=b"first", y=b"other"))
    store.put("a", "2", stored(x=b"second"))  # a client may send an item back, changed
    assert (store.find_item("a", "x"), store.find_item("a", "y")) == (b"second", b"other")
    assert (store.find_item("b", "x"), store.find_item("a", "z")) == (None, None)
    assert store.num_bytes == len("xfirst") + len("yother") + len("xsecond")
    store.put("a", "3", stored())  # the least recently used makes room: to name an item is a use
    assert (store.find_item("a", "x"), store.find_item("a", "y")) == (None, b"other")
