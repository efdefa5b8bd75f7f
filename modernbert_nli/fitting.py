"""Weights of `route` from labelled texts: how much similarity and entailment count, and when nothing fits.

The weights of the scores maximise the likelihood of the right category among all (a conditional logit), each
set counting the same; none is below 0. Then the best score tells texts that some category fits from those
that none fits (logistic regression, both counting the same): texts out of scope, or, in sets without such,
texts of categories that are left out. How near a text is to what belongs to no desk tells short junk from
texts in scope (logistic regression, junk counting as `JUNK` of all texts). The threshold is the one at which
`ANSWERED` of the texts in scope are answered, on average over the sets.

Nothing is computed of the texts but what `route` itself goes by, so that fitting takes as long as routing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from .adapting import around, beside, check_risk
from .categories import NOTHING, Categories, answers_of, as_categories
from .configuration_modernbert_nli import BACKGROUND, UNFITTED
from .risk_control import DELTA, MIN_PAIRS, entry_of, guarantee_table, pairs_needed
from .routing import CategoryScores, Decision, category_scores, decide, is_unread, readable_texts
from .tokenization import items_of

if TYPE_CHECKING:
    from .pipeline_modernbert_nli import NliAbstentionPipeline

FEWEST = 20  # texts of one's own
FOLDS = 4
ANSWERED = 0.78
JUNK = 0.1
LEFT_OUT = 3  # choices of categories to leave out, of a set without texts that nothing fits
RIDGE = 1e-4
# Its weights make no difference to what is known of a text.
_NEUTRAL = {**UNFITTED, "similarity": 1.0, "background": 1.0}


class LabelledTexts(NamedTuple):
    """A set to fit `route` to, or to measure it on; labels as `answers_of` takes them."""

    name: str
    texts: list[str]
    labels: list[str]
    categories: Mapping[str, str]


class RouteFeatures(NamedTuple):
    """What is known of a set's texts and categories, and the right ones.

    Args:
        name (`str`): Of the set.
        features (`torch.Tensor` of shape `(texts, categories, 3)`): See `CategoryScores.features`.
        answers (`torch.LongTensor` of shape `(texts,)`): The right categories, or `NOTHING`.
        read (`torch.BoolTensor` of shape `(texts,)`): Which texts the encoder reads; no other is routed.
        anything, near (`torch.Tensor`, *optional*): See `CategoryScores`.
    """

    name: str
    features: torch.Tensor
    answers: torch.Tensor
    read: torch.Tensor
    anything: torch.Tensor | None = None
    near: torch.Tensor | None = None

    def without(self, seed: int) -> "RouteFeatures":
        """With a third of the categories left out: nothing fits their texts."""
        count = self.features.shape[1]
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        kept = order[max(1, count // 3) :].sort().values
        place = torch.full((count + 1,), NOTHING)  # the last for those that nothing fits anyway
        place[kept] = torch.arange(len(kept))
        near = None if self.near is None else self.near[:, kept]
        return self._replace(features=self.features[:, kept], answers=place[self.answers], near=near)

    def select(self, rows: torch.Tensor) -> "RouteFeatures":
        """Some of the texts, by a mask or by numbers."""
        anything = None if self.anything is None else self.anything[rows]
        return RouteFeatures(
            self.name, self.features[rows], self.answers[rows], self.read[rows], anything, self.near
        )

    def scores(self) -> CategoryScores:
        """What `route` decides by."""
        similarity, log_odds, contrast = self.features.unbind(dim=-1)
        return CategoryScores(log_odds, contrast, similarity, anything=self.anything, near=self.near)

    def decide(self, entry: Mapping[str, Any]) -> Decision:
        """By the `routing` of a configuration: nothing fits what is not read."""
        decision = decide(self.scores(), entry)
        return decision._replace(fits=decision.fits * self.read[:, None])

    def with_misfits(self) -> list["RouteFeatures"]:
        """Itself if nothing fits some of the texts; else with categories left out, if there are enough."""
        if (self.answers == NOTHING).any():
            return [self]
        return [self.without(seed) for seed in range(LEFT_OUT)] if self.features.shape[1] > 2 else []


def know(pipe: "NliAbstentionPipeline", labelled: LabelledTexts) -> RouteFeatures:
    """All that `route` goes by, of every text of a set.

    Args:
        pipe (`NliAbstentionPipeline`): Its weights for routes make no difference.
        labelled (`LabelledTexts`): Texts and categories.
    """
    categories = as_categories(labelled.categories)
    answers = torch.tensor(answers_of(labelled.labels, categories))
    found, unread = [], []
    for scores, judged in category_scores(pipe, labelled.texts, categories, _NEUTRAL, pipe.encoding):
        found.append(scores)
        unread += judged
    own = categories.words()
    strange = [is_unread(judged, text, own) for judged, text in zip(unread, labelled.texts, strict=True)]
    features = torch.cat([scores.features() for scores in found]).cpu().double()
    read = readable_texts(pipe, labelled.texts, own) & ~torch.tensor(strange, dtype=torch.bool)
    parts = [scores.anything for scores in found if scores.anything is not None]
    near = found[0].near
    if near is None:
        return RouteFeatures(labelled.name, features, answers, read)
    return RouteFeatures(labelled.name, features, answers, read, torch.cat(parts).double(), near.double())


def fit_background(sets: Sequence[RouteFeatures], junk: Sequence[RouteFeatures]) -> dict[str, float]:
    """What `fit_routing` takes as `background`.

    Args:
        sets (`Sequence[RouteFeatures]`): Labelled texts.
        junk (`Sequence[RouteFeatures]`): Of each, texts that belong to no desk with its categories.
    """
    alike, target, weight = [], [], []
    for known, share in [*((one, 1 - JUNK) for one in sets), *((one, JUNK) for one in junk)]:
        inside = share != JUNK
        rows = known.select(known.answers != NOTHING) if inside else known
        background = rows.scores().background()
        assert background is not None
        alike.append(background)
        target.append(torch.full_like(background, float(inside)))
        weight.append(torch.full_like(background, share / len(background)))
    offset, slope = _logistic(torch.cat(alike), torch.cat(target), torch.cat(weight) / len(sets))
    return {"background": -slope, "background_offset": offset}


def fit_routing(sets: Sequence[RouteFeatures], background: Mapping[str, float]) -> dict[str, Any]:
    """The entry of `routing` in the configuration for the encoding that `know` read the sets by.

    Args:
        sets (`Sequence[RouteFeatures]`): Labelled texts.
        background (`Mapping[str, float]`): From `fit_background`, or an entry that has it; else empty.

    Raises:
        ValueError: no set has texts that nothing fits, or more than two categories.
    """
    misfits = [part for known in sets for part in known.with_misfits()]
    if not misfits:
        raise ValueError("Give a set with more than two categories, or with texts that none of them fits.")
    weights = _fit_weights(sets)
    offset, slope = _fit_scope(misfits, weights)
    entry = {
        **dict(zip(("similarity", "entailment", "contrast"), weights.tolist(), strict=True)),
        "offset": offset,
        "slope": slope,
        **{key: background[key] for key in BACKGROUND if key in background},
        "threshold": 1.0,
    }
    limits = [uncertainty(known, entry)[known.answers != NOTHING].quantile(ANSWERED) for known in sets]
    entry["threshold"] = float(torch.stack(limits).mean())
    return {key: round(value, 4) for key, value in entry.items()}


def adapt_routes(
    pipe: "NliAbstentionPipeline",
    texts: Iterable[str],
    labels: Iterable[Any],
    categories: Any,
    target_risk: float = 0.1,
    seed: int = 0,
) -> "NliAbstentionPipeline":
    """See `NliAbstentionPipeline.adapt_routes`."""
    check_risk(target_risk)
    texts = list(items_of(texts, "a list of texts"))
    labels = list(items_of(labels, "a list of labels"))
    if len(texts) != len(labels):
        raise ValueError(f"{len(texts)} texts and {len(labels)} labels do not match.")
    known = as_categories(categories)
    hypotheses = dict(zip(known.names, known.hypotheses, strict=True))
    labelled = LabelledTexts("texts of one's own", texts, labels, hypotheses)
    routing, encoding = pipe.model.config.routing or {}, pipe.encoding
    before = routing.get(encoding, UNFITTED)
    entry, report = adapted_routing(
        know(pipe, labelled), before, known, pipe.model.heads_digest(), target_risk, seed
    )
    model = beside(pipe.model, pipe.model)
    model.config.routing = {**routing, encoding: entry}
    model.config.adaptation = {**(model.config.adaptation or {}), "routes": report}
    return around(pipe, model)


def adapted_routing(
    known: RouteFeatures,
    before: Mapping[str, Any],
    categories: Categories,
    heads: str,
    target_risk: float,
    seed: int = 0,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entry of `routing` for labelled texts of one's own, calibrated for them, and what is known of it.

    Whether it pays to fit the weights to these texts is cross-validated, on the probability that the right
    category gets; where it does not, beyond noise, they stay. What is said of the texts meanwhile, by weights
    that were not fitted to them, calibrates.

    Args:
        known (`RouteFeatures`): From `know`.
        before (`Mapping`): The entry that the weights are now from.
        categories (`Categories`): Which the guarantee is for.
        heads (`str`): The digest of the heads that it is for.
        target_risk (`float`): Share of wrong routes that the threshold is to keep to.
        seed (`int`): Of the folds.

    Raises:
        ValueError: too few texts, or categories that nothing can be fitted to.
    """
    count = len(known.answers)
    if count < FEWEST:
        raise ValueError(f"{count} labelled texts are too few to fit routes to: give {FEWEST} or more.")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    folds = order.argsort() % FOLDS
    entries = [fit_routing([known.select(folds != fold)], before) for fold in range(FOLDS)]
    chances, best, doubt = (
        torch.zeros(count, dtype=kind) for kind in (torch.double, torch.long, torch.double)
    )
    for fold, entry in enumerate(entries):
        here, part = folds == fold, known.select(folds == fold)
        chances[here], (best[here], sure) = _of_the_right_one(part, entry), decided(part, entry)
        doubt[here] = 1 - sure
    gain = chances.clamp_min(1e-12).log() - _of_the_right_one(known, before).clamp_min(1e-12).log()
    old_best, old_sure = decided(known, before)
    shares = {"before": old_best == known.answers, "after": best == known.answers}
    pays = bool(gain.mean() > gain.std() / count**0.5)
    fitted: dict[str, Any] = fit_routing([known], before) if pays else {**before}
    if not pays:
        best, doubt = old_best, 1 - old_sure
        shares["after"] = shares["before"]
    fitted.pop("calibration", None)
    errors = best != known.answers
    more: int | None = 0
    rows: list[dict[str, Any]] = []
    if count >= MIN_PAIRS:
        table = guarantee_table(errors, doubt, order)
        answers = [str(categories.names[place]) for place in best.tolist()]
        guarantee = entry_of(doubt, answers, ["texts of one's own"], DELTA, table)
        rows = [row for row in table if row["threshold"] is not None]
        if rows:
            about = {"categories": categories.digest(), "of": len(categories.names), "heads": heads}
            fitted["calibration"] = {**guarantee, **about}
    if kept := [row for row in rows if row["target_risk"] <= target_risk + 1e-9]:
        fitted["threshold"] = kept[-1]["threshold"]
    else:
        needed = pairs_needed(errors, doubt, target_risk)
        more = None if needed is None else max(needed - count, MIN_PAIRS - count, 10)
    report = {name: round(mask.double().mean().item(), 4) for name, mask in shares.items()}
    return fitted, {"texts": count, "fitted": pays, **report, "target_risk": target_risk, "more_texts": more}


def decided(known: RouteFeatures, entry: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """The best category of each text, and the confidence in it."""
    decision = known.decide(entry)
    return decision.probabilities.argmax(dim=1), decision.confidence


def uncertainty(known: RouteFeatures, entry: Mapping[str, Any]) -> torch.Tensor:
    """Of the route of each text."""
    return 1 - decided(known, entry)[1]


def _of_the_right_one(known: RouteFeatures, entry: Mapping[str, Any]) -> torch.Tensor:
    """The probability of the right category, or that none is, of each text."""
    chances = known.decide(entry).probabilities
    every = torch.cat([chances, 1 - chances.sum(dim=1, keepdim=True)], dim=1)  # NOTHING is the last
    return every.gather(1, (known.answers % every.shape[1])[:, None])[:, 0]


def _fit_weights(sets: Sequence[RouteFeatures]) -> torch.Tensor:
    """Of similarity, log-odds and contrast, none below 0."""
    within = [
        (known.features[known.answers != NOTHING], known.answers[known.answers != NOTHING]) for known in sets
    ]
    spread = torch.stack([features.flatten(0, 1).std(dim=0) for features, _ in within]).mean(dim=0) + 1e-6

    def loss(roots: torch.Tensor) -> torch.Tensor:
        weights = roots.square() / spread
        losses = [torch.nn.functional.cross_entropy(features @ weights, right) for features, right in within]
        return torch.stack(losses).mean() + RIDGE * roots.square().square().sum()

    return _minimise(loss, torch.ones(3, dtype=torch.float64)).square() / spread


def _fit_scope(misfits: Sequence[RouteFeatures], weights: torch.Tensor) -> tuple[float, float]:
    """Offset and slope of the probability that a best score is that of a category that fits."""
    best, fits, share = [], [], []
    for known in misfits:
        inside = known.answers != NOTHING
        best.append((known.features @ weights).amax(dim=1))
        fits.append(inside.double())
        share.append(torch.where(inside, 0.5 / inside.sum(), 0.5 / (~inside).sum()))
    return _logistic(torch.cat(best), torch.cat(fits), torch.cat(share) / len(misfits))


def _logistic(score: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> tuple[float, float]:
    """Offset and slope of the probability of a target by a score, all (n,)."""
    centre, spread = score.mean(), score.std() + 1e-6
    scaled = (score - centre) / spread

    def loss(line: torch.Tensor) -> torch.Tensor:
        logits = line[0] + line[1] * scaled
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return (weight * losses).sum() + RIDGE * line[1].square()

    at_centre, slope = _minimise(loss, torch.zeros(2, dtype=torch.float64)).tolist()
    slope /= spread.item()
    return at_centre - slope * centre.item(), slope


def _minimise(loss: Any, start: torch.Tensor) -> torch.Tensor:
    place = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([place], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(place)
        value.backward()
        return value

    optimizer.step(closure)
    return place.detach()
