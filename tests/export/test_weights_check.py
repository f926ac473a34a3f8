"""A checkpoint fills its model exactly, or is refused by the name of what is missing or left over."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from arch_models import FUSED, make_model
from embedding_models import make_embedding_model
from infrs_export.sources.checks.places import Place
from infrs_export.sources.checks.tensor_values import check_values
from infrs_export.sources.resolve import Model, resolve
from infrs_export.sources.torch_model import load_encoder, load_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from infrs.errors import SourceError

Tensors = dict[str, Tensor]
Change = Callable[[Tensors], Tensors]
LAYER = "model.layers.1."
PRODUCT = LAYER + "mlp.up_proj"
NORM = "model.norm.weight"


def model_of(folder: Path) -> Model:
    return resolve(str(folder), revision="main", model_id="tiny", note=print)


def rewrite(folder: Path, change: Change) -> Path:
    path = folder / "model.safetensors"
    save_file({name: value.clone() for name, value in change(load_file(path)).items()}, path, {"format": "pt"})
    return folder


def without(*parts: str) -> Change:
    return lambda tensors: {name: value for name, value in tensors.items() if not any(part in name for part in parts)}


def named(old: str, new: str) -> Change:
    return lambda tensors: {name.replace(old, new): value for name, value in tensors.items()}


def also(name: str, *shape: int) -> Change:
    return lambda tensors: tensors | {name: torch.ones(shape)}


def stored(name: str, change: Callable[[Tensor], Tensor]) -> Change:
    return lambda tensors: tensors | {name: change(tensors[name])}


def instead(name: str, *others: str) -> Change:
    """Tensors of a quantised product in place of its weight."""
    return lambda tensors: without(name)(tensors) | {other: torch.ones(4) for other in others}


REFUSED: dict[str, tuple[Change, str]] = {
    "a product": (without(LAYER + "mlp.down_proj"), r"lack model\.layers\.1\.mlp\.down_proj\.weight;"),
    "a layer": (without(LAYER), r"lack model\.layers\.1\.input_layernorm\.weight and 8 more"),
    "the last norm": (without("model.norm"), r"lack model\.norm\.weight"),
    "an untied head": (without("lm_head"), r"lack lm_head\.weight"),
    "the embedding": (without("embed_tokens"), r"lack model\.embed_tokens\.weight"),
    "another prefix": (lambda tensors: {f"x.{name}": value for name, value in tensors.items()}, "lack lm_head"),
    "another name": (named("lm_head.", "lm_head.0."), r"lack lm_head\.weight"),
    "wrapped by PEFT": (lambda tensors: {f"base_model.model.{n}": v for n, v in tensors.items()}, "merge_and_unload"),
    "LoRA beside": (also("model.layers.0.self_attn.q_proj.lora_A.weight", 4, 64), "merge_and_unload"),
    "a bias": (also("model.layers.0.self_attn.q_proj.bias", 64), r"hold model\.layers\.0\.self_attn\.q_proj\.bias,"),
    "a scale": (also("model.layers.0.mlp.up_proj.weight_scale", 1), "weight_scale"),
    "a third layer": (lambda tensors: tensors | {n.replace(".1.", ".2."): v for n, v in tensors.items()}, "8 more"),
    "a classifier": (also("score.weight", 2, 64), r"hold score\.weight"),
    "a shape": (
        stored(PRODUCT + ".weight", lambda value: value[:9]),
        r"up_proj\.weight of shape \[9, 64\].*\[96, 64\]",
    ),
    "a transposed matrix": (stored(PRODUCT + ".weight", lambda value: value.T.contiguous()), r"of shape \[64, 96\]"),
    "a scalar": (stored(NORM, lambda value: value[0]), r"model\.norm\.weight of shape \[\]"),
    "a norm of one value": (stored(NORM, lambda value: value[:1]), r"model\.norm\.weight of shape \[1\]"),
    "with and without a prefix": (also("norm.weight", 64), r"hold model\.norm\.weight and norm\.weight, which are one"),
    "not a number": (stored(NORM, lambda value: value * torch.nan), r"model\.norm\.weight of tiny holds NaN"),
    "infinity in one row": (
        stored("model.embed_tokens.weight", lambda value: value.index_fill(0, torch.tensor([96]), torch.inf)),
        r"model\.embed_tokens\.weight of tiny holds NaN or infinity",
    ),
    "integers": (stored(PRODUCT + ".weight", lambda value: value.to(torch.int8)), r"up_proj\.weight as I8"),
    "8-bit floats": (stored(NORM, lambda value: value.to(torch.float8_e4m3fn)), r"norm\.weight as F8_E4M3"),
    "truth values": (stored(NORM, lambda value: value > 0), r"norm\.weight as BOOL"),
    "FP8 with scales": (also(PRODUCT + ".weight_scale_inv", 1, 1), r"to FP8.*up_proj\.weight_scale_inv"),
    "GPTQ": (instead(PRODUCT, PRODUCT + ".qweight", PRODUCT + ".scales"), "by GPTQ or AWQ"),
    "MLX": (also(PRODUCT + ".scales", 96, 2), "by MLX"),
    "bitsandbytes": (also(PRODUCT + ".weight.absmax", 4), "by bitsandbytes"),
    "MXFP4": (instead(PRODUCT, PRODUCT + "_blocks", PRODUCT + "_scales"), "to MXFP4"),
}
HARMLESS: dict[str, Change] = {
    "nothing": lambda tensors: tensors,
    "frequencies": also("model.layers.0.self_attn.rotary_emb.inv_freq", 8),
    "tables of cosines": also("model.layers.0.self_attn.rotary_emb.cos_cached", 1, 1, 64, 16),
    "64-bit floats": stored(NORM, lambda value: value.double()),
    "a draft head": also("mtp.layers.0.input_layernorm.weight", 64),
}


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untied") / "model"
    make_model("llama", {}).save_pretrained(folder)
    return folder


@pytest.fixture
def copied(untied: Path, tmp_path: Path) -> Path:
    import shutil  # noqa: PLC0415

    return Path(shutil.copytree(untied, tmp_path / "copy"))


@pytest.mark.parametrize("kind", REFUSED)
def test_a_checkpoint_that_does_not_fill_its_model_is_refused(copied: Path, kind: str) -> None:
    change, words = REFUSED[kind]
    with pytest.raises(SourceError, match=words):
        load_model(model_of(rewrite(copied, change)))


@pytest.mark.parametrize("name", ["glm4_moe", "deepseek_v3"])
@pytest.mark.parametrize("layer", [2, 3])
def test_layers_that_draft_tokens_are_ignored(name: str, layer: int, tmp_path: Path) -> None:
    """Of a model with two layers and one that drafts."""
    make_model(*FUSED[name]).save_pretrained(tmp_path / "model")
    folder = rewrite(tmp_path / "model", also(f"model.layers.{layer}.eh_proj.weight", 64, 128))
    if layer == 2:
        load_model(model_of(folder))
    else:
        with pytest.raises(SourceError, match=r"hold model\.layers\.3\.eh_proj\.weight"):
            load_model(model_of(folder))


@pytest.mark.parametrize("kind", HARMLESS)
def test_tensors_that_no_pass_reads_are_ignored(copied: Path, kind: str) -> None:
    load_model(model_of(rewrite(copied, HARMLESS[kind])))


@pytest.mark.parametrize(
    ("names", "accepted"),
    [({"bias": (1, 1, 8, 8), "masked_bias": ()}, True), ({"bias": (64,)}, False), ({"masked_bias": (64,)}, False)],
)
def test_mask_and_bias_are_distinguished_by_shape(
    tmp_path: Path, names: dict[str, tuple[int, ...]], accepted: bool
) -> None:
    make_model("llama", {}).save_pretrained(tmp_path / "model")
    added = {f"model.layers.0.attention.{name}": torch.ones(shape) for name, shape in names.items()}
    model = model_of(rewrite(tmp_path / "model", lambda tensors: tensors | added))
    if accepted:
        load_model(model)
    else:
        with pytest.raises(SourceError, match=r"attention\."):
            load_model(model)


def test_a_tied_checkpoint_may_hold_the_head_alone(tmp_path: Path) -> None:
    """transformers ties the embedding to the parameter that the files hold."""
    made = make_model("llama", {"tie_word_embeddings": True})
    made.save_pretrained(tmp_path / "model")
    rewrite(tmp_path / "model", named("model.embed_tokens", "lm_head"))
    model: Any = load_model(model_of(tmp_path / "model"))
    assert model.model.embed_tokens.weight is model.lm_head.weight
    assert torch.equal(model.lm_head.weight, made.get_output_embeddings().weight)


@pytest.mark.parametrize("name", ["lm_head.weight", NORM])
def test_a_parameter_that_is_not_the_tensor_of_its_name_is_refused(untied: Path, name: str) -> None:
    """Whatever transformers does while it loads, the values afterwards are those of the files."""
    model = load_model(model_of(untied))
    uses = {name: Place(name) for name in model.state_dict()}
    check_values("tiny", model, untied, uses)
    with torch.no_grad():
        model.get_parameter(name).view(-1)[-1] += 1e-6
    with pytest.raises(SourceError, match=f"loads {name} with other values"):
        check_values("tiny", model, untied, uses)


def test_tied_tensors_must_be_equal(tmp_path: Path) -> None:
    made = make_model("llama", {"tie_word_embeddings": True})
    made.save_pretrained(tmp_path / "model")
    both = {name: made.lm_head.weight.detach() for name in ("lm_head.weight", "model.embed_tokens.weight")}
    load_model(model_of(rewrite(tmp_path / "model", lambda tensors: tensors | both)))
    both["lm_head.weight"] = both["lm_head.weight"] + 1e-3
    with pytest.raises(SourceError, match=r"model\.embed_tokens\.weight and lm_head\.weight differ in the weights"):
        load_model(model_of(rewrite(tmp_path / "model", lambda tensors: tensors | both)))


@pytest.mark.parametrize("value", ["false", "true", None, 0, 7, 1.5, [], {}, False, ...])
@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_wrong_ties_of_a_tied_checkpoint_are_named(tmp_path: Path, value: object, model_type: str) -> None:
    """`...` is no value; Llama's default is false, GPT-2's is true."""
    make_model(model_type, {"tie_word_embeddings": True}).save_pretrained(tmp_path / "model")
    if value is ... and model_type == "gpt2":
        load_model(model_of(ties(tmp_path / "model", value)))
        return
    with pytest.raises(SourceError, match=r"config\.json.* tie_word_embeddings"):
        load_model(model_of(ties(tmp_path / "model", value)))


@pytest.mark.parametrize("value", [True, 1, "true", 7])
def test_wrong_ties_of_an_untied_checkpoint_are_named(copied: Path, value: object) -> None:
    with pytest.raises(SourceError, match=r"config\.json.* tie_word_embeddings"):
        load_model(model_of(ties(copied, value)))


def ties(folder: Path, value: object) -> Path:
    path = folder / "config.json"
    fields = json.loads(path.read_text())
    fields.pop("tie_word_embeddings", None)
    path.write_text(json.dumps(fields | ({} if value is ... else {"tie_word_embeddings": value})))
    return folder


@pytest.mark.parametrize(("model_type", "prefix"), [("llama", "model."), ("gpt2", "transformer.")])
def test_a_tied_base_model_without_its_prefix_is_whole(tmp_path: Path, model_type: str, prefix: str) -> None:
    made = make_model(model_type, {"tie_word_embeddings": True})
    made.save_pretrained(tmp_path / "model")
    load_model(model_of(rewrite(tmp_path / "model", named(prefix, ""))))
    with pytest.raises(SourceError, match=r"lack .*1\."):
        load_model(model_of(rewrite(tmp_path / "model", without("s.1.", "h.1."))))


def index(folder: Path, change: Callable[[dict[str, str]], None]) -> Path:
    path = folder / "model.safetensors.index.json"
    value = json.loads(path.read_text())
    change(value["weight_map"])
    path.write_text(json.dumps(value))
    return folder


def test_an_index_says_what_its_shards_hold(tmp_path: Path) -> None:
    """transformers believes the index: a tensor that it lists and no shard holds would be random."""
    folder, norm = tmp_path / "model", "model.norm.weight"
    make_model("llama", {}).save_pretrained(folder, max_shard_size="60KB")
    load_model(model_of(folder))
    moved = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    other = next(shard for shard in moved.values() if shard != moved[norm])
    for change, words in (
        (lambda listed: listed.update({norm: other}), f"disagree on {norm}"),
        (lambda listed: listed.pop(norm), "not listed"),
        (lambda listed: listed.update({norm: moved[norm], "model.extra": other}), r"disagree on model\.extra"),
    ):
        index(folder, change)
        with pytest.raises(SourceError, match=words):
            load_model(model_of(folder))


def test_one_file_and_shards_together_are_ambiguous(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make_model("llama", {}).save_pretrained(folder, max_shard_size="60KB")
    save_file({"a": torch.ones(1)}, folder / "model.safetensors")
    with pytest.raises(SourceError, match="remove one of the two"):
        model_of(folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model-00001-of-00001.safetensors", r"model\.safetensors\.index\.json is missing"),
        ("MODEL.Safetensors", r"holds MODEL\.Safetensors, but"),
        ("consolidated.safetensors", r"holds consolidated\.safetensors, but"),
    ],
)
def test_weights_under_another_name_are_named(copied: Path, name: str, words: str) -> None:
    (copied / "model.safetensors").rename(copied / name)
    with pytest.raises(SourceError, match=words):
        model_of(copied)


def test_a_shard_that_the_index_does_not_list_is_refused(tmp_path: Path) -> None:
    """It is left from an older save, or the index is that of another one."""
    folder = tmp_path / "model"
    make_model("llama", {}).save_pretrained(folder, max_shard_size="60KB")
    save_file({"a": torch.ones(1)}, folder / "model-00001-of-00099.safetensors")
    with pytest.raises(SourceError, match=r"model-00001-of-00099.*does not list it"):
        model_of(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("pooler."), None),
        (also("cls.predictions.bias", 320), None),
        (also("embeddings.position_ids", 1, 64), None),
        (lambda tensors: {f"bert.{name}": value for name, value in tensors.items()}, None),
        (without("encoder.layer.1.output.dense.weight"), r"lack encoder\.layer\.1\.output\.dense\.weight"),
        (also("encoder.layer.0.attention.self.query.extra", 64), "extra"),
    ],
)
def test_an_encoder_is_filled_too(tmp_path: Path, change: Change, words: str | None) -> None:
    """Heads and the pooler are not: an embedding is made of the last hidden states."""
    model = model_of(rewrite(make_embedding_model(tmp_path / "tiny"), change))
    if words is None:
        load_encoder(model)
    else:
        with pytest.raises(SourceError, match=words):
            load_encoder(model)
