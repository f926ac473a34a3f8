"""A bundle with matching hashes and a hostile graph or tokenizer is refused before it takes time or memory."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
import synthetic
from onnx import TensorProto, helper, numpy_helper

from infrs.bundle import graph_signature
from infrs.bundle.manifest import GraphKind, SpecialTokens
from infrs.bundle.states import KVGeometry
from infrs.config.settings import EngineSettings
from infrs.engine.build import load_engine
from infrs.engine.runners.session import create_session
from infrs.errors import BundleError, ConfigError
from infrs.machine.memory import limit_growth
from infrs.models.load import check_tokens
from infrs.native import protobuf
from infrs.text.tokenizer import Tokenizer

SETTINGS = EngineSettings(max_num_seqs=1, max_model_len=64, threads=1, kv_budget_mb=64)
ELEMENTS = 1 << 30  # float32: 4 GiB


def load(folder: Path, kind: GraphKind = "fused", **changes: object) -> None:
    manifest = synthetic.manifest(kind).model_copy(update={"graph_file": "model.onnx", **changes})
    load_engine(folder, manifest, SETTINGS, cast(Tokenizer, None))


def body(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "body", [], [])


def functions(count: int) -> onnx.ModelProto:
    """A chain of functions, each of which calls the next one twice."""
    domain, opsets = "bomb", [helper.make_opsetid("", 21), helper.make_opsetid("bomb", 1)]

    def call(number: int) -> onnx.NodeProto:
        if number == count:
            return helper.make_node("Identity", ["x"], ["y"])
        return helper.make_node(f"f{number}", ["x"], ["y"], domain=domain)

    made = [
        helper.make_function(domain, f"f{number}", ["x"], ["y"], [call(number + 1), call(number + 1)], opsets)
        for number in range(count)
    ]
    return helper.make_model(body(call(0)), functions=made, opset_imports=opsets)


def model(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    return helper.make_model(body(*nodes))


HOSTILE = {
    "Loop": (model(helper.make_node("Loop", ["n"], ["y"], body=body())), "has a Loop node"),
    "Scan": (model(helper.make_node("Scan", ["n"], ["y"], body=body(), num_scan_inputs=1)), "has a Scan node"),
    "Loop in a branch": (
        model(helper.make_node("If", ["c"], ["y"], then_branch=body(helper.make_node("Loop", ["n"], ["z"])))),
        "has a Loop node",
    ),
    "functions": (functions(40), "calls the function"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_graph_with_work_beyond_its_size_is_refused(name: str, tmp_path: Path) -> None:
    graph, message = HOSTILE[name]
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(BundleError, match=message):
        create_session(tmp_path / "model.onnx", 1)
    with pytest.raises(BundleError, match=message):
        load(tmp_path)


REPEATED = {
    "nodes": onnx.GraphProto(node=[onnx.NodeProto()] * 100),
    "nodes of a branch": body(helper.make_node("If", ["c"], ["y"], then_branch=body(*[onnx.NodeProto()] * 100))),
    "inputs of a node": body(helper.make_node("Concat", ["x"] * 100, ["y"], axis=0)),
    "attributes": body(onnx.NodeProto(attribute=[onnx.AttributeProto()] * 100)),
    "initializers": onnx.GraphProto(initializer=[onnx.TensorProto()] * 100),
}


@pytest.mark.parametrize("part", [*REPEATED, "functions"])
def test_graph_with_too_many_fields_is_refused_before_they_are_read(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 50)
    graph = functions(40) if part == "functions" else helper.make_model(REPEATED[part])
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(BundleError, match="it has more than 50 protobuf fields; export the model again"):
        create_session(tmp_path / "model.onnx", 1)


def constant_of_shape(graph: onnx.GraphProto) -> str:
    graph.initializer.append(numpy_helper.from_array(np.array([ELEMENTS]), "shape"))
    graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["many"]))
    return "many"


def expand(graph: onnx.GraphProto) -> str:
    graph.initializer.append(numpy_helper.from_array(np.array([ELEMENTS]), "shape"))
    graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "one"))
    graph.node.append(helper.make_node("Expand", ["one", "shape"], ["many"]))
    return "many"


def outer_sum(graph: onnx.GraphProto) -> str:
    side = 1 << 15
    for name, shape in (("column", (side, 1)), ("row", (1, side))):
        graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
    graph.node.append(helper.make_node("Add", ["column", "row"], ["many"]))
    return "many"


def doubling_at_run_time(graph: onnx.GraphProto) -> str:
    graph.node.append(helper.make_node("Cast", [graph_signature.INPUT_IDS], ["d0"], to=TensorProto.FLOAT))
    for step in range(29):
        graph.node.append(helper.make_node("Concat", [f"d{step}"] * 2, [f"d{step + 1}"], axis=1))
    return "d29"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no limit")
@pytest.mark.parametrize("kind", synthetic.KINDS)
@pytest.mark.parametrize("grow", [constant_of_shape, expand, outer_sum, doubling_at_run_time])
def test_graph_that_takes_gigabytes_is_refused(
    grow: Callable[[onnx.GraphProto], str], kind: GraphKind, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    synthetic.build(path, kind)
    hostile = onnx.load(path)
    scores = next(node for node in hostile.graph.node if node.output[0] == graph_signature.LOGITS)
    scores.output[0] = "plain_scores"
    many = grow(hostile.graph)
    hostile.graph.node.extend(
        [
            helper.make_node("ReduceMax", [many], ["largest"], keepdims=0),
            helper.make_node("Add", ["plain_scores", "largest"], [graph_signature.LOGITS]),
        ]
    )
    onnx.save(hostile, path)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises((BundleError, ConfigError)) as caught:
        load(tmp_path, kind)
    assert "\n" not in str(caught.value)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.mark.parametrize("kind", synthetic.KINDS)
@pytest.mark.parametrize(
    "changes",
    [
        {"vocab_size": synthetic.VOCAB + 1},
        {"vocab_size": 1 << 24},
        {"states": KVGeometry(num_layers=1, num_kv_heads=2, head_dim=1).states("float32")},
        {"states": KVGeometry(num_layers=1, num_kv_heads=1, head_dim=4096).states("float32")},
        {"states": KVGeometry(num_layers=2, num_kv_heads=1, head_dim=1).states("float32")},
    ],
)
def test_graph_with_other_sizes_than_its_manifest_is_refused(
    kind: GraphKind, changes: dict[str, object], tmp_path: Path
) -> None:
    synthetic.build(tmp_path / "model.onnx", kind)
    load(tmp_path, kind)
    with pytest.raises(BundleError, match="export"):
        load(tmp_path, kind, **changes)


@pytest.mark.parametrize(
    ("largest", "eos", "message"),
    [
        (96, (96,), None),
        (97, (1,), "tokenizer.json has token 97, but vocab_size is 97"),
        (4_000_000_000, (1,), "tokenizer.json has token 4000000000"),
        (96, (97,), "special_tokens has token 97"),
        (96, (-1,), "special_tokens has token -1"),
    ],
)
def test_token_without_a_row_in_the_embedding_is_refused(
    largest: int, eos: tuple[int, ...], message: str | None
) -> None:
    vocab = f'{{"a": 0, "b": {largest}}}'
    tokenizer = Tokenizer(f'{{"model": {{"type": "WordLevel", "vocab": {vocab}, "unk_token": "a"}}}}')
    manifest = synthetic.manifest("fused").model_copy(update={"special_tokens": SpecialTokens(bos=None, eos=eos)})
    if message is None:
        check_tokens(manifest, tokenizer)
    else:
        with pytest.raises(BundleError, match=message):
            check_tokens(manifest, tokenizer)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no limit")
def test_memory_beyond_the_limit_is_refused_only_within_the_block() -> None:
    with limit_growth(1 << 28), pytest.raises(MemoryError):
        bytearray(1 << 29)
    assert len(bytearray(1 << 29)) == 1 << 29
