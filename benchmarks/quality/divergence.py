"""How faithful infrs's dtypes and llama.cpp's types of the same weights are to float32.

    python -m benchmarks.quality.divergence [--pairs int4:Q4_0,int8:Q8_0] [--again]

Writes the quality table of docs/benchmarks.md. Each scores the same tokens of a held text (about 2,000, in pieces of
512), and of Python's reference manual as this interpreter brings it (about 6,000), on which nothing was chosen: infrs
through the engine's runner with the kernels that the server takes, llama.cpp through its own library out of the
xllamacpp wheel, so that what either rounds on the way counts. The truth is the float32 bundle run by ONNX Runtime's
kernels. Busy or quiet, the figures are the same; they are kept in benchmarks/results/quality.json, and measured again
when weights, kernels or versions change.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import onnx
from gguf import GGUFReader

from benchmarks.lib import results
from benchmarks.lib.models import MODELS_CACHE, PAIRS, bundle, gguf, parse_pairs
from benchmarks.peers import page
from benchmarks.quality.llamacpp_logits import logits_of
from infrs import native
from infrs.bundle.manifest import chat_manifest, read_manifest
from infrs.engine.runners.opening import open_runner
from infrs.engine.runners.runner import Rows, Runner, Segment
from infrs.native.options import AUTO, KernelOptions

TEXT = Path(__file__).parent / "held_text.txt"
MANUAL_CHARACTERS = 24_000
PIECE = 512

Logits = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int64]
# kl: mean in nats. top1: share. tokens. manual: the same three of the manual. weight_bytes. key: of what was measured
Figures = dict[str, Any]


def sample_tokens(bundle: Path) -> Tokens:
    """The held text as the bundle's tokenizer reads it, int64."""
    return tokens_of(bundle, TEXT.read_text())


def manual_tokens(bundle: Path) -> Tokens:
    """The first topics of Python's reference manual, alike."""
    from pydoc_data.topics import topics  # noqa: PLC0415

    return tokens_of(bundle, "\n\n".join(topics[name] for name in sorted(topics))[:MANUAL_CHARACTERS])


TEXTS = (sample_tokens, manual_tokens)


def tokens_of(bundle: Path, text: str) -> Tokens:
    from tokenizers import Tokenizer  # noqa: PLC0415  # not in a process that only starts others

    return np.array(Tokenizer.from_file(str(bundle / "tokenizer.json")).encode(text).ids, np.int64)


def pieces_of(tokens: Tokens) -> list[Tokens]:
    """What is scored in one run each, from its own beginning."""
    return [tokens[start : start + PIECE] for start in range(0, len(tokens), PIECE)]


def score(runner: Runner, tokens: Tokens) -> Iterator[Logits]:
    """Logits of all positions, piece by piece."""
    for piece in pieces_of(tokens):
        yield runner.run([Segment(0, 0, piece, range(len(piece)))]).copy()


def divergence(reference: Logits, logits: Iterable[Logits]) -> tuple[float, float]:
    """Mean KL divergence from `reference` in nats, and the share of positions with the same most likely token."""
    kl, agree, start = 0.0, 0, 0
    for piece in logits:
        for first in range(0, len(piece), 128):
            got = log_softmax(piece[first : first + 128])
            expected = log_softmax(reference[start : start + len(got)])
            kl += float((np.exp(expected) * (expected - got)).sum())
            agree += int((expected.argmax(-1) == got.argmax(-1)).sum())
            start += len(got)
    return abs(kl) / start, agree / start


def log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    scores: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return scores


def runner_of(bundle: Path, kernels: KernelOptions = AUTO) -> Runner:
    manifest = chat_manifest(read_manifest(bundle))
    return open_runner(bundle, manifest, Rows(1, PIECE), threads=0, kernels=kernels)


def score_bundle(bundle: Path, tokens: Tokens) -> Iterator[Logits]:
    """Logits of all positions, by the kernels that the server takes."""
    return score(runner_of(bundle), tokens)


def score_gguf(file: Path, tokens: Tokens) -> Iterator[Logits]:
    """Logits of all positions, by llama.cpp."""
    return logits_of(file, pieces_of(tokens))


def reference_logits(models_cache: Path, tokens_in: Callable[[Path], Tokens] = sample_tokens) -> Logits:
    """Logits of the float32 bundle, float32 [tokens, vocab_size], from ONNX Runtime's own kernels."""
    folder = bundle(models_cache, "float32")
    return np.concatenate(list(score(runner_of(folder, KernelOptions("onnxruntime")), tokens_in(folder))))


def measure(pairs: str, models_cache: Path, *, again: bool = False) -> dict[str, Figures]:
    """Figures of both sides of each pair, by server name; those that are kept and still hold are not measured again."""
    kept: dict[str, Figures] = {} if again else results.load("quality")
    truth = cache(partial(reference_logits, models_cache))  # by text
    for dtype, kind in parse_pairs(pairs):
        folder, file = bundle(models_cache, dtype), gguf(kind)
        wanted: list[tuple[str, Figures, Callable[[Tokens], Iterator[Logits]]]] = [
            (f"infrs {dtype}", facts_of_bundle(folder), partial(score_bundle, folder)),
            (f"llama.cpp {kind}", facts_of_gguf(file), partial(score_gguf, file)),
        ]
        texts = [tokens_in(folder) for tokens_in in TEXTS]
        read = f"{zlib.crc32(np.concatenate(texts).tobytes()):08x}"
        for name, facts, logits in wanted:
            facts["key"] += f" {read}"
            if kept.get(name, {}).get("key") != facts["key"]:
                click.echo(f"Scoring two texts: {name}", err=True)
                held, manual = (
                    figures_of(truth(tokens_in), logits(text)) for tokens_in, text in zip(TEXTS, texts, strict=True)
                )
                kept[name] = facts | held | {"manual": manual}
                results.save("quality", kept)
    return kept


def figures_of(reference: Logits, logits: Iterable[Logits]) -> Figures:
    kl, top1 = divergence(reference, logits)
    return {"kl": kl, "top1": top1, "tokens": len(reference)}


def facts_of_bundle(bundle: Path) -> Figures:
    library = native.library()
    kernels = native.build_id(library) if library else version("onnxruntime")
    data = read_manifest(bundle).files["model.onnx.data"]
    return {"key": f"{data.sha256[:16]} {kernels}", "weight_bytes": weight_bytes(bundle)}


def weight_bytes(bundle: Path) -> int:
    """Bytes of the tensors that come from the model, tied ones once: no tables of positions, no padding."""
    stored: dict[object, int] = {}
    for tensor in onnx.load(bundle / "model.onnx", load_external_data=False).graph.initializer:
        if not tensor.name.startswith("model.rotary_emb."):
            place = {entry.key: entry.value for entry in tensor.external_data}
            stored[place.get("offset", tensor.name)] = int(place.get("length", len(tensor.raw_data)))
    return sum(stored.values())


def facts_of_gguf(path: Path) -> Figures:
    size = sum(int(tensor.n_bytes) for tensor in GGUFReader(path).tensors)
    return {"key": f"{path.stat().st_size} xllamacpp {version('xllamacpp')}", "weight_bytes": size}


@click.command()
@click.option("--pairs", default=PAIRS, show_default=True, help="dtype:type, separated by commas.")
@click.option("--again", is_flag=True, help="Measure what is kept too.")
@click.option("--cache", "models_cache", default=MODELS_CACHE, type=click.Path(path_type=Path))
def main(pairs: str, models_cache: Path, *, again: bool) -> None:
    """Measure, and write the page with what speed is kept."""
    measure(pairs, models_cache, again=again)
    page.write()


if __name__ == "__main__":
    main()
