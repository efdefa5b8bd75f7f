"""Which words of a claim a text covers: each token's best match among the text's tokens, from kept states.

The soft counterpart of word overlap, as in the late interaction of Khattab and Zaharia 2020
(arXiv:2004.12832): in the lowest layer that is kept a token matches the same word, in the last one what means
the same there.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import normalize

from .passages import inner, token_places
from .sentences import Span
from .states import TokenStates

LOWEST, LAST = 0, -1  # of the layers that are kept
_AT_ONCE = 2**24  # similarities in memory at a time
WORD = re.compile(r"\w+(?:[-'’.,]\w+)*")
# What says little of what a sentence is about; "not" and the like turn it round, and are not its matter.
_STEM = 5
_FUNCTION_WORDS = (
    "a about above after again against all also although am among an and any are as at be because been "
    "before being below between both but by ca can cannot could did do does doing done down during each "
    "either every few for from further get gets got had has have having he her here hers herself him "
    "himself his how i if in into is it its itself just may me might more most much must my myself neither "
    "never no nobody none nor not nothing now of off on once one only onto or other our ours out over own "
    "per s same shall she should since so some such t than that the their theirs them then there these they "
    "this those though through to too under until up upon us very was we were what when where which while "
    "who whom whose why will with within without wo would yes yet you your yours"
)


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


def by_claim(values: torch.Tensor, shares: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """Sums over the tokens of each claim, each by its share: `(tokens, passages)` to `(claims, passages)`."""
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    total = torch.zeros(len(counts), values.shape[1])
    return total.index_add_(0, owner, values * shares[:, None])


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
    claim: str, tokenizer: Any, matches: Iterable[Iterable[Any]] | None, rule: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Spans of the words of a claim that are not covered, neighbours as one.

    Args:
        claim (`str`): The claim.
        tokenizer (`PreTrainedTokenizerBase`): That of the base.
        matches (`(2, tokens)` numbers): Best match of each token, lowest and last layer.
        rule (`Mapping[str, float]`): `words` and `coverage`, weights of the two, and `threshold`: from which
            weighted sum of 1 - match upwards a word is not covered.

    Returns:
        `list[dict]`: `start`, `end` and `text` of each span, places of characters in the claim.
    """
    places = token_places(tokenizer, claim)
    scores = [] if matches is None else lacking(matches, rule)
    if places is None or len(places) != len(scores):
        return []
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


def content_words(text: str) -> list[Span]:
    """Where the words stand that say what a text is about; all words, where there are no such."""
    words, function_words = list(WORD.finditer(text)), frozenset(_FUNCTION_WORDS.split())
    content = [w for w in words if re.sub(r"n?['’]\w+$", "", w[0].lower()) not in function_words]
    return [word.span() for word in content or words]


def content_shares(claims: Sequence[str], tokenizer: Any, counts: Sequence[int]) -> list[list[float]]:
    """How much each token of each claim counts for what it is about, 1 in all.

    Its content words count alike, and of each its tokens. Where the tokenizer does not tell the places of
    tokens, all tokens count alike.
    """
    found = []
    for claim, count in zip(claims, counts, strict=True):
        places = token_places(tokenizer, claim)
        share = [0.0] * count
        if places is not None and len(places) == count:
            for start, end in content_words(claim):
                inside = [row for row, (a, b) in enumerate(places) if a < end and b > start]
                for row in inside:
                    share[row] = 1 / len(inside)
        total = sum(share)
        found.append([one / total for one in share] if total else [1 / max(1, count)] * count)
    return found


def _stems(text: str) -> list[str]:
    """Content words, in their order, by their first letters."""
    return [text[start:end].lower()[:_STEM] for start, end in content_words(text)]


def shared_words(claims: Sequence[str], texts: Sequence[str]) -> torch.Tensor:
    """The share of each claim's content words that each text has, by first letters, `(claims, texts)`."""
    ours, theirs = [set(_stems(claim)) for claim in claims], [set(_stems(text)) for text in texts]
    return torch.tensor([[len(one & other) / max(1, len(one)) for other in theirs] for one in ours])


def same_subject(claim: str, text: str) -> bool:
    """Whether a text has the first content word of a claim: that the hall is free is not about its bar."""
    return set(_stems(claim)[:1]) <= set(_stems(text))


def lacking(matches: Iterable[Iterable[Any]], rule: Mapping[str, float]) -> list[float]:
    """How little each token is covered, of its matches in two layers, `(2, tokens)`."""
    lowest, last = (list(map(float, layer)) for layer in matches)
    return [
        rule["words"] * (1 - one) + rule["coverage"] * (1 - other)
        for one, other in zip(lowest, last, strict=True)
    ]


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
