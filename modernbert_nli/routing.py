"""Evidence to a route: which category fits a text best, how sure that is, and whether any fits at all.

A category's score is a weighted sum of what is known of text and category: the log-odds that the category's
hypothesis follows from the text, the log-ratio of entailment to contradiction, and the similarity of the text
to the category's hypothesis, name and examples. All categories compete before anything is declined:

    P(category) = P(any fits) * P(category | any fits)

The second is a softmax over the scores (a conditional logit, McFadden 1974). The first is a logistic function
of the best score, as the largest logit tells what is out of scope (Vaze et al. 2022, arXiv:2110.06207), times
one of how near the text is to texts that go to no desk, greetings and keyboard mash (`ANY_TEXT`): few
categories have a best one for anything, however far it is from all of them. The lower of the two says why a
route is declined. Of two categories that are within chance of each other none is chosen.

`routing` in the configuration is what `fitting.py` fitted, by encoding:

    {"separate": {"similarity": 12.0, "entailment": 0.1, "contrast": 0.5, "offset": -1.9, "slope": 0.4,
                  "background": 33.0, "background_offset": 8.5, "threshold": 0.8}}

Those of version 0.2 have no background. Without an entry, entailment alone decides. `calibrate.py --routes`
adds `calibration` (see `calibration.py`), with the digests of the `categories` and `heads` that it is for.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from .calibration import promised_threshold
from .guards import UNREADABLE
from .guards import readable as is_readable
from .tokenization import PairError, items_of, plain

TEMPLATE = "This is about {}."
UNFITTED = {
    "similarity": 0.0,
    "entailment": 1.0,
    "contrast": 0.0,
    "offset": 0.0,
    "slope": 1.0,
    "threshold": 0.5,
}
BACKGROUND = ("background", "background_offset")  # of an entry, which may lack them
CLOSE = 0.02  # scores that differ by less are within chance: the better of them is right no more often
NO_CHOICE = 1e-6  # the confidence then: only who accepts any uncertainty gets an answer

# Texts that belong to no desk: greetings and closings, keys and signs, what people ask a machine to see what
# it does, and what is said anywhere. A text counts as one of them by the mean of the nearest.
ANY_TEXT = tuple(
    """hi|hello there|good morning, how are you?|good evening|is anybody there?|hey, what's up
    nice to meet you|thank you very much|thanks|ok|okay then|yes|no|maybe|sure, go ahead|bye
    see you later|have a nice day|sorry|please|I see|not sure|never mind|done|asdf|qwertyuiop
    sdfkjh sdfkjh|xyz xyz|aaaa|zxc|hjkl|blah blah|test|la la la|lorem ipsum|1|123456|42 42|2019|3.5
    10:30|555 0199|100 %|01/02|?|!!!|...|-|:)|#@&|What is the weather like?|Tell me a joke.
    Write a poem.|Sing a song.|Tell me a story.|Who are you?|What is the capital of France?
    Who won the game?|How old are you?|Are you a human?|Who was this king?|What is the meaning of life?
    What is two plus two?|Translate this into Spanish.|Who wrote this book?|Why is the sky blue?
    How do airplanes fly?|Do you like pizza?|Who painted this picture?|The cat is sleeping.
    Our dog likes to play.|The sun is shining.|It is cold outside.|Plants need light.
    A man is walking down the street.|She lives in a small village.|The president gave a speech.
    The team scored a goal.|The Romans built roads.|Whales live in the sea.""".replace("\n    ", "|").split(
        "|"
    )
)
NEAREST = 3
OWN = 0.5  # what the likeness of such a text to the categories takes from its own weight: weather may be one

NOTHING = -1  # the answer where no category fits
NO_CATEGORY = ("", "none", "oos")  # labels that mean that none fits
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
    names: tuple[Any, ...] = ()
    hypotheses: tuple[str, ...] = ()
    if isinstance(categories, Mapping):
        names, hypotheses = tuple(map(plain, categories)), tuple(categories.values())
        if wrong := [name for name in names if not isinstance(name, str | int | float)]:
            raise ValueError(f"The name of a category is a string or a number, got {_shortened(wrong[0])}.")
    elif categories is not None and not isinstance(categories, str):
        names = tuple(items_of(categories, "`categories` as a mapping to hypotheses, or a list of names"))
        if wrong := [name for name in names if not isinstance(name, str) or not name.strip()]:
            raise ValueError(f"The name of a category is a string that is not empty, got {wrong[0]!r}.")
        if not isinstance(template, str) or "{}" not in template:
            raise ValueError(f"`hypothesis_template` needs a place for the name, {{}}, got {template!r}.")
        hypotheses = tuple(template.replace("{}", str(name)) for name in names)
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
    shown = {}
    for name, texts in examples.items():
        if isinstance(texts, str):
            raise ValueError(f"The examples of {name!r} are a list of texts, got {_shortened(texts)}.")
        shown[name] = tuple(items_of(texts, f"the examples of {name!r} as a list of texts"))
    return Categories(names, hypotheses, tuple(shown.get(name, ()) for name in names))


def answers_of(labels: Sequence[Any], categories: Categories) -> list[int]:
    """The number of each text's category, or `NOTHING`.

    Args:
        labels (`Sequence`): Names of categories, or scalars of NumPy and the like; where none fits, `None` or
            one of `NO_CATEGORY`, if no category is called so.

    Raises:
        PairError: a label that is none of these, such as a name with a slip; its position is named.
    """
    places = dict.fromkeys([None, *NO_CATEGORY], NOTHING)
    places |= {name: number for number, name in enumerate(categories.names)}
    answers = []
    for row, label in enumerate(map(plain, labels)):
        if not isinstance(label, str | int | float | None) or label not in places:
            raise PairError(
                row,
                f"the label {_shortened(label)} is none of the categories {_shortened(categories.names)}. "
                f"Where none fits, it is null, or {' or '.join(map(repr, NO_CATEGORY[1:]))}.",
            )
        answers.append(places[label])
    return answers


def readable(name: str) -> str:
    """The name of a category as words: `refund_request` and `RefundRequest` are "refund request"."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.sub(r"[\W_]+", " ", apart).strip().lower() or name


def words_of(text: str) -> set[str]:
    """The words of a text that have three letters or more, in lower case."""
    return set(re.findall(r"[^\W\d_]{3,}", text.lower()))


def check_routing(routing: Any, encodings: Sequence[str]) -> None:
    """Raise a ValueError that says what is wrong with the `routing` of a configuration; None is fine."""
    if routing is None:
        return
    if not isinstance(routing, Mapping) or not set(routing) <= set(encodings):
        raise ValueError(f"`routing` is a dict by encoding ({', '.join(encodings)}), got {routing!r}.")
    for encoding, entry in routing.items():
        if not isinstance(entry, Mapping) or not set(UNFITTED) <= set(entry):
            raise ValueError(f"`routing[{encoding!r}]` needs {', '.join(UNFITTED)}, got {entry!r}.")
        if any(key in entry for key in BACKGROUND) and not set(BACKGROUND) <= set(entry):
            raise ValueError(f"`routing[{encoding!r}]` has both of {', '.join(BACKGROUND)}, or neither.")
        for key in (*UNFITTED, *(key for key in BACKGROUND if key in entry)):
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
        anything (`torch.Tensor` of shape `(texts, len(ANY_TEXT))`, *optional*): Cosine with texts that belong
            to no desk.
        near (`torch.Tensor` of shape `(len(ANY_TEXT), categories)`, *optional*): Of these with the
            categories.
    """

    log_odds: torch.Tensor
    contrast: torch.Tensor
    similarity: torch.Tensor | None = None
    rows: torch.Tensor | None = None
    anything: torch.Tensor | None = None
    near: torch.Tensor | None = None

    def background(self) -> torch.Tensor | None:
        """How near each text is to those that belong to no desk, (texts,)."""
        if self.anything is None or self.near is None:
            return None
        alike = self.anything - OWN * self.near.amax(dim=1)
        return alike.topk(NEAREST, dim=1).values.mean(dim=1)

    def features(self) -> torch.Tensor:
        """Similarity, log-odds and contrast of all categories, (texts, categories, 3)."""
        judged = [self.log_odds, self.contrast]
        if self.rows is not None and self.similarity is not None:
            least = (values.amin(dim=1, keepdim=True).expand_as(self.similarity) for values in judged)
            judged = [fill.scatter(1, self.rows, values) for fill, values in zip(least, judged, strict=True)]
        similarity = torch.zeros_like(judged[0]) if self.similarity is None else self.similarity
        return torch.stack([similarity, *judged], dim=-1)


def evidence_from(
    logits: torch.Tensor, label2id: Mapping[str, int], **known: torch.Tensor | None
) -> Evidence:
    """From logits of the labels, (texts, judged, labels). Without a label "contradiction", all others are."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    entailment = logits[..., label2id["entailment"]]
    others = [index for label, index in label2id.items() if label != "entailment"]
    log_odds = entailment - logits[..., others].logsumexp(dim=-1)
    against = label2id.get("contradiction")
    contrast = log_odds if against is None else entailment - logits[..., against]
    return Evidence(log_odds, contrast, **known)


class Decision(NamedTuple):
    """Of some texts. `fits`: that each category does, by itself; `among`: that it is the one, if any is."""

    fits: torch.Tensor
    among: torch.Tensor

    @property
    def probabilities(self) -> torch.Tensor:
        """That each category is the one, (texts, categories): the rest, up to 1, is that none is."""
        return self.among * self.fits.amax(dim=-1, keepdim=True)

    @property
    def confidence(self) -> torch.Tensor:
        """Of the best category, (texts,); next to nothing where the second is within chance of it."""
        best = self.probabilities.amax(dim=-1)
        return best.masked_fill(self.close, NO_CHOICE)

    @property
    def close(self) -> torch.Tensor:
        """Of which texts the two best categories are within chance of each other, (texts,)."""
        best = self.among.log().topk(min(2, self.among.shape[-1]), dim=-1).values
        return (best[..., 0] - best[..., -1] < CLOSE) & (self.among.shape[-1] > 1)


def decide(evidence: Evidence, entry: Mapping[str, Any]) -> Decision:
    """Apply the `routing` of a configuration for an encoding."""
    weights = [entry["similarity"], entry["entailment"], entry["contrast"]]
    scores = evidence.features() @ evidence.log_odds.new_tensor(weights)
    fits = (entry["offset"] + entry["slope"] * scores).sigmoid()
    if "background" in entry and (background := evidence.background()) is not None:
        fits = fits * (entry["background_offset"] - entry["background"] * background).sigmoid()[:, None]
    return Decision(fits, scores.softmax(dim=-1))


def routes(decision: Decision, names: Sequence[str], threshold: float, several: bool) -> list[dict[str, Any]]:
    """What `route` returns of each text, without `scores`."""
    chances = decision.fits if several else decision.probabilities
    ordered, order = chances.sort(dim=-1, descending=True, stable=True)
    sure = (ordered[:, 0] if several else decision.confidence).tolist()
    results = []
    for row, (values, places) in enumerate(zip(ordered.tolist(), order.tolist(), strict=True)):
        ranking = [(names[place], value) for place, value in zip(places, values, strict=True)]
        best, confidence = ranking[0]
        declined = 1 - sure[row] >= threshold
        reason = None
        if declined:
            lower = decision.among[row, places[0]] < decision.fits[row, places[0]]
            close = not several and bool(lower or decision.close[row])
            reason = (
                f"too close to call: {best!r} or {ranking[1][0]!r}"
                if close
                else f"nothing fits: {best!r} comes nearest"
            )
        result: dict[str, Any] = {
            "category": None if declined else best,
            "confidence": None if declined else confidence,
            "uncertainty": 1 - sure[row],
            "reason": reason,
            "ranking": ranking,
        }
        if several:
            result["categories"] = [name for name, value in ranking if 1 - value < threshold]
        results.append(result)
    return results


def is_read(text: str, own: set[str], tokenizer: Any) -> bool:
    """Whether the encoder reads a text, or it has one of the categories' own words, by `words_of`."""
    return any(map(str.isalnum, text)) and (
        is_readable(text, tokenizer) or not own.isdisjoint(words_of(text))
    )


def no_route(names: Sequence[Any], several: bool) -> dict[str, Any]:
    """What `route` returns of a text that the encoder does not read: the heads are not asked."""
    return {
        "category": None,
        "confidence": None,
        "uncertainty": 1.0,
        "reason": UNREADABLE,
        "ranking": [(name, 0.0) for name in names],
        **({"categories": []} if several else {}),
        "scores": {},
    }


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
