"""The store of responses: limits, eviction and tenants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fake_process import MODEL, Answer, FakeServer, fake_server
from hypothesis import given
from hypothesis import strategies as st

from infrs.api.responses.store import ResponseStore, StoredResponse

KEYS = ["first-key-0123456789", "second-key-0123456789"]
TENANTS = st.sampled_from(["a", "b", "c"])


def of_size(num_bytes: int) -> StoredResponse:
    return StoredResponse(b"x" * (num_bytes // 2), (("", b"y" * (num_bytes - num_bytes // 2)),))


def test_the_least_recently_used_response_is_evicted_first() -> None:
    store = ResponseStore(3, 1000)
    for name in ("1", "2", "3"):
        store.put("", name, of_size(10))
    assert store.get("", "1")
    store.put("", "4", of_size(10))
    assert [name for name in "1234" if store.get("", name)] == ["1", "3", "4"]
    store.put("", "5", of_size(985))
    assert [name for name in "12345" if store.get("", name)] == ["4", "5"]
    store.put("", "6", of_size(1001))
    assert (store.num_responses, store.num_bytes) == (0, 0)


def test_responses_of_the_largest_tenant_are_evicted() -> None:
    store = ResponseStore(100, 100)
    store.put("quiet", "1", of_size(40))
    for number in range(50):
        store.put("loud", str(number), of_size(10))
    assert store.get("quiet", "1")
    assert store.get("loud", "49")
    assert not store.get("loud", "40")


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "get", "delete"]), TENANTS, st.integers(0, 20), st.integers(0, 60)),
        max_size=60,
    ),
    st.integers(0, 6),
    st.integers(0, 120),
)
def test_limits_hold_and_tenants_are_separate(
    steps: list[tuple[str, str, int, int]], max_responses: int, max_bytes: int
) -> None:
    store = ResponseStore(max_responses, max_bytes)
    model: dict[tuple[str, str], StoredResponse] = {}
    for number, (step, tenant, which, size) in enumerate(steps):
        name = f"{which}"
        match step:
            case "put":
                name = f"{number}-{which}"
                model[tenant, name] = of_size(size)
                store.put(tenant, name, model[tenant, name])
            case "get":
                found = store.get(tenant, name)
                assert found is None or found == model[tenant, name]
            case "delete":
                assert store.delete(tenant, name) is False or model.pop((tenant, name))
        kept = {key: value for key, value in model.items() if store.get(*key) is not None}
        assert (store.num_responses, store.num_bytes) == (len(kept), sum(r.num_bytes for r in kept.values()))
        assert store.num_responses <= max_responses
        assert store.num_bytes <= max_bytes


@pytest.fixture(scope="module")
def guarded() -> Iterator[FakeServer]:
    with fake_server(keys=",".join(KEYS), server={"access_log": False, "max_stored_responses": 4}) as running:
        yield running


def ask(server: FakeServer, key: str, method: str, path: str, body: bytes | None = None) -> Answer:
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    return server.request(method, path, body, headers)


def create(server: FakeServer, key: str, text: str = "please stop", extra: str = "") -> Answer:
    return ask(server, key, "POST", "/v1/responses", f'{{"model":"{MODEL}","input":"{text}"{extra}}}'.encode())


def test_a_key_cannot_read_responses_of_another_key(guarded: FakeServer) -> None:
    mine = create(guarded, KEYS[0]).json["id"]
    for method, path in (("GET", mine), ("GET", f"{mine}/input_items"), ("DELETE", mine)):
        answer = ask(guarded, KEYS[1], method, f"/v1/responses/{path}")
        assert answer.error == (404, "invalid_request_error", "response_id", "response_not_found")
    goes_on = create(guarded, KEYS[1], extra=f',"previous_response_id":"{mine}"')
    assert goes_on.error[3] == "previous_response_not_found"
    assert ask(guarded, KEYS[0], "GET", f"/v1/responses/{mine}").status == 200
    for path in (f"/v1/responses/{mine}", f"/v1/responses/{mine}/input_items"):
        assert guarded.get(path).error[0] == 401
    assert ask(guarded, KEYS[0], "DELETE", f"/v1/responses/{mine}").json == {
        "id": mine,
        "object": "response",
        "deleted": True,
    }


def test_the_oldest_responses_are_evicted(guarded: FakeServer) -> None:
    first = create(guarded, KEYS[0]).json["id"]
    others = [create(guarded, KEYS[0]).json["id"] for _ in range(4)]
    assert ask(guarded, KEYS[0], "GET", f"/v1/responses/{first}").status == 404
    assert [ask(guarded, KEYS[0], "GET", f"/v1/responses/{other}").status for other in others] == [200] * 4
    metrics: Any = ask(guarded, KEYS[0], "GET", "/metrics").body.decode()
    assert "infrs_stored_responses 4.0" in metrics


def test_a_server_without_a_store_refuses_to_store() -> None:
    with fake_server(server={"access_log": False, "stored_responses_mb": 0}) as server:
        answer = server.post("/v1/responses", model=MODEL, input="please stop").json
        assert answer["store"] is False
        assert server.get(f"/v1/responses/{answer['id']}").status == 404
        refused = server.post("/v1/responses", model=MODEL, input="please stop", store=True)
        assert refused.error == (400, "invalid_request_error", "store", "unsupported_parameter")
