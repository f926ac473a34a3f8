"""Every fused architecture against eager PyTorch, run as the engine runs it: chunks, a past, decode, ragged rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from arch_models import CONTEXT, FUSED, MIXTURES, PLAIN, VOCAB, make_model
from arch_runner import FusedRunner, PlainRunner
from infrs_export.graph.convert import Conversion, convert
from infrs_export.graph.fusions.architectures import (
    default_context,
    fix_rope_factors,
    longest_context,
    rope_factors,
    states,
)
from infrs_export.graph.fusions.families import FAMILIES
from infrs_export.recipes.floats import FloatLowering
from models_table import DOCUMENT, HEADER
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.initialization import no_init_weights

from infrs.bundle.states import size_of
from infrs.errors import ExportError

TOLERANCE = 1e-4
PROMPT, CHUNK, DECODE = 19, 6, 10  # the prompt is longer than every sliding window (7)


@dataclass(frozen=True)
class Exported:
    model: PreTrainedModel
    directory: Path
    conversion: Conversion


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """Export an architecture once for all tests of this file."""
    torch.set_num_threads(1)
    made: dict[str, Exported] = {}

    def get(name: str) -> Exported:
        if name not in made:
            model = make_model(*(FUSED[name] if name in FUSED else PLAIN[name][:2]))
            directory = tmp_path_factory.mktemp(name)
            made[name] = Exported(model, directory, convert(model, directory, FloatLowering()))
        return made[name]

    return get


def tokens(rows: int = 1, length: int = PROMPT + CHUNK + DECODE) -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(3, VOCAB, (rows, length))


def eager(model: PreTrainedModel, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Logits [S, vocab] of one sequence in one pass without a cache."""
    with torch.no_grad():
        return model(torch.from_numpy(ids), use_cache=False).logits[0].numpy()


def in_pieces(runner: FusedRunner | PlainRunner, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """A prompt, a second chunk with a past, then token by token."""
    cuts = [0, PROMPT, *range(PROMPT + CHUNK, ids.shape[1] + 1)]
    return np.concatenate([runner.run(np.ascontiguousarray(ids[:, start:stop])) for start, stop in pairwise(cuts)])


@pytest.mark.parametrize("flash", [True, False], ids=["flash", "no-flash"])
@pytest.mark.parametrize("name", FUSED)
def test_fused_graph_equals_eager_pytorch(
    name: str, flash: bool, exported: Callable[[str], Exported], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORT_GQA_DISABLE_FLASH_ATTENTION", str(int(not flash)))
    export = exported(name)
    assert (export.conversion.graph, export.conversion.reason) == ("fused", "")
    ids = tokens()
    expected = eager(export.model, ids)
    actual = in_pieces(FusedRunner(export.directory, export.conversion), ids)
    assert np.abs(expected).max() > 0.5  # the comparison means something
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", [name for name in FUSED if name not in MIXTURES or name == "gemma4-experts"])
def test_rows_of_different_lengths_decode_like_single_rows(name: str, exported: Callable[[str], Exported]) -> None:
    export = exported(name)
    prompts = [tokens(length=length) for length in (3, 19, 11)]
    batch = FusedRunner(export.directory, export.conversion, rows=3)
    alone = [FusedRunner(export.directory, export.conversion, capacity=50) for _ in prompts]
    for row, prompt in enumerate(prompts):
        np.testing.assert_array_equal(batch.run(prompt, slice(row, row + 1)), alone[row].run(prompt))
    for step in tokens(rows=4, length=3)[:, :, None]:
        expected = np.concatenate([runner.run(step[row : row + 1]) for row, runner in enumerate(alone)])
        np.testing.assert_array_equal(batch.run(np.ascontiguousarray(step)), expected)


@pytest.mark.parametrize("name", PLAIN)
def test_other_architectures_get_the_plain_graph_and_a_reason(name: str, exported: Callable[[str], Exported]) -> None:
    export = exported(name)
    assert export.conversion.graph == "plain"
    assert PLAIN[name][2] in export.conversion.reason
    graph = onnx.load(export.directory / "model.onnx", load_external_data=False).graph
    constants = {item.name for item in graph.initializer}
    left = [node.name for node in graph.node if node.op_type in ("MatMul", "Gemm") and constants & set(node.input)]
    assert not left, "products that the recipe did not store"
    ids = tokens()
    actual = in_pieces(PlainRunner(export.directory, export.conversion), ids)
    np.testing.assert_allclose(actual, eager(export.model, ids), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("model_type", "changes", "words"),
    [
        ("qwen3_moe", {**MIXTURES["qwen3_moe"][1], "hidden_act": "gelu"}, "experts with the activation GELU"),
        ("laguna", MIXTURES["qwen3_moe"][1], "not among the fused architectures"),
    ],
)
def test_experts_that_cannot_be_fused_are_refused_in_one_sentence(
    model_type: str, changes: dict[str, Any], words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExportError, match=f"mixtures of experts only as a fused graph, and .*{words}"):
        convert(make_model(model_type, changes), tmp_path, FloatLowering())
    assert capfd.readouterr() == ("", "")


class Bessel(torch.nn.Module):
    """An activation for which ONNX has no operator."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


def test_a_failed_trace_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = make_model(*PLAIN["gpt_neox-narrow"][:2])
    model.gpt_neox.layers[0].mlp.act = Bessel()
    with pytest.raises(ExportError, match=r"^Optimum could not export gpt_neox: .*bessel_j0"):
        convert(model, tmp_path, FloatLowering())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("kind", ["longrope", "yarn"])
def test_longrope_bounds_the_default_context_by_layer_too(kind: str, by_layer: bool) -> None:
    rope: dict[str, Any] = {"rope_type": kind, "original_max_position_embeddings": 64}
    parameters = {"sliding_attention": {"rope_type": "default"}, "full_attention": rope} if by_layer else rope
    config = SimpleNamespace(max_position_embeddings=128, rope_parameters=parameters)
    assert default_context(config) == (64 if kind == "longrope" else 128)  # type: ignore[arg-type]
    assert longest_context(config) == 128  # type: ignore[arg-type]


_LITE = {  # DeepSeek V2 Lite
    **{"num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16, "hidden_size": 2048},
    **{"q_lora_rank": None, "kv_lora_rank": 512, "n_routed_experts": 64, "num_experts_per_tok": 6},
}


@pytest.mark.parametrize(
    ("model_type", "changes", "bytes_of_token"),
    [
        ("deepseek_v2", _LITE, 331_776),
        ("deepseek_v3", {}, 5_996_544),
        ("glm4_moe_lite", {}, 962_560),
        ("minicpm3", {}, 952_320),
    ],
)
def test_latent_attention_keeps_whole_keys_and_values(
    model_type: str, changes: dict[str, Any], bytes_of_token: int
) -> None:
    """Without changes, the sizes are those of the model that transformers names in its configuration."""
    with torch.device("meta"), no_init_weights():
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **changes))
    assert size_of(states(model).values(), "float16").per_token == bytes_of_token


def test_tied_weights_are_stored_once(exported: Callable[[str], Exported]) -> None:
    sizes = {name: (exported(name).directory / "model.onnx.data").stat().st_size for name in ("llama", "llama-tied")}
    assert sizes["llama"] - sizes["llama-tied"] >= VOCAB * 64 * 4


def test_same_model_gives_the_same_bytes(exported: Callable[[str], Exported], tmp_path: Path) -> None:
    first = exported("llama")
    convert(make_model(*FUSED["llama"]), tmp_path, FloatLowering())
    for name in ("model.onnx", "model.onnx.data"):
        assert (tmp_path / name).read_bytes() == (first.directory / name).read_bytes()


def test_a_llama_layer_is_eight_nodes(exported: Callable[[str], Exported]) -> None:
    graph = onnx.load(exported("llama").directory / "model.onnx", load_external_data=False).graph
    layer = [node for node in graph.node if "layers.1" in node.name and node.op_type != "Constant"]
    assert len(layer) == 8, [node.op_type for node in layer]


def test_conversion_does_not_change_the_model(tmp_path: Path) -> None:
    model = make_model(*FUSED["llama"])
    ids = tokens()
    before, state = eager(model, ids), list(model.state_dict())
    convert(model, tmp_path, FloatLowering())
    np.testing.assert_array_equal(eager(model, ids), before)
    assert list(model.state_dict()) == state
    assert model.config._attn_implementation == "eager"


def test_context_is_capped_where_positions_depend_on_length(exported: Callable[[str], Exported]) -> None:
    assert exported("llama").conversion.context_length == CONTEXT
    assert exported("phi3-longrope").conversion.context_length == 64


@pytest.mark.parametrize("name", ["phi3-longrope", "phi3-longrope-narrow"])
def test_long_factors_serve_all_lengths_of_a_longer_context(name: str, tmp_path: Path) -> None:
    """transformers takes them for every position of a sequence that is longer than the original context."""
    narrow = {"hidden_size": 32} if name.endswith("narrow") else {}  # a head of 8: the plain graph
    lists = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4} if narrow else {}
    model_type, changes = FUSED["phi3-longrope"]
    changes = {**changes, **narrow, "rope_scaling": {**changes["rope_scaling"], **lists}}
    free, short, long = (make_model(model_type, changes) for _ in range(3))
    assert (rope_factors(short.config, 64), rope_factors(long.config, CONTEXT)) == ("short", "long")
    fix_rope_factors(short, 64)
    fix_rope_factors(long, CONTEXT)
    ids = tokens(length=100)
    expected, first = eager(free, ids), eager(free, ids[:, :30])
    np.testing.assert_array_equal(eager(long, ids), expected)
    np.testing.assert_array_equal(eager(short, ids[:, :30]), first)
    assert np.abs(expected[:30] - first).max() > 0.01
    for model, context, wanted in ((long, CONTEXT, expected), (short, 64, eager(free, ids[:, :64]))):
        directory = tmp_path / str(context)
        directory.mkdir()
        conversion = convert(model, directory, FloatLowering(), context_length=context)
        runner = PlainRunner(directory, conversion) if narrow else FusedRunner(directory, conversion, capacity=CONTEXT)
        np.testing.assert_allclose(in_pieces(runner, ids[:, :context]), wanted, rtol=0, atol=TOLERANCE)


def test_other_than_float32_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="float32"):
        convert(make_model(*FUSED["llama"]).half(), tmp_path, FloatLowering())


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    model = make_model(*FUSED["llama"])
    model.config.quantization_config = {"quant_method": "gptq"}
    with pytest.raises(ExportError, match="quantised already"):
        convert(model, tmp_path, FloatLowering())


def test_a_failed_trace_leaves_the_model_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(*FUSED["llama"])
    before = eager(model, tokens())
    monkeypatch.setattr("infrs_export.graph.trace.output_layer", lambda model: 1 / 0)
    with pytest.raises(ExportError, match="division by zero"):
        convert(model, tmp_path, FloatLowering())
    np.testing.assert_array_equal(eager(model, tokens()), before)
    assert not list(tmp_path.glob(".trace-*"))


def test_context_beyond_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"1 to {CONTEXT}"):
        convert(make_model(*FUSED["llama"]), tmp_path, FloatLowering(), context_length=CONTEXT + 1)


def test_shorter_context_makes_a_shorter_table(tmp_path: Path) -> None:
    conversion = convert(make_model(*FUSED["llama"]), tmp_path, FloatLowering(), context_length=40)
    assert conversion.context_length == 40
    graph = onnx.load(tmp_path / "model.onnx", load_external_data=False).graph
    assert {tuple(item.dims) for item in graph.initializer if "rotary" in item.name} == {(40, 8)}


def test_the_document_of_models_lists_every_family() -> None:
    table = DOCUMENT.read_text().split(HEADER)[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.replace("\\|", "").split("|")[1:-1]] for row in table]
    assert {row[0]: row[1] for row in cells} == {f"`{name}`": f"`{row.architecture}`" for name, row in FAMILIES.items()}
    for row in cells:
        difference, int8, int4 = map(float, row[4:7])
        assert difference < TOLERANCE
        assert int8 < 0.1
        assert int4 < 0.2
