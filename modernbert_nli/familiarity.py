"""Is this text that the encoder reads? Told by the states of a layer that the heads read anyway.

    score = familiarity(states, present)  # (texts,), 0 to 1
    unread = score < config.familiarity["threshold"]

An encoder of English turns every text into states, other languages, code and noise too, and heads say of
such pairs what they please with any confidence. Low and middle layers still show it: a token that is part of
no known word stands elsewhere there than words do. The last layer, trained to be compared, tells little.

Of each text mean and spread of its tokens decide, by one linear layer. Each text counts alone; of a pair in
one sequence each side does (`of_sides`).
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .heads import HYPOTHESIS, PREMISE


def statistics(states: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Mean and spread of a text's tokens, side by side, (texts, 2 * hidden_size) in float32.

    Each state is normalised first, as by the heads: some channels of ModernBERT reach 10^4.

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


class Familiarity(nn.Module):
    """How much a text is like text that the encoder reads: near 1 where it is, near 0 where it is not.

    Args:
        hidden_size (`int`): Of the encoder.
    """

    def __init__(self, hidden_size: int):
        super().__init__()
        self.output = nn.Linear(2 * hidden_size, 1)

    def forward(self, states: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """States of one layer and where there are any, as for `statistics`, to a score (texts,)."""
        return self.of_statistics(statistics(states, present))

    def of_statistics(self, found: torch.Tensor) -> torch.Tensor:
        """What `statistics` returned to a score (texts,), in float32 whatever surrounds it."""
        with torch.autocast(found.device.type, enabled=False):
            return self.output(found.to(self.output.weight)).squeeze(-1).sigmoid()

    def of_sides(self, states: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        """Pairs in one sequence to a score for premise and hypothesis, (pairs, 2).

        Args:
            states (`torch.Tensor` of shape `(pairs, tokens, hidden_size)`): Of one layer.
            segments (`torch.Tensor` of shape `(pairs, tokens)`): 1 in the premise, 2 in the hypothesis.
        """
        sides = [self(states, segments == number) for number in (PREMISE, HYPOTHESIS)]
        return torch.stack(sides, dim=-1)


def checked(entry: Any, layers: dict[str, list[int]]) -> dict[str, Any] | None:
    """A configuration's `familiarity`, `{"layer": 4, "threshold": 0.2}`, or `None` of heads without it.

    Raises:
        ValueError: a layer that some encoding does not read, or a threshold that is none.
    """
    if entry is None:
        return None
    if not isinstance(entry, dict) or not {"layer", "threshold"} <= entry.keys():
        raise ValueError(f"`familiarity` has a `layer` and a `threshold`, or is None, got {entry!r}.")
    layer, threshold = entry["layer"], entry["threshold"]
    for encoding, read in layers.items():
        if layer not in read:
            raise ValueError(f"`familiarity` is told by layer {layer}, but {encoding} encoding reads {read}.")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise ValueError(f"The threshold of `familiarity` lies between 0 and 1, got {threshold!r}.")
    return entry


def shared_layer(layers: dict[str, list[int]], depth: int) -> int | None:
    """The deepest layer below the last one that every encoding reads, or `None` where there is none."""
    shared = set.intersection(*map(set, layers.values()))
    return max((layer for layer in shared if layer < depth), default=None)
