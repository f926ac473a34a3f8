"""An attribute that a kernel does not implement is never ignored: the node falls back or the bundle is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attention_graph
import convolution_graph
import experts_graph
import numpy as np
import onnx
import pytest
from infrs_export.graph.fusions.functions import functions
from kernel_graphs import FLOAT, graph_of, opened
from onnx import helper, numpy_helper
from onnxruntime.capi import _pybind_state

from infrs import native
from infrs.engine.runners.session import create_session, kernels_of
from infrs.errors import BundleError
from infrs.native.options import AUTO, ONNXRUNTIME, KernelOptions

RNG = np.random.default_rng(0)
FORM = attention_graph.Form(heads=4, kv_heads=2, dim=16, rotary=8)
MIXTURE = experts_graph.Form(experts=4, chosen=2, biases=True, limit=7.0)  # the function takes 0 as a limit
GELU = experts_graph.Form(experts=4, chosen=2, alpha=1.5957691, cubic=0.044715)
OPSETS = {"": 21, "com.microsoft": 1, "infrs.native": 1}
OWN, RUNTIME, REFUSED, FAILS = "own", "onnxruntime", "refused", "fails"


def product() -> onnx.ModelProto:
    given: dict[str, Any] = {
        "x": (FLOAT, ["rows", 64]),
        "values": RNG.integers(0, 256, (5, 2, 16), dtype=np.uint8),
        "scales": RNG.standard_normal((5, 2)).astype(np.float32),
    }
    return graph_of("MatMulNBits", given, {"y": ["rows", 5]}, {"K": 64, "N": 5, "bits": 4, "block_size": 32})


def own(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move the node of a graph to the domain of infrs's own operators, and define it there."""
    (node,) = model.graph.node
    node.domain = "infrs.native"
    model.opset_import.append(helper.make_opsetid("infrs.native", 1))
    model.functions.extend(functions([node], OPSETS, {item.name: item.dims for item in model.graph.initializer}))
    return model


def own_product() -> onnx.ModelProto:
    model = product()
    scales = model.graph.initializer[1]
    scales.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scales).astype(np.float16), scales.name))
    return own(model)


def attention() -> onnx.ModelProto:
    return attention_graph.model(FORM)


def norm() -> onnx.ModelProto:
    given: dict[str, Any] = {name: (FLOAT, ["rows", 64]) for name in ("x", "skip")}
    gamma = RNG.standard_normal(64).astype(np.float32)
    return graph_of("SkipSimplifiedLayerNormalization", given | {"gamma": gamma}, {"y": ["rows", 64]}, {})


def gate() -> onnx.ModelProto:
    return own(graph_of("GatedQuickGelu", {"x": (FLOAT, ["rows", 64])}, {"y": ["rows", 32]}, {}))


def convolution() -> onnx.ModelProto:
    model = own(convolution_graph.model(convolution_graph.Form()))
    model.opset_import[1].domain = "com.microsoft"
    return model


def experts(form: experts_graph.Form = MIXTURE) -> onnx.ModelProto:
    model = own(experts_graph.model(form))
    model.opset_import[1].domain = "com.microsoft"
    return model


# For each operator: a graph, and the kernels that run it with a value of an attribute. The first value is the default.
# REFUSED: the value contradicts the rest of the node, or no kernel has it. FAILS: it contradicts the inputs of a run.
Values = dict[str, list[tuple[Any, str]]]
OPERATORS: dict[str, tuple[Callable[[], onnx.ModelProto], Values]] = {
    "MatMulNBits": (
        product,
        {
            "K": [(64, OWN), (32, REFUSED), (0, REFUSED), (-64, REFUSED)],
            "N": [(5, OWN), (6, REFUSED), (0, REFUSED)],
            "bits": [(4, OWN), (8, REFUSED), (3, REFUSED), (0, REFUSED)],
            "block_size": [(32, OWN), (64, REFUSED), (0, REFUSED), (33, REFUSED)],
            "accuracy_level": [(0, OWN), (4, OWN), (1, RUNTIME), (2, RUNTIME), (4.0, REFUSED)],
            "weight_prepacked": [(0, OWN), (1, RUNTIME), (0.0, REFUSED)],
        },
    ),
    "infrs.native MatMulNBits": (
        own_product,
        {
            "input_bits": [(8, OWN), (16, OWN), (7, REFUSED), (8.0, REFUSED)],
            "accuracy_level": [(0, OWN), (4, OWN), (1, RUNTIME)],
            "weight_prepacked": [(0, REFUSED), (1, REFUSED)],  # its function does not declare the attribute
        },
    ),
    "GroupQueryAttention": (
        attention,
        {
            "num_heads": [(4, OWN), (2, FAILS), (0, REFUSED)],
            "kv_num_heads": [(2, OWN), (4, FAILS), (3, REFUSED)],
            "do_rotary": [(1, OWN), (2, REFUSED)],
            "rotary_interleaved": [(0, OWN), (1, OWN), (2, REFUSED)],
            "scale": [(0.0, OWN), (0.5, OWN), (1, REFUSED)],
            "softcap": [(0.0, OWN), (2.0, OWN), (-1.0, REFUSED)],
            "local_window_size": [(-1, OWN), (2, OWN), (-2, REFUSED)],
            "smooth_softmax": [(0, OWN), (-1, OWN), (1, RUNTIME)],
            "qk_output": [(0, OWN), (1, RUNTIME)],
            "causal": [(1, OWN), (0, RUNTIME), (2, REFUSED)],
            "sliding_window_cache": [(0, OWN), (1, REFUSED)],
            "k_quant_type": [("NONE", OWN), ("PER_TENSOR", RUNTIME), ("none", RUNTIME), (0, REFUSED)],
            "v_quant_type": [("NONE", OWN), ("PER_CHANNEL", RUNTIME)],
            "kv_cache_bit_width": [(0, OWN), (8, RUNTIME)],
            # They belong to inputs that the kernel does not implement, and change nothing without them.
            "qk_norm_epsilon": [(1e-6, OWN), (0.5, OWN), (1, REFUSED)],
            "q_norm_epsilon": [(1e-6, OWN), (0.5, OWN), ("", REFUSED)],
            "k_norm_epsilon": [(1e-6, OWN), (0.5, OWN), (float("nan"), REFUSED)],
        },
    ),
    "SkipSimplifiedLayerNormalization": (
        norm,
        {"epsilon": [(1e-12, OWN), (0.5, OWN), (-1.0, REFUSED), (1, REFUSED)]},
    ),
    "infrs.native GatedQuickGelu": (gate, {}),
    "infrs.native ShortConvolution": (
        convolution,
        {"activation": [("none", OWN), ("silu", OWN), ("gelu", REFUSED), (1, REFUSED)]},
    ),
    "infrs.native Experts": (
        experts,
        {
            "bits": [(4, OWN), (8, REFUSED), (4.0, REFUSED)],
            "block_size": [(32, OWN), (64, RUNTIME), (32.0, REFUSED)],
            "k": [(2, OWN), (5, REFUSED), (-1, REFUSED)],
            "alpha": [(1.0, OWN), (1.702, OWN), (1, REFUSED)],
            "beta": [(0.0, OWN), (1.0, OWN), (float("inf"), REFUSED)],
            "limit": [(float(np.finfo(np.float32).max), OWN), (0.5, OWN), (-1.0, REFUSED)],
            "cubic": [(0.0, REFUSED), (0.044715, REFUSED)],  # a function of SwiGLU does not declare the attribute
        },
    ),
    "infrs.native Experts with a GELU": (
        lambda: experts(GELU),
        {"cubic": [(0.044715, OWN), (1, REFUSED), (float("nan"), REFUSED)]},
    ),
}
CASES = [
    pytest.param(make, name, value, expected, id=f"{operator} {name} {value}")
    for operator, (make, attributes) in OPERATORS.items()
    for name, values in attributes.items()
    for value, expected in values
]


def with_attribute(model: onnx.ModelProto, name: str, value: object) -> onnx.ModelProto:
    """Set an attribute of the graph's node, named "first"."""
    (node,) = model.graph.node
    node.name = "first"
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])
    return model


def feeds_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return two rows, of three tokens each for attention."""
    sizes = {"rows": 2, "tokens": 3, "capacity": 8}
    feeds = {
        value.name: RNG.standard_normal(
            [dim.dim_value or sizes[dim.dim_param] for dim in value.type.tensor_type.shape.dim]
        ).astype(np.float32)
        for value in model.graph.input
    }
    if "indices" in feeds:
        return experts_graph.drawn(MIXTURE, 2, 0)
    for name in feeds.keys() & {"past_key", "past_value"}:
        feeds[name][:] = 0
    if "lengths" in feeds:
        feeds |= {"lengths": np.array([2, 2], np.int32), "total": np.array(3, np.int32)}
    return feeds


@pytest.mark.parametrize(("make", "name", "value", "expected"), CASES)
def test_an_attribute_is_implemented_or_falls_back_or_is_refused(
    make: Callable[[], onnx.ModelProto], name: str, value: object, expected: str
) -> None:
    """infrs's kernels give ONNX Runtime's result within the rounding of activations."""
    model = with_attribute(make(), name, value)
    if expected == REFUSED:
        with pytest.raises(BundleError):
            opened(model)
        return
    session = opened(model)
    assert bool(kernels_of(session)) == (expected != RUNTIME)
    feeds = feeds_of(model)
    if expected == FAILS:
        with pytest.raises(Exception, match="shapes that do not agree"):
            session.run(None, feeds)
    elif expected == OWN:
        found, exact = (run.run(None, feeds)[0] for run in (session, opened(model, kernels=ONNXRUNTIME)))
        tolerance = {"MatMulNBits": 0.02, "Experts": 0.04}.get(model.graph.node[0].op_type, 1e-5)
        assert np.abs(found - exact).max() < tolerance * np.abs(exact).max()


@pytest.mark.parametrize("kernels", [AUTO, ONNXRUNTIME], ids=["own kernels", "onnxruntime"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_an_attribute_that_no_operator_defines_is_refused(operator: str, kernels: KernelOptions) -> None:
    make, _ = OPERATORS[operator]
    name = operator.removeprefix("infrs.native ").partition(" ")[0]
    with pytest.raises(BundleError, match=f"the node first has the attribute future, which {name} does not define"):
        opened(with_attribute(make(), "future", 1), kernels=kernels)


@pytest.mark.parametrize("operator", OPERATORS)
def test_such_a_node_in_a_subgraph_is_refused(operator: str) -> None:
    make, _ = OPERATORS[operator]
    model = with_attribute(make(), "future", 1)
    graph = model.graph
    branches = []
    for _ in range(2):
        branch = onnx.GraphProto(name="branch", node=graph.node, initializer=graph.initializer)
        branch.output.extend(graph.output)
        branches.append(branch)
    outputs = [value.name for value in graph.output]
    node = helper.make_node("If", ["condition"], outputs, then_branch=branches[0], else_branch=branches[1])
    del graph.node[:], graph.initializer[:]
    graph.node.append(node)
    graph.input.append(helper.make_tensor_value_info("condition", onnx.TensorProto.BOOL, []))
    with pytest.raises(BundleError, match="the node first has the attribute future"):
        opened(model)


@pytest.mark.parametrize("operator", [name for name in OPERATORS if " " not in name])
def test_such_a_node_in_a_function_is_refused(operator: str) -> None:
    make, _ = OPERATORS[operator]
    model = with_attribute(make(), "future", 1)
    (node,) = model.graph.node
    inputs, outputs = [name for name in node.input if name], list(node.output)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model.functions.append(helper.make_function("other", "Whole", inputs, outputs, [node], imports))
    model.opset_import.append(helper.make_opsetid("other", 1))
    node.CopyFrom(helper.make_node("Whole", inputs, outputs, domain="other"))
    with pytest.raises(BundleError, match="the attribute future, which"):
        opened(model)


def test_a_file_that_only_onnx_runtime_can_read_is_refused(tmp_path: Path) -> None:
    """The attributes of its nodes could not be checked. An unknown field of a group type makes it such a file."""
    model = with_attribute(attention(), "future", 1)
    content = model.SerializeToString() + b"\xfb\x01\xfc\x01"  # field 31: start and end of a group
    assert onnx.load_from_string(content).graph == model.graph
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match="unknown protobuf wire type 3"):
        create_session(path, 1)


def test_the_kernels_and_the_table_have_every_attribute_of_onnx_runtimes_operators() -> None:
    """A new attribute needs a look at what it means."""
    library = native.library()
    assert library is not None
    for schema in _pybind_state.get_all_operator_schema():
        if schema.domain == "com.microsoft" and schema.name in OPERATORS:
            known = native.known_attributes(library, schema.name)
            assert known is not None
            assert set(schema.attributes) - known == set(), schema.name
            assert set(schema.attributes) == set(OPERATORS[schema.name][1]), schema.name
