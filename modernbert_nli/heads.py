"""States to logits: the head families. Each maps a pair's states to one hidden vector, in two steps.

`project(states, encoding)`: one tensor of shape (batch, tokens, hidden_size) for each layer read
    -> tokens (batch, tokens, size). It looks at each one alone: a text's result serves every pair it is in.
`forward(tokens, segments)`: segments (batch, tokens), 1 in the premise, 2 in the hypothesis, 0 for padding
    -> (batch, nli_hidden_size).

The latter is `conclude(summary(tokens, segments))`: a summary of the pair, of one size for all pairs, and
what is concluded from it. A few labelled pairs can teach no more than to conclude otherwise: see
`adapting.py`.

The linear layer to the labels is the same for all families, and so is the abstention head (`ErrorHead`),
which reads the hidden vector and the logits. `Familiarity` tells of each text whether it may be judged.
"""

from collections.abc import Sequence
from typing import Any

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

    def project(self, states: Sequence[torch.Tensor], encoding: str) -> torch.Tensor:
        norm: Any = self[1]  # which has a dtype also where linear layers are quantised
        return states[-1][:, :1].to(norm.weight.dtype)

    def forward(  # type: ignore[override]
        self, tokens: torch.Tensor, segments: torch.Tensor | None
    ) -> torch.Tensor:
        return self.conclude(self.summary(tokens, segments))

    def summary(self, tokens: torch.Tensor, segments: torch.Tensor | None) -> torch.Tensor:
        """The first token, (batch, hidden_size)."""
        return tokens[:, 0]

    def conclude(self, summary: torch.Tensor) -> torch.Tensor:
        """All layers of this head, (batch, nli_hidden_size)."""
        return super().forward(summary)

    @property
    def concluding(self) -> list[nn.Module]:
        """What `conclude` goes through."""
        return [self]


class LayerMix(nn.Module):
    """By encoding, the weights of the layers that are read, as logarithms: all that tells encodings apart."""

    def __init__(self, layers: dict[str, list[int]]):
        super().__init__()
        for encoding, read in layers.items():
            self.register_parameter(encoding, nn.Parameter(torch.zeros(len(read))))

    def forward(self, states: Sequence[torch.Tensor], encoding: str) -> torch.Tensor:
        """Normalised layers, weighted, (batch, tokens, hidden_size)."""
        weights, size = getattr(self, encoding).softmax(dim=0), states[0].shape[-1:]
        # The weight as that of the norm, so that no further pass over the states multiplies by it.
        normed = [
            functional.layer_norm(layer.to(weights.dtype), size, weight.expand(size))
            for weight, layer in zip(weights, states, strict=True)
        ]
        return sum(normed[1:], start=normed[0])


class AlignmentHead(nn.Module):
    """Finds for each token its soft counterpart on the other side, and compares the two.

    Attend, compare, aggregate as in Parikh et al. 2016 (arXiv:1606.01933), with the comparison
    [x; y; x - y; x * y] and the pooling of Chen et al. 2017 (arXiv:1609.06038), over a learned mix of layers
    as in Peters et al. 2018 (arXiv:1802.05365). Each layer is normalised first: some channels of ModernBERT
    reach 10^4. The projection is linear, and special tokens take part: something to align to where nothing
    else fits.

    Args:
        config (`ModernBertNliConfig`): The configuration.
    """

    def __init__(self, config: PretrainedConfig):
        super().__init__()
        dropout = config.head_dropout
        alignment_size, comparison_size = config.alignment_size, config.comparison_size
        self.layer_weights = LayerMix(config.encoder_layers)
        self.projection = nn.Sequential(nn.Linear(config.hidden_size, alignment_size), nn.Dropout(dropout))
        self.sharpness = nn.Parameter(torch.zeros(()))  # of the alignment, as a logarithm
        self.comparison = nn.Sequential(
            nn.Linear(4 * alignment_size, comparison_size), nn.GELU(), nn.Dropout(dropout)
        )
        self.aggregation = nn.Sequential(
            nn.Linear(4 * comparison_size, config.nli_hidden_size),
            nn.LayerNorm(config.nli_hidden_size),
            nn.GELU(),
            nn.Dropout(dropout),
        )

    def project(self, states: Sequence[torch.Tensor], encoding: str) -> torch.Tensor:
        return self.projection(self.mix(states, encoding))

    def forward(self, tokens: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        return self.conclude(self.summary(tokens, segments))

    def summary(self, tokens: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        """Each token compared with its counterpart, pooled over each side, (batch, 4 * comparison_size)."""
        return self.compare(tokens, self.align(tokens, segments), segments)

    def conclude(self, summary: torch.Tensor) -> torch.Tensor:
        """The aggregation, (batch, hidden_size)."""
        return self.aggregation(summary)

    @property
    def concluding(self) -> list[nn.Module]:
        """What `conclude` goes through."""
        return [self.aggregation]

    def mix(self, states: Sequence[torch.Tensor], encoding: str) -> torch.Tensor:
        """Normalised layers, weighted, (batch, tokens, hidden_size)."""
        return self.layer_weights(states, encoding)

    def align(self, tokens: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        """For each token the attention-weighted mean of the other side, (batch, tokens, size)."""
        premise, hypothesis = segments == PREMISE, segments == HYPOTHESIS
        other = (premise[:, :, None] & hypothesis[:, None, :]) | (
            hypothesis[:, :, None] & premise[:, None, :]
        )
        # The smallest number, not -inf: a token without any counterpart must not become NaN.
        scores = self.scores(tokens)
        return scores.masked_fill(~other, torch.finfo(scores.dtype).min).softmax(dim=-1) @ tokens

    def scores(self, tokens: torch.Tensor) -> torch.Tensor:
        """How well each token fits each other one, (batch, tokens, tokens)."""
        return tokens @ tokens.mT * (self.sharpness.exp() * tokens.shape[-1] ** -0.5)

    def compare(
        self, tokens: torch.Tensor, counterparts: torch.Tensor, segments: torch.Tensor
    ) -> torch.Tensor:
        """Each token with its counterpart, pooled over each side, (batch, 4 * comparison_size)."""
        compared = self.features(tokens, counterparts)
        return torch.cat([self.pool(compared, segments == side) for side in (PREMISE, HYPOTHESIS)], dim=-1)

    def features(self, tokens: torch.Tensor, counterparts: torch.Tensor) -> torch.Tensor:
        """The comparison of [x; y; x - y; x * y], (batch, tokens, comparison_size)."""
        linear: Any = self.comparison[0]
        if not is_plain(linear):
            together = [tokens, counterparts, tokens - counterparts, tokens * counterparts]
            return self.comparison(torch.cat(together, dim=-1))
        of_x, of_y, of_difference, of_product = linear.weight.chunk(4, dim=1)
        # The same sum with a quarter less to multiply, and nothing to concatenate.
        compared = functional.linear(tokens, of_x + of_difference, linear.bias)
        compared = compared + functional.linear(counterparts, of_y - of_difference)
        compared = compared + functional.linear(tokens * counterparts, of_product)
        return self.comparison[1:](compared)

    def pool(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Mean and maximum over the tokens of one side, (batch, 2 * size); zeros where it has none."""
        counts = mask.sum(dim=1, keepdim=True)
        mean = ((mask / counts.clamp(min=1)).to(tokens.dtype)[:, None] @ tokens).squeeze(dim=1)
        elsewhere = tokens.new_zeros(mask.shape).masked_fill(~mask, torch.finfo(tokens.dtype).min)
        maximum = (tokens + elsewhere[:, :, None]).amax(dim=1)
        return torch.cat([mean, torch.where(counts > 0, maximum, 0.0)], dim=-1)


class ErrorHead(nn.Sequential):
    """The published abstention head, from [hidden; logits] to the logits of (confident, uncertain)."""

    def __init__(self, config: PretrainedConfig):
        size = config.abstention_hidden_size
        super().__init__(
            nn.Linear(config.nli_hidden_size + config.num_labels, size),
            nn.LayerNorm(size),
            nn.GELU(),
            nn.Dropout(config.head_dropout),
            nn.Linear(size, 2),
        )


class Familiarity(nn.Module):
    """How much a text is like text that the encoder reads: near 1 where it is, near 0 where it is not.

    An encoder of English turns every text into states, other languages, code and noise too, and heads say of
    such pairs what they please with any confidence. Low and middle layers still show it: a token that is part
    of no known word stands elsewhere there than words do. The last layer, trained to be compared, tells
    little. Mean and spread of a text's tokens decide, by one linear layer; each text counts alone.

    Args:
        hidden_size (`int`): Of the encoder.
    """

    def __init__(self, hidden_size: int):
        super().__init__()
        self.output = nn.Linear(2 * hidden_size, 1)

    def forward(self, states: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """States of one layer and where there are any, as for `statistics`, to a score (texts,)."""
        return self.of_statistics(self.statistics(states, present))

    @staticmethod
    def statistics(states: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Mean and spread of each text's tokens, side by side, (texts, 2 * hidden_size) in float32.

        Args:
            states (`torch.Tensor` of shape `(texts, tokens, hidden_size)`): Of one layer, special tokens too.
            present (`torch.Tensor` of shape `(texts, tokens)`): True where there is a token of the text.
        """
        tokens = functional.layer_norm(states.float(), states.shape[-1:])
        weights = present.to(tokens).unsqueeze(-1)
        count = weights.sum(dim=1).clamp(min=1)
        mean = (tokens * weights).sum(dim=1) / count
        apart = (tokens - mean.unsqueeze(1)) * weights
        # What is under the root is never 0, where it has no slope.
        spread = (apart.square().sum(dim=1) / count + 1e-6).sqrt()
        return torch.cat([mean, spread], dim=-1)

    def of_statistics(self, found: torch.Tensor) -> torch.Tensor:
        """What `statistics` returned to a score (texts,), in float32 whatever surrounds it."""
        with torch.autocast(found.device.type, enabled=False):
            return self.output(found.to(self.output.weight)).squeeze(-1).sigmoid()


def is_plain(linear: nn.Module) -> bool:
    """Whether its weight is all that there is to it: no adapter, quantization, hook or forward of others."""
    hooked = linear._forward_hooks or linear._forward_pre_hooks or "forward" in vars(linear)
    return type(linear) is nn.Linear and not hooked


HEADS: dict[str, type[nn.Module]] = {"cls": ClsHead, "alignment": AlignmentHead}


def first_tokens(states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """The state of each row's first token, (batch, hidden_size), wherever its padding is."""
    if attention_mask is None or attention_mask.ndim != 2:
        return states[:, 0]
    first = attention_mask.to(states.device).long().argmax(dim=1)
    return states[torch.arange(len(states), device=states.device), first]


def label_loss(
    logits: torch.Tensor, labels: torch.Tensor, entailment: int = 0, reduction: str = "mean"
) -> torch.Tensor:
    """Cross-entropy of labels, some of which may say no more than "not entailment".

    Of such a pair of a two-way set the loss is -log(1 - p(entailment)), the sum over what it may be.

    Args:
        logits (`torch.Tensor` of shape `(batch, num_labels)`): Of the classes.
        labels (`torch.LongTensor` of shape `(batch,)`):
            Classes, `num_labels` for "any but entailment", -100 for a pair without a label.
        entailment (`int`, *optional*, defaults to 0): Which class is entailment.
        reduction (`str`, *optional*, defaults to `"mean"`): `"none"` for the loss of each pair.
    """
    log_probs = logits.log_softmax(dim=-1)
    others = [index for index in range(logits.shape[-1]) if index != entailment]
    not_entailment = log_probs[:, others].logsumexp(dim=-1, keepdim=True)
    return functional.nll_loss(torch.cat([log_probs, not_entailment], dim=-1), labels, reduction=reduction)
