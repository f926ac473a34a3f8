"""Which models are loaded and unloaded, as a function of values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrs.models.residency.decide import Action, Load, ModelState, Refuse, Resident, Unload, decide, next_expiry

READY, UNLOADED = ModelState.READY, ModelState.UNLOADED


def ready(name: str, held: int = 10, **fields: object) -> Resident:
    return Resident(name, READY, held, held, **fields)  # type: ignore[arg-type]


def wanted(name: str, needed: int = 10, since: float = 1.0, **fields: object) -> Resident:
    return Resident(name, UNLOADED, needed, wanted_since=since, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("residents", "budget", "expected"),
    [
        ([ready("a")], 5, []),
        ([wanted("a")], None, [Load("a")]),
        ([wanted("a"), ready("b")], 20, [Load("a")]),
        ([wanted("a", since=2.0), wanted("b", since=1.0)], 20, [Load("b")]),
        ([wanted("a"), Resident("b", ModelState.LOADING, 10, 10, is_opening=True)], None, []),
        ([wanted("a"), ready("b", last_used=2.0), ready("c", last_used=1.0)], 20, [Unload("c", expired=False)]),
        ([wanted("a"), ready("b", num_users=1), ready("c", last_used=9.0)], 20, [Unload("c", expired=False)]),
        ([wanted("a"), ready("b", num_users=1), ready("c", num_users=1)], 20, []),
        ([wanted("a"), ready("b", is_pinned=True), ready("c")], 20, [Unload("c", expired=False)]),
        ([wanted("a"), ready("b", held=0), ready("c", held=20, last_used=9.0)], 20, [Unload("c", expired=False)]),
        ([wanted("a", 15), ready("b", is_pinned=True)], 20, [Refuse("a", 15, 10)]),
        ([wanted("a", 30)], 20, [Refuse("a", 30, 20)]),
        ([wanted("a", 20), ready("b"), ready("c", num_users=1)], 20, []),  # unloading b alone would not help
        ([wanted("a"), Resident("b", ModelState.UNLOADING, 10, 10), ready("c")], 20, []),  # b is being freed
        ([ready("a", wanted_since=1.0)], 20, [Load("a")]),  # a second copy replaces the first one
        ([ready("a", wanted_since=1.0)], 15, [Refuse("a", 10, 5)]),
        ([ready("a", keep_alive=0.0, last_used=50.0)], None, [Unload("a", expired=True)]),
        ([ready("a", keep_alive=60.0, last_used=50.0)], None, []),
        ([ready("a", keep_alive=0.0, last_used=50.0, num_users=1)], None, []),
        ([ready("a", keep_alive=0.0, last_used=50.0, is_pinned=True)], None, []),
        ([Resident("a", ModelState.UNLOADING, wanted_since=1.0)], None, []),
        ([Resident("a", ModelState.FAILED, wanted_since=1.0)], None, [Load("a")]),
    ],
)
def test_decisions(residents: list[Resident], budget: int | None, expected: list[Action]) -> None:
    assert decide(residents, budget, now=100.0) == expected


def test_the_next_expiry_is_that_of_an_idle_model() -> None:
    models = [
        ready("a", keep_alive=30.0, last_used=5.0),
        ready("b", keep_alive=9.0, last_used=7.0),
        ready("c", keep_alive=0.0, num_users=1),
        ready("d"),
    ]
    assert next_expiry(models) == 16.0
    assert next_expiry(models[2:]) is None


_FIELDS = st.fixed_dictionaries(
    {
        "state": st.sampled_from(list(ModelState)),
        "needed": st.integers(1, 40),
        "wanted_since": st.none() | st.floats(0, 50),
        "num_users": st.integers(0, 2),
        "last_used": st.floats(0, 100),
        "keep_alive": st.sampled_from([-1.0, 0.0, 30.0]),
        "is_pinned": st.booleans(),
    }
)


def of_fields(name: str, fields: dict[str, object]) -> Resident:
    """Return a model that holds memory if its state says so."""
    has_copy = fields["state"] in (ModelState.READY, ModelState.LOADING, ModelState.UNLOADING)
    opening = fields["state"] is ModelState.LOADING
    return Resident(name, held=fields["needed"] if has_copy else 0, is_opening=opening, **fields)  # type: ignore[arg-type]


@given(st.lists(_FIELDS, max_size=6), st.none() | st.integers(0, 100))
def test_no_decision_exceeds_the_budget_or_unloads_a_model_in_use(
    drawn: list[dict[str, object]], budget: int | None
) -> None:
    residents = {str(i): of_fields(str(i), fields) for i, fields in enumerate(drawn)}
    actions = decide(list(residents.values()), budget, now=100.0)
    assert len({action.model_id for action in actions}) == len(actions)
    held = sum(each.held for each in residents.values())
    for action in actions:
        model = residents[action.model_id]
        match action:
            case Load():
                assert budget is None or held + model.needed <= budget
                assert not any(each.is_opening for each in residents.values())
            case Unload():
                assert model.state is READY
                assert not model.num_users
                assert not model.is_pinned
            case Refuse():
                assert model.needed > action.free
