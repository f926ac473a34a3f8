"""A bundle with matching hashes and damaged content loads, or is refused with one sentence; it never crashes."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import pytest
import synthetic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import damaged_bytes, damaged_json
from onnx import AttributeProto
from text_templates import TEMPLATES
from text_tokenizers import KINDS

from infrs.bundle.manifest import MANIFEST_FILE, FileEntry, GraphKind
from infrs.config.settings import EngineSettings, ModelSettings
from infrs.errors import BundleError, ConfigError
from infrs.models.load import load_model

SETTINGS = EngineSettings(max_num_seqs=1, max_model_len=64, threads=1, kv_budget_mb=64)
GRAPH = "model.onnx"
NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 97, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63)])
TOKENIZER = json.loads(KINDS["byte-level"]())
TOKENIZER["model"]["merges"] = []
TOKENIZER["model"]["vocab"] = {text: n for text, n in TOKENIZER["model"]["vocab"].items() if n < synthetic.VOCAB}
TOKENIZER["added_tokens"] = [token for token in TOKENIZER["added_tokens"] if token["id"] < synthetic.VOCAB]


def _graph(kind: GraphKind) -> onnx.ModelProto:
    with TemporaryDirectory() as folder:
        synthetic.build(Path(folder) / GRAPH, kind)
        return onnx.load(Path(folder) / GRAPH)


GRAPHS = {kind: _graph(kind) for kind in synthetic.KINDS}


@st.composite
def damaged_graphs(draw: st.DrawFn, kind: GraphKind) -> bytes:
    """Return a graph with changed numbers, operators, names or nodes; sometimes with damaged bytes."""
    model = onnx.ModelProto()
    model.CopyFrom(GRAPHS[kind])
    for _ in range(draw(st.integers(1, 3))):
        _damage(draw, model.graph)
    data = model.SerializeToString()
    return draw(damaged_bytes([data])) if draw(st.integers(0, 4)) == 0 else data


def _damage(draw: st.DrawFn, graph: onnx.GraphProto) -> None:
    """Change one part of a graph."""
    node = draw(st.sampled_from(list(graph.node)))
    match draw(st.sampled_from(["attribute", "operator", "inputs", "remove", "repeat", "constant", "shape", "border"])):
        case "attribute":
            name = draw(st.sampled_from([a.name for a in node.attribute] or ["axis", "to", "num_heads", "keepdims"]))
            del node.attribute[:]
            node.attribute.append(AttributeProto(name=name, type=AttributeProto.INT, i=draw(NUMBERS)))
        case "operator":
            other = draw(st.sampled_from(list(graph.node)))
            node.op_type, node.domain = draw(
                st.sampled_from(
                    [
                        (other.op_type, other.domain),
                        ("GroupQueryAttention", "com.microsoft"),
                        ("MatMulNBits", "com.microsoft"),
                        ("GatedQuickGelu", "infrs.native"),
                        ("ConstantOfShape", ""),
                        ("Loop", ""),
                    ]
                )
            )
        case "inputs":
            names = [name for each in graph.node for name in each.output] + [each.name for each in graph.input] + [""]
            node.input[:] = draw(st.lists(st.sampled_from(names), max_size=4))
        case "remove":
            graph.node.remove(node)
        case "repeat":
            graph.node.extend([node] * draw(st.integers(1, 50)))
        case "constant":
            constant = draw(st.sampled_from(list(graph.initializer)))
            constant.raw_data = draw(st.binary(max_size=16))
        case "shape":
            constant = draw(st.sampled_from(list(graph.initializer)))
            constant.dims[:] = draw(st.lists(NUMBERS, max_size=3))
        case "border":
            value = draw(st.sampled_from([*graph.input, *graph.output]))
            for dimension in value.type.tensor_type.shape.dim:
                dimension.dim_value = draw(NUMBERS)


def manifest_of(kind: GraphKind, content: dict[str, bytes]) -> str:
    """Return a manifest with the hashes of the files."""
    entries = {
        name: FileEntry(size=len(data), sha256=hashlib.sha256(data).hexdigest()) for name, data in content.items()
    }
    return synthetic.manifest(kind).model_copy(update={"files": entries, "graph_file": GRAPH}).model_dump_json()


@st.composite
def bundles(draw: st.DrawFn) -> dict[str, bytes]:
    """Return the files of a bundle of which one is damaged, with the hashes of what it has."""
    kind = draw(st.sampled_from(synthetic.KINDS))
    part = draw(st.sampled_from(["graph", "graph", "manifest", "tokenizer", "template"]))
    content = {
        GRAPH: draw(damaged_graphs(kind)) if part == "graph" else GRAPHS[kind].SerializeToString(),
        "tokenizer.json": draw(damaged_json([TOKENIZER])) if part == "tokenizer" else json.dumps(TOKENIZER).encode(),
    }
    if part == "template":
        template = draw(damaged_bytes([source.encode() for source in TEMPLATES.values()]))
        content["chat_template.jinja"] = template
    manifest = manifest_of(kind, content)
    content[MANIFEST_FILE] = draw(damaged_json([json.loads(manifest)])) if part == "manifest" else manifest.encode()
    return content


def load(content: dict[str, bytes]) -> str:
    """Load a bundle and return "loaded", or why it was refused."""
    with TemporaryDirectory() as folder:
        for name, data in content.items():
            (Path(folder) / name).write_bytes(data)
        try:
            model = load_model(Path(folder), ModelSettings(), SETTINGS)
        except (BundleError, ConfigError) as error:
            return str(error)
        with contextlib.suppress(AttributeError):
            model.files.close()  # type: ignore[union-attr]
        return "loaded"


@pytest.mark.parametrize("kind", synthetic.KINDS)
def test_bundle_without_damage_loads(kind: GraphKind) -> None:
    content = {GRAPH: GRAPHS[kind].SerializeToString(), "tokenizer.json": json.dumps(TOKENIZER).encode()}
    assert load(content | {MANIFEST_FILE: manifest_of(kind, content).encode()}) == "loaded"


@pytest.mark.nightly("fuzz: crafted bundles")
def test_crafted_bundles(full: bool, figure: Callable[[str], None]) -> None:
    outcomes: Counter[bool] = Counter()

    @given(content=bundles())
    @settings(
        max_examples=2000 if full else 60,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    def load_or_refuse(content: dict[str, bytes]) -> None:
        outcome = load(content)
        outcomes[outcome == "loaded"] += 1
        assert "\n" not in outcome
        assert len(outcome) < 1000

    load_or_refuse()
    assert all(outcomes[is_loaded] for is_loaded in (True, False))
    figure(f"{outcomes.total():,} bundles: {outcomes[True]:,} loaded, the others were refused with a message")
