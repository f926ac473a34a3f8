"""What `model.draft` names, and the refusal of a draft model with other tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hollow_bundles import publish
from manifests import chat_manifest

from infrs.bundle.files import BundleFiles
from infrs.bundle.manifest import FileEntry
from infrs.config.settings import EngineSettings, ModelSettings
from infrs.errors import BundleNotFoundError, ConfigError
from infrs.models.draft_bundle import DraftBundle, check_drafts, check_vocabulary, draft_source, find_draft
from infrs.models.load import check_kinds
from infrs.text.tokenizer import TOKENIZER_FILE, Tokenizer


@pytest.mark.parametrize(
    ("draft", "model_id", "revision", "dtype"),
    [
        ("int4", "org/large", "v2", "int4"),
        ("float16", "org/large", "v2", "float16"),
        ("org/small", "org/small", "main", "auto"),
        ("org/small:int4", "org/small", "main", "int4"),
        ("./folder:int8", "./folder", "main", "int8"),
        ("./a:b", "./a:b", "main", "auto"),
        (":int4", ":int4", "main", "auto"),
    ],
)
def test_the_model_that_a_draft_setting_names(draft: str, model_id: str, revision: str, dtype: str) -> None:
    model = ModelSettings(model_id="org/large", revision="v2", draft=draft, cache_dir=Path("there"))
    source = draft_source(model)
    assert isinstance(source, ModelSettings)
    assert (source.model_id, source.revision, source.dtype, source.draft) == (model_id, revision, dtype, "")
    assert source.cache_dir == Path("there")


def test_a_draft_model_is_found_in_the_cache_or_by_its_path(tmp_path: Path) -> None:
    bundle = publish(tmp_path, "org/large", "int4")
    model = ModelSettings(model_id="org/large", cache_dir=tmp_path)
    assert find_draft(model) is None
    for draft in ("int4", "org/large", "org/large:int4", str(bundle)):
        assert find_draft(model.model_copy(update={"draft": draft})) == bundle
    with pytest.raises(BundleNotFoundError, match="no int8 bundle of org/large at revision main"):
        find_draft(model.model_copy(update={"draft": "int8"}))


def tokenizer(tokens: list[str]) -> str:
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": tokens[0]}})


def draft_bundle(folder: Path, tokens: list[str], vocab_size: int = 256) -> DraftBundle:
    (folder / TOKENIZER_FILE).write_text(tokenizer(tokens))
    files = {TOKENIZER_FILE: FileEntry(size=1, sha256="1" * 64)}
    manifest = chat_manifest("org/small", vocab_size=vocab_size, files=files)
    return DraftBundle(folder, manifest, BundleFiles(manifest, []))


@pytest.mark.parametrize(
    ("tokens", "vocab_size", "words"),
    [
        (["a", "b", "x"], 256, "token 2 is 'x' in org/small, but 'c' in org/large"),
        (["a", "b"], 256, "token 2 is None in org/small, but 'c' in org/large"),
        (["a", "b", "c", "d"], 256, "token 3 is 'd' in org/small, but None in org/large"),
        (["a", "b", "c"], 320, "org/small scores 320 tokens, but org/large 256"),
    ],
)
def test_a_draft_model_with_other_tokens_is_refused(
    tmp_path: Path, tokens: list[str], vocab_size: int, words: str
) -> None:
    manifest = chat_manifest("org/large", files={TOKENIZER_FILE: FileEntry(size=1, sha256="2" * 64)})
    with pytest.raises(ConfigError) as caught:
        check_vocabulary(manifest, Tokenizer(tokenizer(["a", "b", "c"])), draft_bundle(tmp_path, tokens, vocab_size))
    hint = "name a draft model with the same vocabulary, such as the model itself in int4"
    assert str(caught.value) == f"model.draft: {words}; {hint}"


def test_a_draft_model_with_the_same_tokens_in_another_file_is_not_refused(tmp_path: Path) -> None:
    manifest = chat_manifest("org/large", files={TOKENIZER_FILE: FileEntry(size=1, sha256="2" * 64)})
    check_vocabulary(manifest, Tokenizer(tokenizer(["a", "b", "c"])), draft_bundle(tmp_path, ["a", "b", "c"]))


def test_a_draft_model_needs_speculation() -> None:
    models = [ModelSettings(), ModelSettings(draft="int4")]
    check_drafts(models, EngineSettings())
    check_drafts(models[:1], EngineSettings(speculation=False))
    with pytest.raises(
        ConfigError, match=r"^model\.draft needs engine\.speculation; set that to true, or remove the draft$"
    ):
        check_drafts(models, EngineSettings(speculation=False))


def test_other_kinds_of_models_have_no_draft_model() -> None:
    other = chat_manifest("a/b").model_copy(update={"kind": "embedding"})
    embedding = type("Embedding", (), {"source": other.source, "kind": "embedding"})()
    with pytest.raises(ConfigError, match="a/b is an embedding model, which has no draft; remove it"):
        check_kinds([ModelSettings(model_id="a/b", draft="int4")], [embedding])
