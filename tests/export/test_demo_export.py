"""The demo model, really exported: what its bundles say of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from infrs_export.parity.chat import LIMITS

from infrs.bundle.files import verify_bundle
from infrs.bundle.manifest import Dtype

pytestmark = pytest.mark.slow


# Half of what the gate allows: a change that costs faithfulness shows here first.
@pytest.mark.parametrize(("dtype", "kl", "top1"), [("int8", 0.01, 0.93), ("int4", 0.25, 0.70)])
def test_quantised_demo_is_as_faithful_as_measured(
    demo_bundle: Callable[[Dtype], Path], dtype: Dtype, kl: float, top1: float
) -> None:
    parity = verify_bundle(demo_bundle(dtype)).parity
    assert float(parity["kl"]) <= kl < LIMITS[dtype].kl
    assert float(parity["top1"]) >= top1


def test_manifest_of_the_demo(demo_bundle: Callable[[Dtype], Path]) -> None:
    manifest = verify_bundle(demo_bundle("int8"))
    assert manifest.source.kind == "gguf"
    assert manifest.source.commit is None
    assert manifest.source.sha256 is not None
    assert (manifest.architecture, manifest.graph, manifest.graph_reason) == ("llama", "fused", "")
    assert (manifest.vocab_size, manifest.context_length) == (49152, 8192)
    assert manifest.special_tokens.eos == (2,)  # <|im_end|>
    assert {"config.json", "tokenizer.json", "chat_template.jinja"} <= manifest.files.keys()
