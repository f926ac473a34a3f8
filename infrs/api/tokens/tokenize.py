"""Text to token ids, token ids to text, and conversations to prompts, without the engine."""

from __future__ import annotations

from typing import Any

from infrs.api.chat.convert import to_conversation
from infrs.api.chat.prompt import encode_prompt
from infrs.api.common.engine_request import check_token_id
from infrs.api.tokens.request import ApplyTemplateRequest, DetokenizeRequest, TokenizeChatRequest, TokenizeRequest
from infrs.errors import ContextLengthError
from infrs.models.loaded import LoadedModel

_MIN_LIMIT = 1 << 16  # tokens; clients count and split documents for models of any context
_CONTEXTS = 4  # a client counts a prompt to learn how much of it is too long


def text_limit(model: LoadedModel) -> int:
    """Return the most tokens of a text that is tokenised or detokenised only to be shown or counted."""
    return max(_MIN_LIMIT, _CONTEXTS * model.max_model_len)


def tokenize(model: LoadedModel, body: TokenizeRequest | TokenizeChatRequest) -> dict[str, Any]:
    """Return the token ids of a text, or of a conversation's prompt. Raises RequestError, ContextLengthError."""
    limit = text_limit(model)
    if isinstance(body, TokenizeRequest):
        model.tokenizer.check_length(body.text, limit, body.text_param)
        ids = model.tokenizer.encode(body.text, special=body.special)
    else:
        ids = encode_prompt(model, to_conversation(body), limit)
    tokens = {"tokens": ids, "count": len(ids), "max_model_len": model.limits.max_model_len}
    return {**tokens, "token_strs": [*map(model.token_bytes.spelling, ids)]} if body.return_token_strs else tokens


def tokenizer_info(model: LoadedModel) -> dict[str, Any]:
    """Return special tokens and chat template under transformers' names, as lm-eval's remote tokenizer reads them."""
    special = model.manifest.special_tokens
    ids = {"bos_token": special.bos, "eos_token": special.eos[0], "pad_token": special.pad}
    tokens = {name: None if token_id is None else model.tokenizer.token(token_id) for name, token_id in ids.items()}
    return {**tokens, "model_max_length": model.max_model_len, "chat_template": model.chat_format.source or None}


def detokenize(model: LoadedModel, body: DetokenizeRequest) -> dict[str, str]:
    """Return the text of token ids, under vLLM's name and llama.cpp's. An incomplete character becomes U+FFFD.

    Raises ContextLengthError for too many ids, RequestError for ids outside the vocabulary.
    """
    limit = text_limit(model)
    if len(body.tokens) > limit:
        raise ContextLengthError(
            f"tokens has {len(body.tokens)} elements, but at most {limit} are allowed; shorten tokens", param="tokens"
        )
    for token_id in body.tokens:
        check_token_id(token_id, model.manifest.vocab_size, "tokens")
    text = model.tokenizer.decode(body.tokens, skip_special=bool(body.skip_special_tokens))
    return {"prompt": text, "content": text}


def apply_template(model: LoadedModel, body: ApplyTemplateRequest) -> dict[str, str]:
    """Return the prompt of a conversation, decoded from its token ids. Raises RequestError."""
    ids = encode_prompt(model, to_conversation(body), text_limit(model))
    return {"prompt": model.tokenizer.decode(ids, skip_special=False)}
