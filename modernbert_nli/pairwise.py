"""Many premises and hypotheses: an alignment head's sums, in the order that shares most of them.

Most of what the head computes of a token does not depend on the other text, and a weighted mean may be
taken before or after a linear layer. So each text is prepared once, for all texts that it meets; a pair
costs its attention and the products x * y.
"""

from typing import Any, NamedTuple

import torch
from torch.nn import functional

from .heads import AlignmentHead, is_plain


class PreparedSide(NamedTuple):
    """Texts of one side of the pairs, prepared for one head.

    Args:
        tokens (`torch.Tensor` of shape `(texts, tokens, alignment_size)`): Projected, padded.
        share (`torch.Tensor` of shape `(texts, tokens)`): Of each token in its text's mean, 0 for padding.
        least (`torch.Tensor` of shape `(texts, tokens)`): 0, and the smallest number for padding.
        compared (`torch.Tensor` of shape `(texts, tokens, comparison_size)`): Their own part of a comparison.
        offered (`torch.Tensor` of shape `(texts, tokens, alignment_size + comparison_size)`): The tokens, and
            their part in the comparisons of the other side's.
    """

    tokens: torch.Tensor
    share: torch.Tensor
    least: torch.Tensor
    compared: torch.Tensor
    offered: torch.Tensor

    def select(self, rows: torch.Tensor) -> "PreparedSide":
        """Some of the texts, by number, as far as the longest of them reaches."""
        longest = int((self.share[rows] > 0).sum(dim=1).amax())
        return PreparedSide(*(part[rows, :longest] for part in self))


def can_share(head: AlignmentHead) -> bool:
    """Whether its sums can be taken apart: not with an adapter, hooks or weights that wait elsewhere."""
    return isinstance(head, AlignmentHead) and is_plain(head.comparison[0])


def prepare_side(head: AlignmentHead, tokens: torch.Tensor, present: torch.Tensor) -> PreparedSide:
    """What of each text is the same in all pairs; its tokens alone, for a head that `can_share`s nothing.

    Args:
        head (`AlignmentHead`): Not in training: dropout would have to be drawn for each pair.
        tokens (`torch.Tensor` of shape `(texts, tokens, alignment_size)`): As the head projects them.
        present (`torch.BoolTensor` of shape `(texts, tokens)`): False for padding.
    """
    share = present.to(tokens.dtype) / present.sum(dim=1, keepdim=True).clamp(min=1)
    least = torch.zeros_like(share).masked_fill(~present, torch.finfo(tokens.dtype).min)
    if not can_share(head):
        return PreparedSide(tokens, share, least, tokens[..., :0], tokens[..., :0])
    linear: Any = head.comparison[0]
    of_x, of_y, of_difference, _ = linear.weight.chunk(4, dim=1)
    compared = functional.linear(tokens, of_x + of_difference, linear.bias)
    offered = torch.cat([tokens, functional.linear(tokens, of_y - of_difference)], dim=-1)
    return PreparedSide(tokens, share, least, compared, offered)


def cross(head: AlignmentHead, premises: PreparedSide, hypotheses: PreparedSide) -> torch.Tensor:
    """What `AlignmentHead.forward` makes of each pair, (premises, hypotheses, hidden_size)."""
    x, y = premises.tokens, hypotheses.tokens
    (count, x_tokens, size), (others, y_tokens, _) = x.shape, y.shape
    scale = head.sharpness.exp() * size**-0.5
    # (premises, tokens of the premise, hypotheses, tokens of the hypothesis)
    scores = ((x * scale).flatten(0, 1) @ y.flatten(0, 1).T).view(count, x_tokens, others, y_tokens)
    to_hypothesis = (scores + hypotheses.least).softmax(dim=-1)
    to_premise = (scores + premises.least[:, :, None, None]).softmax(dim=1)
    # Matrix products without copies of what the pairs share.
    from_hypothesis = to_hypothesis.permute(2, 0, 1, 3).reshape(others, count * x_tokens, y_tokens)
    met = (from_hypothesis @ hypotheses.offered).view(others, count, x_tokens, -1).transpose(0, 1)
    of_premises = _pooled(head, PreparedSide(*(part[:, None] for part in premises)), met)
    from_premise = to_premise.permute(0, 2, 3, 1).reshape(count, others * y_tokens, x_tokens)
    met = (from_premise @ premises.offered).view(count, others, y_tokens, -1)
    of_hypotheses = _pooled(head, PreparedSide(*(part[None] for part in hypotheses)), met)
    return head.aggregation(torch.cat([*of_premises, *of_hypotheses], dim=-1))


def beside(head: AlignmentHead, premises: PreparedSide, hypotheses: PreparedSide) -> torch.Tensor:
    """The same of each premise and the hypothesis in its place alone, (pairs, hidden_size)."""
    scale = head.sharpness.exp() * premises.tokens.shape[-1] ** -0.5
    scores = (premises.tokens * scale) @ hypotheses.tokens.mT
    to_hypothesis = (scores + hypotheses.least[:, None]).softmax(dim=-1)
    to_premise = (scores + premises.least[:, :, None]).softmax(dim=1)
    of_premises = _pooled(head, premises, to_hypothesis @ hypotheses.offered)
    of_hypotheses = _pooled(head, hypotheses, to_premise.mT @ premises.offered)
    return head.aggregation(torch.cat([*of_premises, *of_hypotheses], dim=-1))


def _pooled(head: AlignmentHead, side: PreparedSide, met: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The comparisons of a side's tokens with what they met, (…, tokens, …), pooled."""
    tokens, share, least, compared, _ = side
    linear: Any = head.comparison[0]
    of_product = linear.weight.chunk(4, dim=1)[3]
    counterparts, offered = met.split([tokens.shape[-1], compared.shape[-1]], dim=-1)
    products = functional.linear(tokens * counterparts, of_product)
    rest: Any = head.comparison[1:]
    features = rest(products + offered + compared)
    mean = (share.unsqueeze(dim=-2) @ features).squeeze(dim=-2)
    maximum = (features + least.unsqueeze(dim=-1)).amax(dim=-2)
    return mean, maximum * (share.amax(dim=-1, keepdim=True) > 0)  # of a text without tokens: 0
