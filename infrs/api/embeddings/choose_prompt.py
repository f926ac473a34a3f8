"""Choose the prompt that a model's texts begin with."""

from __future__ import annotations

import re

from infrs.api.embeddings.request import EmbeddingRequest
from infrs.bundle.manifest import EmbeddingManifest
from infrs.errors import RequestError

# Names of one purpose in sentence-transformers, Cohere, Jina, Google, NVIDIA and Voyage, in the order of preference.
_PURPOSES = (
    ("query", "search_query", "retrieval_query"),
    ("document", "passage", "corpus", "search_document", "retrieval_document", "retrieval_passage"),
)


def choose_prompt(manifest: EmbeddingManifest, body: EmbeddingRequest) -> str:
    """Return the prompt of a request: its own, the one that it names, or the model's default.

    Raises RequestError for a prompt that the model does not have, and for a prompt of token ids.
    """
    prompt, param = _choose(manifest, body)
    if param and prompt and not isinstance(body.input[0], str):
        raise RequestError(
            f"{param}: token ids are embedded unchanged, so they take no prompt; send texts, or leave {param} out",
            param=param,
        )
    return prompt


def _choose(manifest: EmbeddingManifest, body: EmbeddingRequest) -> tuple[str, str]:
    """Return the prompt, and the field that names it; empty if none does."""
    if body.prompt is not None:
        return body.prompt, "prompt"
    if body.prompt_name is not None:
        if body.prompt_name not in manifest.prompts:
            raise _unknown(manifest, body.prompt_name, "prompt_name")
        return manifest.prompts[body.prompt_name], "prompt_name"
    for param in ("input_type", "task"):
        if (purpose := getattr(body, param)) is not None:
            return _for_purpose(manifest, purpose, param), param
    return manifest.prompt, ""


def _for_purpose(manifest: EmbeddingManifest, purpose: str, param: str) -> str:
    """Return the prompt for a purpose. A model without one for queries or documents embeds these as they are."""
    prompts = {_plain(name): text for name, text in manifest.prompts.items()}
    names = next((names for names in _PURPOSES if _plain(purpose) in names), ())
    for name in (_plain(purpose), *names):
        if name in prompts:
            return prompts[name]
    if not names:
        raise _unknown(manifest, purpose, param)
    return ""


def _plain(name: str) -> str:
    """Return a name as the table has it: `Retrieval-query`, `retrieval.query` and `RETRIEVAL_QUERY` are one."""
    return re.sub(r"[^a-z0-9]+", "_", name.casefold())


def _unknown(manifest: EmbeddingManifest, name: str, param: str) -> RequestError:
    has = f"its prompts are {', '.join(manifest.prompts)}" if manifest.prompts else "it has no prompts"
    return RequestError(
        f"{param}: {manifest.source.model_id} has no prompt {name!a:.100}; {has}, and `prompt` takes any text",
        param=param,
    )
