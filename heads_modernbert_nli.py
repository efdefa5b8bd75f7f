"""States to logits: the head families. Each maps the encoder's states of a pair to one hidden vector.

A family is a module with `output_size` that is called with
- `states`: one tensor of shape (batch, tokens, hidden_size) for each of `config.encoder_layers`,
- `segments`: (batch, tokens), 0 where a token is ignored, 1 in the premise, 2 in the hypothesis,
and returns (batch, output_size). The linear layer to the labels and the abstention head are the same for all.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig

PREMISE, HYPOTHESIS = 1, 2


class ClsHead(nn.Sequential):
    """The published head: the last layer's [CLS] state through Linear, LayerNorm, GELU and Dropout."""

    def __init__(self, config: PretrainedConfig):
        size = config.nli_hidden_size
        super().__init__(
            nn.Linear(config.hidden_size, size),
            nn.LayerNorm(size),
            nn.GELU(),
            nn.Dropout(config.head_dropout),
        )
        self.output_size = size

    def forward(self, states: Sequence[torch.Tensor], segments: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        weight = next(self.parameters())
        return super().forward(states[-1][:, 0].to(weight.dtype))


class AlignmentHead(nn.Module):
    """Compares each token with its soft counterpart on the other side, then pools the comparisons.

    Attend, compare, aggregate as in Parikh et al. 2016 (arXiv:1606.01933), with the comparison [x; y; x - y;
    x * y] and the pooling of Chen et al. 2017 (arXiv:1609.06038), over a learned mix of layers as in Peters
    et al. 2018 (arXiv:1802.05365). Each layer is normalised first, because some channels of ModernBERT reach
    10^4.
    """

    def __init__(self, config: PretrainedConfig):
        super().__init__()
        size = config.alignment_size
        self.output_size = config.nli_hidden_size
        self.layer_weights = nn.Parameter(torch.zeros(len(config.encoder_layers)))
        self.project = nn.Sequential(
            nn.Dropout(config.head_dropout), nn.Linear(config.hidden_size, size), nn.GELU()
        )
        self.compare = nn.Sequential(nn.Dropout(config.head_dropout), nn.Linear(4 * size, size), nn.GELU())
        self.aggregate = nn.Sequential(
            nn.Dropout(config.head_dropout),
            nn.Linear(4 * size, config.nli_hidden_size),
            nn.LayerNorm(config.nli_hidden_size),
            nn.GELU(),
            nn.Dropout(config.head_dropout),
        )

    def forward(self, states: Sequence[torch.Tensor], segments: torch.Tensor) -> torch.Tensor:
        tokens = self.project(self.mix(states))
        premise, hypothesis = segments == PREMISE, segments == HYPOTHESIS
        counterparts = self.align(tokens, premise, hypothesis)
        compared = self.compare(
            torch.cat([tokens, counterparts, tokens - counterparts, tokens * counterparts], dim=-1)
        )
        return self.aggregate(torch.cat([*_pool(compared, premise), *_pool(compared, hypothesis)], dim=-1))

    def mix(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """Layers -> their weighted mean, each normalised: (batch, tokens, hidden_size)."""
        weights = self.layer_weights.softmax(dim=0)
        normed = (functional.layer_norm(layer.to(weights), layer.shape[-1:]) for layer in states)
        return sum(weight * layer for weight, layer in zip(weights, normed, strict=True))

    def align(self, tokens: torch.Tensor, premise: torch.Tensor, hypothesis: torch.Tensor) -> torch.Tensor:
        """For each token the attention-weighted mean of the other side: (batch, tokens, alignment_size)."""
        other = (premise[:, :, None] & hypothesis[:, None, :]) | (
            hypothesis[:, :, None] & premise[:, None, :]
        )
        scores = tokens @ tokens.mT * tokens.shape[-1] ** -0.5
        # The smallest number, not -inf: a token without any counterpart must not become NaN.
        scores = scores.masked_fill(~other, torch.finfo(scores.dtype).min)
        return scores.softmax(dim=-1) @ tokens


def _pool(tokens: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and maximum over the tokens of one side; zeros where it has none."""
    mask = mask[:, :, None]
    count = mask.sum(dim=1).clamp(min=1)
    mean = (tokens * mask).sum(dim=1) / count
    maximum = tokens.masked_fill(~mask, torch.finfo(tokens.dtype).min).amax(dim=1)
    return mean, torch.where(mask.any(dim=1), maximum, 0.0)


HEADS: dict[str, type[nn.Module]] = {"cls": ClsHead, "alignment": AlignmentHead}


def abstention_head(config: PretrainedConfig, input_size: int) -> nn.Sequential:
    """The published abstention head, from [hidden; logits] to the logits of (confident, uncertain)."""
    size = config.abstention_hidden_size
    return nn.Sequential(
        nn.Linear(input_size, size),
        nn.LayerNorm(size),
        nn.GELU(),
        nn.Dropout(config.head_dropout),
        nn.Linear(size, 2),
    )
