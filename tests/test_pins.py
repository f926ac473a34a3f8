"""Every package that infrs installs is pinned in constraints.txt at the installed version.

`make audit` compares the list with a public database of vulnerabilities, which changes daily, so no test can. Hashes
are not pinned, because PyTorch has several builds of one version.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LINES = (Path(__file__).parents[1] / "constraints.txt").read_text().splitlines()
PINS = [line.partition("==") for line in LINES if line and not line.startswith("#")]
INSTALLERS = {"pip", "setuptools"}  # which come with the environment, and which `pip freeze` leaves out
EXTRAS = frozenset({"export", "demo", "bench", "otel", "dev"})


def required(name: str, extras: Iterable[str], known: set[tuple[str, str]]) -> set[str]:
    """The names of all that a distribution requires here, and what that requires."""
    found = set()
    for extra in ("", *extras):
        if (name, extra) in known:
            continue
        known.add((name, extra))
        for requirement in map(Requirement, distribution(name).requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                found |= {canonicalize_name(requirement.name)} | required(requirement.name, requirement.extras, known)
    return found - {"infrs"} - INSTALLERS


def test_all_that_is_required_is_pinned_as_it_is_installed() -> None:
    pins = {str(canonicalize_name(name)): version for name, _, version in PINS}
    assert len(pins) == len(PINS)
    assert all(relation == "==" and version for _, relation, version in PINS)
    served = required("infrs", (), set())
    assert {"sanic", "onnxruntime", "httptools", "pydantic-core"} <= served
    installed = {name: distribution(name).version.partition("+")[0] for name in required("infrs", EXTRAS, set())}
    assert served < installed.keys()
    assert {name: (version, pins.get(name)) for name, version in installed.items() if pins.get(name) != version} == {}
