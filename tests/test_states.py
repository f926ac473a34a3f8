"""States in a manifest: what older manifests imply, and how many bytes a token takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hollow_bundles
import pytest

from infrs.bundle.manifest import Manifest, chat_manifest, read_manifest
from infrs.bundle.states import KVGeometry, StateDtype, fixed_state, size_of
from infrs.errors import BundleError

OLD_KV = {"num_layers": 3, "num_kv_heads": 2, "head_dim": 8}
NEW = ("states", "batch_invariant", "chunk_invariant")


def read_old(cache: Path, **fields: Any) -> Manifest:
    """Read a manifest as older exporters wrote it."""
    bundle = hollow_bundles.publish(cache, "a/b", "int8")
    path = bundle / "manifest.json"
    kept = {name: value for name, value in json.loads(path.read_text()).items() if name not in NEW}
    path.write_text(json.dumps(kept | {"kv": OLD_KV} | fields))
    return chat_manifest(read_manifest(bundle))


@pytest.mark.parametrize(
    ("graph", "recipe", "dtype", "invariants"),
    [
        ("fused", "blocks", "float16", (True, True)),
        ("fused", "dense", "float32", (True, False)),
        ("fused", "half", "float32", (True, False)),
        ("plain", "blocks", "float32", (False, False)),
    ],
)
def test_an_older_manifest_implies_its_states_and_invariants(
    graph: str, recipe: str, dtype: StateDtype, invariants: tuple[bool, bool], tmp_path: Path
) -> None:
    old = read_old(tmp_path, graph=graph, recipe={"name": recipe, "options": {}, "hash": "0" * 64})
    assert old.states == KVGeometry.model_validate(OLD_KV).states(dtype)
    assert (old.batch_invariant, old.chunk_invariant) == invariants
    assert Manifest.model_validate_json(old.model_dump_json()) == old


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"kv": OLD_KV | {"num_layers": 0}}, "kv.num_layers: "),
        ({"kv": {"num_layers": 1, "num_kv_heads": 1}}, "kv.head_dim: "),
        ({"kv": None}, "kv: "),
        ({"states": [{"kind": "paged"}]}, "states.0.kind: "),
        ({"states": [{"kind": "kv", "shape": [1, 0]}]}, "states.0.shape.1: "),
        ({"states": [{"kind": "kv", "shape": [1, 8], "dtype": "int8"}]}, "states.0.dtype: "),
        ({"states": [], "kv": None}, "states: "),
        ({"source": "Hub"}, "source: "),
        ({"kind": "vision"}, "the file: kind should be 'chat', 'embedding' or 'classifier'"),
    ],
)
def test_states_that_make_no_sense_are_refused_in_one_line(fields: Any, where: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=rf"manifest\.json: {where}") as caught:
        read_old(tmp_path, **fields)
    assert "\n" not in str(caught.value)


def test_a_token_takes_a_key_and_a_value_in_each_layer() -> None:
    states = KVGeometry(num_layers=3, num_kv_heads=2, head_dim=8).states("float16")
    assert (size_of(states, "float16").per_token, size_of(states, "float32").per_token) == (192, 384)
    size = size_of((*states, fixed_state("conv", (3, 5)), fixed_state("recurrent", (2, 4, 4))), "float16")
    assert (size.per_token, size.fixed, size.of_row(10)) == (192, 4 * (15 + 32), 188 + 1920)
