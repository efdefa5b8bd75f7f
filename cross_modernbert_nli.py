"""Every premise against every hypothesis: an alignment head's sums, in the order that shares most of them.

Most of what the head computes of a token does not depend on the other text, and a weighted mean may be
taken before or after a linear layer. So each text is prepared once, for all texts that it meets; a pair
costs its attention and the products x * y.
"""

from typing import NamedTuple

import torch
from torch.nn import functional

try:
    from .heads_modernbert_nli import AlignmentHead, is_plain
except ImportError:  # imported from the folder of these files, not through `trust_remote_code`
    from heads_modernbert_nli import AlignmentHead, is_plain


class Side(NamedTuple):
    """Texts of one side of the pairs, prepared for one head.

    Args:
        tokens (`torch.Tensor` of shape `(texts, tokens, alignment_size)`): Projected, padded.
        present (`torch.BoolTensor` of shape `(texts, tokens)`): False for padding.
        compared (`torch.Tensor` of shape `(texts, tokens, comparison_size)`): Their own part of a comparison.
        offered (`torch.Tensor` of shape `(texts, tokens, comparison_size)`): Their part in the comparisons of
            the other side's tokens.
    """

    tokens: torch.Tensor
    present: torch.Tensor
    compared: torch.Tensor
    offered: torch.Tensor

    def some(self, rows: torch.Tensor) -> "Side":
        """Some of the texts, by number."""
        return Side(*(part[rows] for part in self))


def shares(head: AlignmentHead) -> bool:
    """Whether its sums can be taken apart: not with an adapter, hooks or weights that wait elsewhere."""
    return is_plain(head.comparison[0])


def prepare(head: AlignmentHead, tokens: torch.Tensor, present: torch.Tensor) -> Side:
    """What of each text is the same in all pairs; its tokens alone, for a head that `shares` nothing.

    Args:
        head (`AlignmentHead`): Not in training: dropout would have to be drawn for each pair.
        tokens (`torch.Tensor` of shape `(texts, tokens, alignment_size)`): As the head projects them.
        present (`torch.BoolTensor` of shape `(texts, tokens)`): False for padding.
    """
    linear = head.comparison[0]
    if not shares(head):
        return Side(tokens, present, tokens[..., :0], tokens[..., :0])
    of_x, of_y, of_difference, _ = linear.weight.chunk(4, dim=1)
    compared = functional.linear(tokens, of_x + of_difference, linear.bias)
    return Side(tokens, present, compared, functional.linear(tokens, of_y - of_difference))


def cross(head: AlignmentHead, premises: Side, hypotheses: Side) -> torch.Tensor:
    """What `AlignmentHead.forward` makes of each pair, (premises, hypotheses, hidden_size)."""
    scale = head.sharpness.exp() * premises.tokens.shape[-1] ** -0.5
    x, y = premises.tokens, hypotheses.tokens
    # (premises, hypotheses, tokens of the premise, tokens of the hypothesis)
    scores = (x.flatten(0, 1) @ y.flatten(0, 1).T).view(*x.shape[:2], *y.shape[:2]).transpose(1, 2) * scale
    least = torch.finfo(scores.dtype).min
    to_hypothesis = scores.masked_fill(~hypotheses.present[None, :, None, :], least).softmax(dim=-1)
    to_premise = scores.masked_fill(~premises.present[:, None, :, None], least).softmax(dim=-2)
    by_premise = Side(*(part[:, None] for part in premises))  # so that the pairs' dimensions line up
    by_hypothesis = Side(*(part[None] for part in hypotheses))
    of_premises = _features(head, by_premise, by_hypothesis, to_hypothesis)
    of_hypotheses = _features(head, by_hypothesis, by_premise, to_premise.mT)
    pairs = scores.shape[:2]
    pooled = [
        head.pool(features.flatten(0, 1), present.expand(*pairs, -1).flatten(0, 1))
        for features, present in (
            (of_premises, by_premise.present),
            (of_hypotheses, by_hypothesis.present),
        )
    ]
    return head.aggregation(torch.cat(pooled, dim=-1)).view(*pairs, -1)


def _features(head: AlignmentHead, side: Side, other: Side, attention: torch.Tensor) -> torch.Tensor:
    """The comparisons of a side's tokens, (premises, hypotheses, tokens, comparison_size)."""
    of_product = head.comparison[0].weight.chunk(4, dim=1)[3]
    products = functional.linear(side.tokens * (attention @ other.tokens), of_product)
    return head.comparison[1:](products + attention @ other.offered + side.compared)
