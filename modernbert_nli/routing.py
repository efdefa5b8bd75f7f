"""Evidence to a route: which category fits a text best, how sure that is, and whether any fits at all.

A category's score is a weighted sum of what is known of text and category: the log-odds that the category's
hypothesis follows from the text, the log-ratio of entailment to contradiction, and the similarity of the text
to the category's hypothesis, name and examples. All categories compete before anything is declined:

    P(category) = P(any fits) * P(category | any fits)

The second is a softmax over the scores (a conditional logit, McFadden 1974), the first a logistic function of
the best score, as the largest logit tells what is out of scope (Vaze et al. 2022, arXiv:2110.06207). The
lower of the two says why a route is declined.

`routing` in the configuration is what `fitting.py` fitted, by encoding:

    {"separate": {"similarity": 12.0, "entailment": 0.1, "contrast": 0.5, "offset": -1.9, "slope": 0.4,
                  "threshold": 0.8}}

Without it, entailment alone decides. `calibrate.py --routes` adds `calibration` (see
`calibration.py`), with the digests of the `categories` and the `heads` that it is for.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from .calibration import promised_threshold

TEMPLATE = "This is about {}."
UNFITTED = {
    "similarity": 0.0,
    "entailment": 1.0,
    "contrast": 0.0,
    "offset": 0.0,
    "slope": 1.0,
    "threshold": 0.5,
}
FITS = 0.5  # of several categories, those fit that do so more probably than not
JUDGED = (
    32  # of more categories, the most similar; the others count as entailed no more than the least of them
)

_HOW = "python calibrate.py --model CHECKPOINT --routes LABELLED_TEXTS --categories CATEGORIES"


class Categories(NamedTuple):
    """What is known of each category."""

    names: tuple[Any, ...]
    hypotheses: tuple[str, ...]
    examples: tuple[tuple[str, ...], ...]

    def digest(self) -> str:
        """SHA-256 of all of it, whatever the order of the categories."""
        rows = sorted(json.dumps(row, default=str) for row in zip(*self, strict=True))
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def as_categories(
    categories: Any, template: str = TEMPLATE, examples: Mapping[str, Sequence[str]] | None = None
) -> Categories:
    """Names with a template, or a mapping to hypotheses, and example texts of some of them.

    Raises:
        ValueError: there is no category, one is there twice or has no name, a template without a place for
            the name, or examples of something else.
    """
    if isinstance(categories, Mapping):
        names, hypotheses = tuple(categories), tuple(categories.values())
    elif isinstance(categories, Sequence) and not isinstance(categories, str):
        names = tuple(categories)
        if wrong := [name for name in names if not isinstance(name, str) or not name.strip()]:
            raise ValueError(f"The name of a category is a string that is not empty, got {wrong[0]!r}.")
        if not isinstance(template, str) or "{}" not in template:
            raise ValueError(f"`hypothesis_template` needs a place for the name, {{}}, got {template!r}.")
        hypotheses = tuple(template.replace("{}", str(name)) for name in names)
    else:
        names = hypotheses = ()
    if not names:
        raise ValueError(
            "`categories` maps each category to its hypothesis, e.g. {'refund': 'This asks for …'}, or names "
            "them, e.g. ['billing', 'shipping']."
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"The category {twice!r} is there twice: name each one once.")
    examples = {} if examples is None else examples
    if not isinstance(examples, Mapping) or not set(examples) <= set(names):
        raise ValueError(f"`examples` maps categories to lists of texts, got {_shortened(examples)}.")
    for name, texts in examples.items():
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise ValueError(f"The examples of {name!r} are a list of texts, got {_shortened(texts)}.")
    return Categories(names, hypotheses, tuple(tuple(examples.get(name, ())) for name in names))


def readable(name: str) -> str:
    """The name of a category as words: `refund_request` and `RefundRequest` are "refund request"."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.sub(r"[\W_]+", " ", apart).strip().lower() or name


def check_routing(routing: Any, encodings: Sequence[str]) -> None:
    """Raise a ValueError that says what is wrong with the `routing` of a configuration; None is fine."""
    if routing is None:
        return
    if not isinstance(routing, Mapping) or not set(routing) <= set(encodings):
        raise ValueError(f"`routing` is a dict by encoding ({', '.join(encodings)}), got {routing!r}.")
    for encoding, entry in routing.items():
        if not isinstance(entry, Mapping) or not set(UNFITTED) <= set(entry):
            raise ValueError(f"`routing[{encoding!r}]` needs {', '.join(UNFITTED)}, got {entry!r}.")
        for key in UNFITTED:
            if isinstance(entry[key], bool) or not isinstance(entry[key], int | float):
                raise ValueError(f"`routing[{encoding!r}][{key!r}]` is a number, got {entry[key]!r}.")
        if not 0 <= entry["threshold"] <= 1:
            raise ValueError(f"`routing[{encoding!r}]['threshold']` lies between 0 and 1.")


def describe(hypotheses: torch.Tensor, names: torch.Tensor, examples: Sequence[torch.Tensor]) -> torch.Tensor:
    """One vector for each category, of length 1, from those of its texts: (categories, size).

    A name counts as much as names tell their hypotheses here: words do, identifiers such as "A17" do not.

    Args:
        hypotheses, names (`torch.Tensor` of shape `(categories, size)`): Of length 1 each.
        examples (`Sequence[torch.Tensor]`): By category, `(examples, size)`.
    """
    count = len(names)
    matched = (names @ hypotheses.T).argmax(dim=1) == torch.arange(count, device=names.device)
    chance = 1 / count
    agreement = 0.0 if count == 1 else max(0.0, (matched.float().mean().item() - chance) / (1 - chance))
    vectors = hypotheses + agreement * names
    shown = [given.sum(dim=0) if len(given) else torch.zeros_like(vectors[0]) for given in examples]
    return torch.nn.functional.normalize(vectors + torch.stack(shown), dim=-1)


class Evidence(NamedTuple):
    """What is known of some texts and all categories.

    Args:
        log_odds (`torch.Tensor` of shape `(texts, judged)`): Of entailment.
        contrast (`torch.Tensor` of shape `(texts, judged)`): Log-ratio of entailment to contradiction.
        similarity (`torch.Tensor` of shape `(texts, categories)`, *optional*): Cosine.
        rows (`torch.LongTensor` of shape `(texts, judged)`, *optional*): Which categories were judged, if not
            all.
    """

    log_odds: torch.Tensor
    contrast: torch.Tensor
    similarity: torch.Tensor | None = None
    rows: torch.Tensor | None = None

    def features(self) -> torch.Tensor:
        """Similarity, log-odds and contrast of all categories, (texts, categories, 3)."""
        judged = [self.log_odds, self.contrast]
        if self.rows is not None and self.similarity is not None:
            least = (values.amin(dim=1, keepdim=True).expand_as(self.similarity) for values in judged)
            judged = [fill.scatter(1, self.rows, values) for fill, values in zip(least, judged, strict=True)]
        similarity = torch.zeros_like(judged[0]) if self.similarity is None else self.similarity
        return torch.stack([similarity, *judged], dim=-1)


def evidence_from(
    logits: torch.Tensor,
    label2id: Mapping[str, int],
    similarity: torch.Tensor | None = None,
    rows: torch.Tensor | None = None,
) -> Evidence:
    """From logits of the labels, (texts, judged, labels). Without a label "contradiction", all others are."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    entailment = logits[..., label2id["entailment"]]
    others = [index for label, index in label2id.items() if label != "entailment"]
    log_odds = entailment - logits[..., others].logsumexp(dim=-1)
    against = label2id.get("contradiction")
    contrast = log_odds if against is None else entailment - logits[..., against]
    return Evidence(log_odds, contrast, similarity, rows)


class Decision(NamedTuple):
    """Of some texts. `fits`: that each category does, by itself; `among`: that it is the one, if any is."""

    fits: torch.Tensor
    among: torch.Tensor

    @property
    def probabilities(self) -> torch.Tensor:
        """That each category is the one, (texts, categories): the rest, up to 1, is that none is."""
        return self.among * self.fits.amax(dim=-1, keepdim=True)


def decide(evidence: Evidence, entry: Mapping[str, Any]) -> Decision:
    """Apply the `routing` of a configuration for an encoding."""
    weights = [entry["similarity"], entry["entailment"], entry["contrast"]]
    scores = evidence.features() @ evidence.log_odds.new_tensor(weights)
    return Decision((entry["offset"] + entry["slope"] * scores).sigmoid(), scores.softmax(dim=-1))


def routes(decision: Decision, names: Sequence[str], threshold: float, several: bool) -> list[dict[str, Any]]:
    """What `route` returns of each text, without `scores`."""
    chances = decision.fits if several else decision.probabilities
    ordered, order = chances.sort(dim=-1, descending=True, stable=True)
    results = []
    for row, (values, places) in enumerate(zip(ordered.tolist(), order.tolist(), strict=True)):
        ranking = [(names[place], value) for place, value in zip(places, values, strict=True)]
        best, confidence = ranking[0]
        declined = 1 - confidence >= threshold
        reason = None
        if declined:
            close = not several and decision.among[row, places[0]] < decision.fits[row, places[0]]
            reason = (
                f"too close to call: {best!r} or {ranking[1][0]!r}"
                if close
                else f"nothing fits: {best!r} comes nearest"
            )
        result: dict[str, Any] = {
            "category": None if declined else best,
            "confidence": None if declined else confidence,
            "uncertainty": 1 - confidence,
            "reason": reason,
            "ranking": ranking,
        }
        if several:
            result["categories"] = [name for name, value in ranking if 1 - value < threshold]
        results.append(result)
    return results


def promised(
    entry: Mapping[str, Any], encoding: str, categories: Categories, heads: str, target_risk: float
) -> float:
    """The threshold that keeps a risk of wrong routes, for the categories that were calibrated.

    Args:
        heads (`str`): The digest of the heads that are to keep it.

    Raises:
        ValueError: nothing was calibrated, or other categories or heads, or not so low a risk.
    """
    calibration = entry.get("calibration")
    if calibration is None:
        raise ValueError(
            "The routes of this checkpoint are not calibrated. Its `calibration`, if it has one, promises a "
            "risk of judgements on pairs, and no such promise covers the best of several categories: "
            f"`target_risk` cannot be kept. Calibrate on labelled texts of yours, {_HOW}, or give a "
            "`threshold`, which promises nothing."
        )
    if calibration["categories"] != categories.digest():
        raise ValueError(
            f"The routes of this checkpoint are calibrated for {calibration['of']} other categories, "
            f"hypotheses or examples: nothing is promised for these. Calibrate for them: {_HOW}"
        )
    if calibration["heads"] != heads:
        raise ValueError(
            f"The routes of this checkpoint are calibrated for other heads than these. Calibrate anew: {_HOW}"
        )
    return promised_threshold({encoding: calibration}, encoding, target_risk)


def _shortened(value: Any) -> str:
    return repr(value)[:60]
