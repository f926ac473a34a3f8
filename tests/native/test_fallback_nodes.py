"""A graph of supported nodes and one unsupported node: infrs's kernels run the former, ONNX Runtime's the latter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from infrs_export.graph.fusions.functions import functions
from kernel_graphs import FLOAT, INT32, Floats
from onnx import helper, numpy_helper

from infrs.engine.runners.session import create_session, fallback_nodes, kernels_of, stored_dtype
from infrs.errors import BundleError
from infrs.native.nodes import SELECTED_DOMAINS, read_graph, with_selected
from infrs.native.options import AVX2, ONNXRUNTIME, KernelOptions, StoredDtype

WIDTH, HEADS, DIM, CAPACITY = 64, 4, 16, 16
CACHE: list[int | str] = ["rows", HEADS, CAPACITY, DIM]
OPSETS = {"": 21, "com.microsoft": 1, "infrs.native": 1}


@dataclass
class Chain:
    """Nodes that each take the output of the one before. Every result is an output of the graph."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    caches: list[str] = field(default_factory=list)
    last: str = "x"

    def constant(self, array: npt.NDArray[Any]) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, inputs: Sequence[str], outputs: Sequence[str] = (), **attributes: Any) -> None:
        domain = attributes.pop("domain", "com.microsoft")
        name = f"node{len(self.nodes)}"
        results = [f"{name}.y", *outputs]
        node = helper.make_node(kind, [self.last, *inputs], results, name=name, domain=domain, **attributes)
        self.nodes.append(node)
        self.last = results[0]

    def product(self, block: int = 32, *, zeros: bool = False, halves: bool = False, **attributes: Any) -> None:
        rng = np.random.default_rng(len(self.nodes))
        blocks = WIDTH // block
        scales = (rng.standard_normal((WIDTH, blocks)) * 0.02).astype(np.float16 if halves else np.float32)
        inputs = [rng.integers(0, 256, (WIDTH, blocks, block // 2), dtype=np.uint8), scales]
        if zeros:
            inputs.append(rng.integers(0, 256, (WIDTH, -(-blocks // 2)), dtype=np.uint8))
        given = {"K": WIDTH, "N": WIDTH, "bits": 4, "block_size": block, "accuracy_level": 4}
        domain = "infrs.native" if halves else "com.microsoft"
        self.add("MatMulNBits", list(map(self.constant, inputs)), domain=domain, **given | attributes)

    def experts(self, block: int = 32) -> None:
        """Add four experts, of which each of six tokens chooses two."""
        rng = np.random.default_rng(len(self.nodes))
        constants: list[npt.NDArray[Any]] = []
        for outputs in (2 * WIDTH, WIDTH):
            shape = (4, outputs, WIDTH // block)
            constants.append(rng.integers(0, 256, (*shape, block // 2), dtype=np.uint8))
            constants.append(rng.uniform(0.01, 0.02, shape).astype(np.float16))
        weights = rng.uniform(0.1, 1, (6, 2)).astype(np.float32)
        indices = np.array([[0, 1], [3, 0], [2, 3], [1, 2], [0, 2], [3, 1]])
        attributes = {"bits": 4, "block_size": block, "k": 2, "alpha": 1.0, "beta": 0.0, "limit": 7.0}
        inputs = list(map(self.constant, [weights, indices, *constants]))
        self.add("Experts", inputs, domain="infrs.native", **attributes)

    def norm(self, *outputs: str) -> None:
        gamma = self.constant(np.random.default_rng(len(self.nodes)).standard_normal(WIDTH).astype(np.float32))
        self.add("SkipSimplifiedLayerNormalization", [self.last, gamma], outputs, epsilon=1e-5)

    def attention(self, **attributes: Any) -> None:
        past, present = ([f"{when}.{len(self.nodes)}.{part}" for part in ("key", "value")] for when in ("past", "now"))
        self.caches += past
        given = {"num_heads": HEADS, "kv_num_heads": HEADS} | attributes
        self.add("GroupQueryAttention", [self.last, self.last, *past, "lengths", "total"], present, **given)

    def model(self) -> onnx.ModelProto:
        rows = [(name, FLOAT, ["rows", "tokens", WIDTH]) for node in self.nodes for name in node.output[:1]]
        caches = [(name, FLOAT, CACHE) for name in self.caches]
        present = [(name, FLOAT, CACHE) for node in self.nodes for name in node.output if name.startswith("now.")]
        inputs = [("x", FLOAT, ["rows", "tokens", WIDTH]), *caches]
        if caches:
            inputs += [("lengths", INT32, ["rows"]), ("total", INT32, [])]
        return helper.make_model(
            helper.make_graph(
                self.nodes,
                "chain",
                [helper.make_tensor_value_info(*value) for value in inputs],
                [helper.make_tensor_value_info(*value) for value in rows + present],
                self.constants,
            ),
            opset_imports=[helper.make_opsetid(domain, version) for domain, version in OPSETS.items()],
            functions=functions(self.nodes, OPSETS),
            ir_version=10,
        )


def feeds_of(model: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    """Return two rows of three tokens for empty caches."""
    rng = np.random.default_rng(0)
    feeds: dict[str, npt.NDArray[Any]] = {"x": rng.standard_normal((2, 3, WIDTH)).astype(np.float32)}
    for value in model.graph.input:
        if value.name.startswith("past"):
            feeds[value.name] = np.zeros((2, HEADS, CAPACITY, DIM), np.float32)
    if len(feeds) > 1:
        feeds |= {"lengths": np.array([2, 2], np.int32), "total": np.array(3, np.int32)}
    return feeds


def opened(
    model: onnx.ModelProto, folder: Path, kernels: KernelOptions | None = None, *, kv_dtype: StoredDtype = "float32"
) -> ort.InferenceSession:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return create_session(path, 1, kernels=kernels or KernelOptions(), kv_dtype=kv_dtype)


def results(session: ort.InferenceSession, feeds: dict[str, npt.NDArray[Any]]) -> dict[str, Floats]:
    return dict(zip([value.name for value in session.get_outputs()], session.run(None, feeds), strict=True))


UNSUPPORTED: dict[str, Callable[[Chain], None]] = {
    "a product in blocks of 16": lambda chain: chain.product(16),
    "a product in blocks of 64": lambda chain: chain.product(64),
    "a product with zero points": lambda chain: chain.product(zeros=True),
    "a product with 16-bit scales in blocks of 16": lambda chain: chain.product(16, halves=True),
    "a norm with its deviation": lambda chain: chain.norm("", "deviation"),
    "attention with a smooth softmax": lambda chain: chain.attention(smooth_softmax=1),
    "attention that is not causal": lambda chain: chain.attention(causal=0),
    "a product with inputs that must not be rounded": lambda chain: chain.product(accuracy_level=1),
    "a product with 16-bit scales and such inputs": lambda chain: chain.product(halves=True, accuracy_level=1),
}


@pytest.mark.parametrize("add", UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_only_the_unsupported_node_runs_on_onnx_runtimes_kernels(
    add: Callable[[Chain], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each node gives the bits of the session that runs it alone: infrs's or ONNX Runtime's."""
    chain = Chain()
    chain.product()
    chain.attention()
    add(chain)
    chain.product(halves=True)
    chain.norm()
    model = chain.model()
    with caplog.at_level(logging.WARNING):
        session = opened(model, tmp_path)
    (record,) = caplog.records
    assert "1 of 5 nodes run on ONNX Runtime's slower kernels" in record.message
    assert "the first is node2 (" in record.message
    assert fallback_nodes(session) == ("node2",)
    assert kernels_of(session).endswith(" (1 node falls back)")

    feeds = feeds_of(model)
    found = results(session, feeds)
    assert all(np.isfinite(found[name]).all() for name in found if name.endswith(".y"))
    for place, node in enumerate(model.graph.node):
        alone = onnx.ModelProto()
        alone.CopyFrom(model)
        del alone.graph.node[:]
        alone.graph.node.append(node)
        if node.input[0] != "x":
            source = alone.graph.input.add()
            source.CopyFrom(helper.make_tensor_value_info(node.input[0], FLOAT, ["rows", "tokens", WIDTH]))
        kept = [value for value in model.graph.output if value.name in node.output]
        del alone.graph.output[:]
        alone.graph.output.extend(kept)
        used = [value for value in alone.graph.input if value.name in node.input]
        del alone.graph.input[:]
        alone.graph.input.extend(used)
        single = opened(alone, tmp_path, ONNXRUNTIME if place == 2 else KernelOptions())
        assert bool(kernels_of(single)) == (place != 2)
        names = {value.name for value in used}
        expected = results(single, {name: array for name, array in (feeds | found).items() if name in names})
        for name, array in expected.items():
            assert found[name].tobytes() == array.tobytes(), name


def test_experts_that_fall_back_run_as_the_function_of_the_graph(tmp_path: Path) -> None:
    chain = Chain()
    chain.experts(64)
    chain.experts(32)
    model = chain.model()
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 6, WIDTH)).astype(np.float32)}
    session = opened(model, tmp_path)
    assert fallback_nodes(session) == ("node0",)
    found, expected = results(session, feeds), results(opened(model, tmp_path, ONNXRUNTIME), feeds)
    assert found["node0.y"].tobytes() == expected["node0.y"].tobytes()
    assert found["node1.y"].tobytes() != expected["node1.y"].tobytes()
    assert np.abs(found["node1.y"] - expected["node1.y"]).max() < 0.04 * np.abs(expected["node1.y"]).max()


def test_several_nodes_fall_back_and_the_weights_are_in_another_file(tmp_path: Path) -> None:
    chain = Chain()
    for block in (32, 16, 32, 64):
        chain.product(block)
    model = chain.model()
    feeds = feeds_of(model)
    expected = results(opened(model, tmp_path), feeds)
    path = tmp_path / "separate.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    session = create_session(path, 1)
    assert fallback_nodes(session) == ("node1", "node3")
    assert kernels_of(session).endswith(" (2 nodes fall back)")
    found = results(session, feeds)
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in expected.items()
    }


@pytest.mark.parametrize("kv_dtype", ["float16", "int8"])
@pytest.mark.parametrize(("attributes", "falls_back"), [({}, False), ({"causal": 0}, True)])
def test_an_attention_node_that_falls_back_needs_keys_and_values_in_32_bits(
    attributes: dict[str, int], falls_back: bool, kv_dtype: StoredDtype, tmp_path: Path
) -> None:
    chain = Chain()
    chain.product(16)
    chain.attention()
    chain.attention(**attributes)
    session = opened(chain.model(), tmp_path, kv_dtype=kv_dtype)
    assert len(fallback_nodes(session)) == (2 if falls_back else 1)
    assert stored_dtype(session) == ("float32" if falls_back else kv_dtype)


def test_an_invalid_node_next_to_an_unsupported_one_is_refused(tmp_path: Path) -> None:
    chain = Chain()
    chain.product(16)
    chain.attention(kv_num_heads=3)
    with pytest.raises(BundleError, match="invalid node: GroupQueryAttention: num_heads or kv_num_heads is impossible"):
        opened(chain.model(), tmp_path)


def test_a_session_keeps_its_instructions_if_a_node_falls_back(tmp_path: Path) -> None:
    chain = Chain()
    chain.product()
    chain.product(16)
    assert kernels_of(opened(chain.model(), tmp_path, AVX2)).startswith("avx2 ")


def test_the_nodes_of_a_file_are_those_that_onnx_reads(tmp_path: Path) -> None:
    chain = Chain()
    chain.product()
    chain.norm()
    chain.add("Sigmoid", [], domain="")
    chain.product(halves=True)
    model = chain.model()
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    nodes = [node for node in read_graph(path).nodes if not node.nested]
    expected = [node for node in model.graph.node if node.domain]
    assert [(node.name, node.op_type, list(node.outputs)) for node in nodes] == [
        (node.name, node.op_type, list(node.output)) for node in expected
    ]
    assert [sorted(node.attributes) for node in nodes] == [
        sorted(attribute.name for attribute in node.attribute) for node in expected
    ]
    moved = onnx.load_from_string(with_selected(path, [nodes[0], nodes[2]]))
    domains = [SELECTED_DOMAINS[node.domain.encode()].decode() for node in (expected[0], expected[2])]
    assert [node.domain for node in moved.graph.node] == [domains[0], "com.microsoft", "", domains[1]]
    assert {opset.domain for opset in moved.opset_import} == {*OPSETS, *domains}
    assert [node.input for node in moved.graph.node] == [node.input for node in model.graph.node]


def test_a_name_that_a_report_of_refusals_cannot_hold_is_refused(tmp_path: Path) -> None:
    chain = Chain()
    chain.product(16)
    model = chain.model()
    model.graph.node[0].name = "one\ntwo"
    with pytest.raises(BundleError, match="a tab or a line break in a name"):
        opened(model, tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\x3a", b"\x3a\xff\xff\xff\xff\x0f", b"\x3b", b"\x3a\x02\x0a\x7f", b"\xff" * 40]
)
def test_a_file_that_is_not_a_model_is_an_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"protobuf|empty"):
        read_graph(path)
    with pytest.raises(BundleError, match="ONNX Runtime cannot open"):
        create_session(path, 1)


def test_subgraphs_that_are_nested_too_deep_are_an_error(tmp_path: Path) -> None:
    graph = onnx.GraphProto(name="inner")
    for _ in range(20):
        graph = onnx.GraphProto(name="outer", node=[helper.make_node("If", [], ["y"], then_branch=graph)])
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx.ModelProto(graph=graph).SerializeToString())
    with pytest.raises(ValueError, match="nested more than 16 deep"):
        read_graph(path)
