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

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from .calibration import StaleCalibration, guaranteed_threshold
from .categories import TEMPLATE, Categories, as_categories, describe, readable, words_of
from .configuration_modernbert_nli import UNFITTED
from .guards import UNREADABLE
from .guards import readable as is_readable
from .kept_texts import ModelTexts
from .separate import PreparedTexts, judge_every, known_texts, prepare, read
from .tokenization import check_text, items_of

if TYPE_CHECKING:
    from .pipeline_modernbert_nli import NliAbstentionPipeline

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

FITS = 0.5  # of several categories, those fit that do so more probably than not
# Of more categories the most similar meet the heads; the others count as entailed no more than the least.
JUDGED = 32
PAIRS_AT_ONCE = 256  # of texts and categories
_TEXTS = "a text, texts, or what `model.encode` made"

_HOW = "python calibrate.py --model CHECKPOINT --routes LABELLED_TEXTS --categories CATEGORIES"


class CategoryScores(NamedTuple):
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


def category_scores_from(
    logits: torch.Tensor, label2id: Mapping[str, int], **known: torch.Tensor | None
) -> CategoryScores:
    """From logits of the labels, (texts, judged, labels). Without a label "contradiction", all others are."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    entailment = logits[..., label2id["entailment"]]
    others = [index for label, index in label2id.items() if label != "entailment"]
    log_odds = entailment - logits[..., others].logsumexp(dim=-1)
    against = label2id.get("contradiction")
    contrast = log_odds if against is None else entailment - logits[..., against]
    return CategoryScores(log_odds, contrast, **known)


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


def decide(evidence: CategoryScores, entry: Mapping[str, Any]) -> Decision:
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
    """Whether a text is worth asking heads about: it has known words, or one of the categories' own.

    Heads that tell which text is not read are too lenient here alone: of keyboard mash any word will do.
    """
    return any(map(str.isalnum, text)) and (
        is_readable(text, tokenizer) or not own.isdisjoint(words_of(text))
    )


def is_unread(judged: Sequence[Mapping[str, Any]], text: str | None, own: set[str]) -> bool:
    """The same by states: heads find no category's pair readable, and the text, if known, has no own word."""
    return all(one["reason"] == UNREADABLE for one in judged) and (
        text is None or own.isdisjoint(words_of(text))
    )


def no_route(names: Sequence[Any], several: bool) -> dict[str, Any]:
    """What `route` returns of a text that the encoder does not read."""
    return {
        "category": None,
        "confidence": None,
        "uncertainty": 1.0,
        "reason": UNREADABLE,
        "ranking": [(name, 0.0) for name in names],
        **({"categories": []} if several else {}),
        "scores": {},
    }


def guaranteed(
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
            "The routes of this checkpoint are not calibrated. Its `calibration`, if it has one, "
            "guarantees a risk of judgements on pairs, and no such guarantee covers the best of several "
            f"categories: `target_risk` cannot be kept. Calibrate on labelled texts of yours, {_HOW}, or "
            "give a `threshold`, which guarantees nothing."
        )
    if calibration["categories"] != categories.digest():
        raise ValueError(
            f"The routes of this checkpoint are calibrated for {calibration['of']} other categories, "
            f"hypotheses or examples: nothing is guaranteed for these. Calibrate for them: {_HOW}"
        )
    if calibration["heads"] != heads:
        raise ValueError(
            f"The routes of this checkpoint are calibrated for other heads than these. Calibrate anew: {_HOW}"
        )
    return guaranteed_threshold({encoding: calibration}, encoding, target_risk)


# A pipeline's texts and categories to scores -------------------------------------------------------------


def route(
    pipe: "NliAbstentionPipeline",
    text: Any,
    categories: Any,
    threshold: float | None = None,
    target_risk: float | None = None,
    several: bool = False,
    hypothesis_template: str = TEMPLATE,
    examples: Mapping[str, Sequence[str]] | None = None,
) -> Any:
    """See `NliAbstentionPipeline.route`."""
    known = as_categories(categories, hypothesis_template, examples)
    kept = hasattr(text, "offsets")  # TokenStates, of this module or of one that `trust_remote_code` made
    encoding = "separate" if kept else pipe.encoding
    entry = (pipe.model.config.routing or {}).get(encoding, UNFITTED)
    threshold = _threshold(pipe, entry, encoding, known, threshold, target_risk, several)
    texts = text if kept else [text] if isinstance(text, str) else list(items_of(text, _TEXTS))
    own = known.words()
    asked = range(len(texts)) if kept else readable_texts(pipe, texts, own).nonzero()[:, 0].tolist()
    results = [no_route(known.names, several) for _ in range(len(texts))]
    places = iter(asked)
    some = texts if kept else [texts[place] for place in asked]
    for evidence, judged in category_scores(pipe, some, known, entry, encoding):
        found = routes(decide(evidence, entry), known.names, threshold, several)
        for row, (result, scores) in enumerate(zip(found, judged, strict=True)):
            place = next(places)
            if is_unread(scores, None if kept else texts[place], own):
                continue
            names = known.names
            if evidence.rows is not None:
                names = tuple(names[place] for place in evidence.rows[row].tolist())
            results[place] = {**result, "scores": dict(zip(names, scores, strict=True))}
    return results[0] if isinstance(text, str) else results


def _threshold(
    pipe: "NliAbstentionPipeline",
    entry: Mapping[str, Any],
    encoding: str,
    known: Categories,
    threshold: float | None,
    target_risk: float | None,
    several: bool,
) -> float:
    """The uncertainty of a route from which to decline: the caller's, else the checkpoint's."""
    if threshold is not None:
        pipe.own_threshold(threshold, target_risk)  # refuses one that cannot be meant, and both together
    if target_risk is None:
        return threshold if threshold is not None else FITS if several else entry["threshold"]
    if several:
        raise ValueError(
            "`target_risk` is the share of texts that get a wrong category: with `several` there may "
            "be more than one. Give a `threshold`."
        )
    if problem := pipe.model.changed_base():
        raise StaleCalibration(f"No risk of routes can be guaranteed, for the encoder {problem}.")
    return guaranteed(entry, encoding, known, pipe.model.heads_digest(), target_risk)


def category_scores(
    pipe: "NliAbstentionPipeline", texts: Any, known: Categories, entry: Mapping[str, Any], encoding: str
) -> Iterator[tuple[CategoryScores, list[list[dict[str, Any]]]]]:
    """Batch by batch of texts: what a route is decided by, and the judgements behind it."""
    alike = bool(entry["similarity"]) and "separate" in pipe.model.config.encoder_layers
    if any(known.examples) and not alike:
        raise ValueError(
            "`examples` count by similarity, which has no weight in the routes of this checkpoint: leave "
            "them out, or fit its routes by `python -m modernbert_nli.calibrating.routes --fit`."
        )
    if not len(texts):
        return
    kept = pipe.texts.of(pipe.model)
    if encoding == "joint":
        yield _joint_scores(pipe, kept, texts, known, entry, alike)
        return
    prepared = _prepared(pipe, kept, known, alike)
    limit = pipe.limit(encoding)
    ours = known_texts(pipe.model, texts) if hasattr(texts, "offsets") else kept.read(texts)
    count, some = len(known.names), alike and len(known.names) > JUDGED
    size = 1 if some else max(1, PAIRS_AT_ONCE // count)
    for start in range(0, len(ours), size):
        premises = prepare(pipe.model, ours[start : start + size])
        cosines = _cosines(pipe, kept, premises.vectors, prepared.vectors, entry) if alike else {}
        rows, others = None, prepared
        if some:
            rows = cosines["similarity"].topk(JUDGED, dim=1).indices.sort(dim=1).values
            others = prepared.select(rows[0])
        output = judge_every(pipe.model, premises, others)
        flat = pipe.decide({name: values.flatten(0, 1) for name, values in output.items()}, limit)
        step = output.logits.shape[1]
        judged = [flat[first : first + step] for first in range(0, len(flat), step)]
        yield category_scores_from(output.logits, pipe.model.config.label2id, rows=rows, **cosines), judged


def _joint_scores(
    pipe: "NliAbstentionPipeline",
    kept: ModelTexts,
    texts: Sequence[str],
    known: Categories,
    entry: Mapping[str, Any],
    alike: bool,
) -> tuple[CategoryScores, list[list[dict[str, Any]]]]:
    """By pairs of texts in one sequence, a pass of the encoder for each."""
    pairs = [(text, hypothesis) for text in texts for hypothesis in known.hypotheses]
    results = pipe.judge_pairs(pairs, encoding="joint")
    step = len(known.names)
    judged = [results[first : first + step] for first in range(0, len(results), step)]
    probs = torch.tensor([[list(each["probs"].values()) for each in row] for row in judged])
    cosines = {}
    if alike:
        prepared = _prepared(pipe, kept, known, alike)
        cosines = _cosines(pipe, kept, _vectors(kept, texts), prepared.vectors, entry)
    return category_scores_from(probs.clamp_min(1e-12).log(), pipe.model.config.label2id, **cosines), judged


def _cosines(
    pipe: "NliAbstentionPipeline",
    kept: ModelTexts,
    texts: torch.Tensor,
    categories: torch.Tensor,
    entry: Mapping[str, Any],
) -> dict[str, torch.Tensor]:
    """Of texts with categories and, where routes are decided by it, of both with texts of no desk."""
    found = {"similarity": texts @ categories.T}
    if entry.get("background"):
        known = kept.prepared(ANY_TEXT, lambda: prepare(pipe.model, read(pipe.model, ANY_TEXT)))
        found |= {"anything": texts @ known.vectors.T, "near": known.vectors @ categories.T}
    return {name: values.cpu() for name, values in found.items()}


def readable_texts(pipe: "NliAbstentionPipeline", texts: Sequence[str], own: set[str]) -> torch.Tensor:
    """Which texts have words for the tokenizer, or one that only the user of a category knows, `(texts,)`.

    Raises:
        PairError: something that is no text.
    """
    for row, text in enumerate(texts):
        check_text(text, "text", row)
    return torch.tensor([is_read(text, own, pipe.tokenizer) for text in texts], dtype=torch.bool)


def _prepared(
    pipe: "NliAbstentionPipeline", kept: ModelTexts, known: Categories, alike: bool
) -> PreparedTexts:
    """The categories, ready to meet any text: made once, and kept as long as the heads stay the same."""

    def make() -> PreparedTexts:
        for row, text in enumerate(known.hypotheses):
            check_text(text, "hypothesis", row)
        prepared = prepare(pipe.model, read(pipe.model, known.hypotheses, cut=False))
        if not alike:
            return prepared
        words = [readable(str(name)) for name in known.names]
        names = _vectors(kept, [word or text for word, text in zip(words, known.hypotheses, strict=True)])
        examples = [_vectors(kept, texts) for texts in known.examples]
        return prepared._replace(vectors=describe(prepared.vectors, names, examples))

    return kept.prepared((known, alike), make)


def _vectors(kept: ModelTexts, texts: Sequence[str]) -> torch.Tensor:
    return torch.stack([text.vector for text in kept.read(texts)]) if texts else torch.empty(0)
