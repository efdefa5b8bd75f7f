"""Which words of a claim a text covers: each token's best match among the text's tokens, from kept states.

The soft counterpart of word overlap, as in the late interaction of Khattab and Zaharia 2020
(arXiv:2004.12832): in the lowest layer that is kept a token matches the same word, in the last one what means
the same there.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import normalize

from .passages import inner, inner_counts, token_places
from .sentences import Span
from .states import TokenStates

LOWEST, LAST = 0, -1  # of the layers that are kept
_AT_ONCE = 2**24  # similarities in memory at a time


@torch.autocast("cpu", enabled=False)
def best_matches(claims: TokenStates, texts: TokenStates, layer: int) -> torch.Tensor:
    """The greatest cosine of each token of the claims with one of each text, `(tokens, texts)`.

    Special tokens are left out on both sides.
    """
    ours, theirs = inner(claims, layer)[0], inner(texts, layer)
    tokens, owner = normalize(theirs[0], dim=-1), theirs[1]
    ours = normalize(ours, dim=-1)
    parts = []
    for some in ours.split(max(1, _AT_ONCE // max(1, len(tokens)))):
        found = torch.full((len(some), len(texts)), -1.0)
        parts.append(found.scatter_reduce(1, owner.expand(len(some), -1), some @ tokens.T, "amax"))
    return torch.cat(parts) if parts else torch.empty(0, len(texts))


def of_passages(values: torch.Tensor, passages: Sequence[Span]) -> torch.Tensor:
    """The maximum over the sentences of each passage, of values `(tokens, sentences)`."""
    found = torch.empty(len(values), len(passages))
    by_size: dict[int, list[int]] = {}
    for row, (start, stop) in enumerate(passages):
        by_size.setdefault(stop - start, []).append(row)
    for size, rows in by_size.items():
        starts = torch.tensor([passages[row][0] for row in rows])
        found[:, rows] = values[:, starts[:, None] + torch.arange(size)].amax(dim=-1)
    return found


def by_claim(values: torch.Tensor, claims: TokenStates) -> torch.Tensor:
    """Means over the tokens of each claim: `(tokens, passages)` to `(claims, passages)`."""
    counts = inner_counts(claims)
    owner = torch.repeat_interleave(torch.arange(len(claims)), counts)
    total = torch.zeros(len(claims), values.shape[1]).index_add_(0, owner, values)
    return total / counts[:, None]


@torch.autocast("cpu", enabled=False)
def cosines(claims: TokenStates, texts: TokenStates, passages: Sequence[Span]) -> torch.Tensor:
    """Of the mean states of the last layer, special tokens left out, `(claims, passages)`."""
    total = _sums(texts)
    running = torch.cat([torch.zeros(1, total.shape[1]), total]).double().cumsum(dim=0)
    bounds = torch.tensor(passages).reshape(-1, 2)
    of_passage = (running[bounds[:, 1]] - running[bounds[:, 0]]).float()  # a cosine needs no division
    return normalize(_sums(claims), dim=-1) @ normalize(of_passage, dim=-1).T


def _sums(states: TokenStates) -> torch.Tensor:
    tokens, owner = inner(states, LAST)
    return torch.zeros(len(states), tokens.shape[-1]).index_add_(0, owner, tokens)


def uncovered(
    claim: str, tokenizer: Any, matches: torch.Tensor | None, rule: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Spans of the words of a claim that are not covered, neighbours as one.

    Args:
        claim (`str`): The claim.
        tokenizer (`PreTrainedTokenizerBase`): That of the base.
        matches (`torch.Tensor` of shape `(2, tokens)`): Best match of each token, lowest and last layer.
        rule (`Mapping[str, float]`): `words` and `coverage`, weights of the two, and `threshold`: from which
            weighted sum of 1 - match upwards a word is not covered.

    Returns:
        `list[dict]`: `start`, `end` and `text` of each span, places of characters in the claim.
    """
    places = None if matches is None else token_places(tokenizer, claim)
    if places is None or matches is None or len(places) != matches.shape[1]:
        return []
    scores = lacking(matches, rule).tolist()
    words = word_scores(claim, places, scores)
    spans: list[Span] = []
    last_was = False
    for (start, end), score in words:
        lacks = score >= rule["threshold"]
        if lacks and last_was:
            spans[-1] = (spans[-1][0], end)
        elif lacks:
            spans.append((start, end))
        last_was = lacks
    return [{"start": start, "end": end, "text": claim[start:end]} for start, end in spans]


def lacking(matches: torch.Tensor, rule: Mapping[str, float]) -> torch.Tensor:
    """How little each token is covered, `(tokens,)`, of its matches in two layers, `(2, tokens)`."""
    weights = torch.tensor([rule["words"], rule["coverage"]])
    return weights @ (1 - matches)


def word_scores(claim: str, places: Sequence[Span], scores: Sequence[float]) -> list[tuple[Span, float]]:
    """Each word of a claim with the greatest score of its tokens; punctuation is no word."""
    words = [match.span() for match in re.finditer(r"\w+(?:[-'’.]\w+)*", claim)]
    found = []
    token = 0
    for start, end in words:
        best = float("-inf")
        while token < len(places) and places[token][1] <= start:
            token += 1
        at = token
        while at < len(places) and places[at][0] < end:
            best = max(best, scores[at])
            at += 1
        found.append(((start, end), best))
    return found
