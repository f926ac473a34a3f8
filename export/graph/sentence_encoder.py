"""An embedding model in PyTorch: the transformer, its pooling and its dense layers."""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from infrs.errors import SourceError

from ..sources.checkpoint import read_header
from ..sources.checks.coverage import match_tensors
from ..sources.checks.tensor_values import check_finite
from ..sources.embeddings.layout import Dense, Layout
from ..sources.resolve import Model
from ..sources.torch_model import load_encoder


class SentenceEncoder(nn.Module):
    """An encoder that computes the vectors of sentence-transformers: the reference for a bundle."""

    def __init__(self, transformer: PreTrainedModel, layout: Layout, dense: list[nn.Linear]) -> None:
        super().__init__()
        self.transformer = transformer
        self.layout = layout
        self.dense = nn.ModuleList(dense)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the vectors float32 [B, dimensions] of ids int64 [B, S], padded on the right, with a mask [B, S]."""
        hidden = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        vectors = pool(hidden, attention_mask, self.layout.pooling)
        products = iter(self.dense)
        for step in self.layout.steps:
            if isinstance(step, Dense):
                vectors = getattr(nn, step.activation)()(next(products)(vectors))
            else:
                vectors = nn.functional.normalize(vectors, dim=-1)
        return vectors

    @property
    def dimensions(self) -> int:
        """Return the width of a vector."""
        return self.layout.dense[-1].out_features if self.dense else int(self.transformer.config.hidden_size)

    @property
    def max_tokens(self) -> int:
        """Return the maximum number of tokens of a text: the layout's, or the transformer's if that is lower."""
        longest = longest_text(self.transformer)
        return min(self.layout.max_tokens or longest, longest)


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Return one vector [B, H] per text, from token vectors [B, S, H] and a mask [B, S] of ones, then zeros."""
    present = mask[..., None].to(hidden.dtype)
    if pooling == "weightedmean":  # a token counts as often as its place, from 1
        present = present * torch.arange(1, hidden.shape[1] + 1)[:, None]
    match pooling:
        case "cls":
            return hidden[:, 0]
        case "lasttoken":
            return hidden[torch.arange(len(hidden)), mask.sum(1) - 1]
        case "max":
            return hidden.masked_fill(present == 0, -torch.inf).amax(1)
        case "mean_sqrt_len":
            return (hidden * present).sum(1) / present.sum(1).sqrt()
        case _:
            return (hidden * present).sum(1) / present.sum(1)


def longest_text(transformer: PreTrainedModel) -> int:
    """Return the number of tokens that the transformer has positions for.

    In RoBERTa's family, positions start after that of the padding. Raises SourceError if the config has no maximum.
    """
    for name, module in transformer.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            first = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - first
    longest = getattr(transformer.config, "max_position_embeddings", None)
    if not isinstance(longest, int):
        raise SourceError("this model's config names no longest text; infrs cannot serve it")
    return longest


def load_sentence_encoder(model: Model, layout: Layout) -> SentenceEncoder:
    """Load an embedding model in PyTorch. Raises SourceError."""
    encoder = SentenceEncoder(load_encoder(model), layout, [_linear(dense) for dense in layout.dense])
    return encoder.train(False)


def _linear(dense: Dense) -> nn.Linear:
    with torch.device("meta"):  # no memory for sizes that the weights do not have
        linear = nn.Linear(dense.in_features, dense.out_features, dense.bias)
    name = dense.weights.parent.name
    try:
        uses = match_tensors(name, linear, read_header(dense.weights), lambda tensor: tensor.removeprefix("linear."))
        values = {uses[tensor].parameter: value.float() for tensor, value in load_file(dense.weights).items()}
        linear.load_state_dict(values, assign=True)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise SourceError(f"the weights of {name} cannot be read ({error}); download the model again") from error
    check_finite(name, linear)
    return linear
