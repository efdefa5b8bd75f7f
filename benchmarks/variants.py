"""Heads that were tried beside the published one: what `ablation.py` compares. Each changes one thing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig

from modernbert_nli.heads import HYPOTHESIS, PREMISE, AlignmentHead
from modernbert_nli.training.cache import Precision


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    what: str
    head: type[AlignmentHead] = AlignmentHead
    config: dict[str, Any] = field(default_factory=dict)  # of the heads
    swap_contradictions: bool = False
    precision: Precision | None = None  # of the states


class GeluProjection(AlignmentHead):
    """A non-linear projection, as the first prototype had."""

    def __init__(self, config: PretrainedConfig):
        super().__init__(config)
        self.projection.insert(1, nn.GELU())


class OwnProjection(AlignmentHead):
    """A projection for each encoding."""

    def __init__(self, config: PretrainedConfig):
        super().__init__(config)
        del self.projection
        self.projections = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(config.hidden_size, config.alignment_size), nn.Dropout(config.head_dropout)
                )
                for name in config.encoder_layers
            }
        )

    def project(self, states: Sequence[torch.Tensor], encoding: str) -> torch.Tensor:
        return self.projections[encoding](self.mix(states, encoding))


class WithoutDifference(AlignmentHead):
    """[x; y; x * y]: a linear layer makes the difference of x and y itself."""

    def __init__(self, config: PretrainedConfig):
        super().__init__(config)
        self.comparison[0] = nn.Linear(3 * config.alignment_size, config.comparison_size)

    def features(self, tokens: torch.Tensor, counterparts: torch.Tensor) -> torch.Tensor:
        return self.comparison(torch.cat([tokens, counterparts, tokens * counterparts], dim=-1))


class NullToken(AlignmentHead):
    """One more, learned counterpart for tokens that fit nothing, as in Parikh et al. 2016."""

    def __init__(self, config: PretrainedConfig):
        super().__init__(config)
        self.null = nn.Parameter(torch.randn(config.alignment_size) * 0.02)

    def align(self, tokens: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        premise, hypothesis = segments == PREMISE, segments == HYPOTHESIS
        batch, _, size = tokens.shape
        with_null = torch.cat([tokens, self.null.to(tokens.dtype).expand(batch, 1, size)], dim=1)
        other = (premise[:, :, None] & hypothesis[:, None, :]) | (
            hypothesis[:, :, None] & premise[:, None, :]
        )
        other = functional.pad(other, (0, 1), value=True)
        scores = tokens @ with_null.mT * (self.sharpness.exp() * size**-0.5)
        return scores.masked_fill(~other, torch.finfo(scores.dtype).min).softmax(dim=-1) @ with_null


class DistanceBias(AlignmentHead):
    """A learned preference for counterparts at the same place, by distance in powers of two."""

    BUCKETS = 8

    def __init__(self, config: PretrainedConfig):
        super().__init__(config)
        self.distance = nn.Parameter(torch.zeros(2 * self.BUCKETS + 1))

    def align(self, tokens: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        premise, hypothesis = segments == PREMISE, segments == HYPOTHESIS
        places = torch.where(premise, premise.cumsum(1), hypothesis.cumsum(1))
        apart = places[:, :, None] - places[:, None, :]
        bucket = apart.abs().float().add(1).log2().long().clamp(max=self.BUCKETS) * apart.sign()
        self._bias = self.distance[bucket + self.BUCKETS]
        return super().align(tokens, segments)

    def scores(self, tokens: torch.Tensor) -> torch.Tensor:
        return super().scores(tokens) + self._bias


class TwoComparisons(AlignmentHead):
    """A second layer in the comparison."""

    def __init__(self, config: PretrainedConfig):
        super().__init__(config)
        size = config.comparison_size
        self.comparison.extend([nn.Linear(size, size), nn.GELU(), nn.Dropout(config.head_dropout)])


class Convolution(AlignmentHead):
    """Compared tokens see their neighbours before pooling, as in the composition of Chen et al. 2017."""

    def __init__(self, config: PretrainedConfig):
        super().__init__(config)
        size = config.comparison_size
        self.neighbours = nn.Linear(3 * size, size)
        self.last_dropout = nn.Dropout(config.head_dropout)

    def pool(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        inside = tokens * mask[:, :, None]
        before, after = functional.pad(inside, (0, 0, 1, -1)), functional.pad(inside, (0, 0, -1, 1))
        mixed = functional.gelu(self.neighbours(torch.cat([before, tokens, after], dim=-1)))
        return super().pool(tokens + self.last_dropout(mixed), mask)


class MeanPooling(AlignmentHead):
    """Means alone (the maxima are zeros)."""

    def pool(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        mean, maximum = super().pool(tokens, mask).chunk(2, dim=-1)
        return torch.cat([mean, torch.zeros_like(maximum)], dim=-1)


class MaxPooling(AlignmentHead):
    """Maxima alone (the means are zeros)."""

    def pool(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        mean, maximum = super().pool(tokens, mask).chunk(2, dim=-1)
        return torch.cat([torch.zeros_like(mean), maximum], dim=-1)


class AttentionPooling(AlignmentHead):
    """A learned weight of each token instead of the plain mean, beside the maximum."""

    def __init__(self, config: PretrainedConfig):
        super().__init__(config)
        self.importance = nn.Linear(config.comparison_size, 1)

    def pool(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        scores = self.importance(tokens).masked_fill(~mask[:, :, None], torch.finfo(tokens.dtype).min)
        weighted = (scores.softmax(dim=1) * tokens).sum(dim=1)
        return torch.cat([weighted, super().pool(tokens, mask).chunk(2, dim=-1)[1]], dim=-1)


class LexicalMatch(AlignmentHead):
    """The cosine with the likeliest same word on the other side, read from the embedding layer."""

    def __init__(self, config: PretrainedConfig):
        super().__init__(config)
        self.width = config.alignment_size
        self.comparison[0] = nn.Linear(4 * self.width + 2, config.comparison_size)

    def project(self, states: Sequence[torch.Tensor], encoding: str) -> torch.Tensor:
        words = functional.normalize(states[0].to(self.sharpness.dtype), dim=-1)
        return torch.cat([super().project(states, encoding), words], dim=-1)

    def align(self, tokens: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        tokens, words = tokens[..., : self.width], tokens[..., self.width :]
        other = (segments[:, :, None] != segments[:, None, :]) & (segments[:, None, :] > 0)
        same = (words @ words.mT).masked_fill(~other, 0.0)
        self._lexical = torch.stack([same.amax(dim=-1), (same > 0.9).to(same.dtype).amax(dim=-1)], dim=-1)
        return super().align(tokens, segments)

    def compare(
        self, tokens: torch.Tensor, counterparts: torch.Tensor, segments: torch.Tensor
    ) -> torch.Tensor:
        return super().compare(tokens[..., : self.width], counterparts, segments)

    def features(self, tokens: torch.Tensor, counterparts: torch.Tensor) -> torch.Tensor:
        lexical = self._lexical.to(tokens.dtype)
        features = [tokens, counterparts, tokens - counterparts, tokens * counterparts, lexical]
        return self.comparison(torch.cat(features, dim=-1))


def _layers(joint: list[int], separate: list[int]) -> dict[str, Any]:
    return {"encoder_layers": {"separate": separate, "joint": joint}}


_JOINT, _SEPARATE = [3, 4], [2, 4, 6]

VARIANTS = {
    "reference": Variant("the head as it ships"),
    "published": Variant("the published CLS head", config={"head_type": "cls", "head_dropout": 0.1}),
    "joint-only": Variant("trained on joint encoding alone", config={"encoder_layers": {"joint": _JOINT}}),
    "separate-only": Variant(
        "trained on separate encoding alone", config={"encoder_layers": {"separate": _SEPARATE}}
    ),
    "gelu-projection": Variant("GELU after the projection", GeluProjection),
    "own-projection": Variant("a projection for each encoding", OwnProjection),
    "without-difference": Variant("features without x - y", WithoutDifference),
    "null-token": Variant("a learned token to align to", NullToken),
    "distance-bias": Variant("learned bias by distance", DistanceBias),
    "two-comparisons": Variant("two comparison layers", TwoComparisons),
    "convolution": Variant("compared tokens see their neighbours", Convolution),
    "mean-pooling": Variant("mean pooling alone", MeanPooling),
    "max-pooling": Variant("max pooling alone", MaxPooling),
    "attention-pooling": Variant("attention pooling beside the maximum", AttentionPooling),
    "lexical-match": Variant(
        "lexical match from the embeddings", LexicalMatch, config=_layers([0, *_JOINT], [0, *_SEPARATE])
    ),
    "all-layers": Variant("layers 1 to 6", config=_layers([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6])),
    "dropout-0.1": Variant("dropout 0.1", config={"head_dropout": 0.1}),
    "dropout-0.3": Variant("dropout 0.3", config={"head_dropout": 0.3}),
    "float16": Variant("states kept in float16, not int8", precision="float16"),
    "swapped": Variant("contradictions also the other way round", swap_contradictions=True),
}
