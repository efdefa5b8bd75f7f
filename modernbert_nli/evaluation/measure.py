"""Predictions to figures: each with its mean and deviation over seeds, and its interval over pairs."""

import statistics
from typing import Any

import numpy as np
from scipy.special import softmax

from ..configuration_modernbert_nli import LABELS
from ..metrics.selective_prediction.selective_prediction import (
    brier_score,
    expected_calibration_error,
    figures,
)
from ..training.data import NOT_ENTAILMENT
from ..training.metrics import aurc, max_prob_uncertainty, wrong
from .predictions import Predictions

TWO_WAY = ("entailment", "non-entailment")
DRAWS = 500  # bootstrap samples of the pairs
Figures = dict[str, float | None]


def results_of(runs: list[Predictions], draws: int = DRAWS) -> dict[str, Any]:
    """The figures of one model on one set, from the predictions of its seeds.

    Returns:
        `accuracy`, `f1_macro`, `f1_micro`; `per_class`, by label; `selective`: the figures of
        `metrics/selective_prediction` and `aurc_max_prob`. Each figure is `{"mean", "sd", "low", "high"}`:
        mean and standard deviation over the seeds (`sd` is `None` for one seed), and a 95 % interval of the
        mean over pairs drawn anew (percentile bootstrap, Efron & Tibshirani 1993). It is `None` where it does
        not exist, as `coverage` of a model without a threshold. Of a two-way set, neutral and contradiction
        count as one answer, non-entailment.
    """
    judged = [_Measured(run) for run in runs]
    everything = np.arange(len(runs[0].labels))
    measured = [seed.figures(everything) for seed in judged]
    random = np.random.default_rng(0)
    samples = [random.integers(len(everything), size=len(everything)) for _ in range(draws)]
    means = [_mean([seed.figures(rows) for seed in judged]) for rows in samples]
    over_seeds: dict[str, Any] = {}
    for key, mean in _mean(measured).items():
        drawn = [value for sample in means if (value := sample[key]) is not None]
        if mean is None or not drawn:
            over_seeds[key] = None
            continue
        values = [value for figures in measured if (value := figures[key]) is not None]
        low, high = np.percentile(drawn, [2.5, 97.5])
        sd = statistics.stdev(values) if len(values) > 1 else None
        over_seeds[key] = {"mean": mean, "sd": sd, "low": float(low), "high": float(high)}
    of_answers = {key: over_seeds.pop(key) for key in ("accuracy", "f1_macro", "f1_micro")}
    own = runs[0].uncertainty is not None
    return {
        **of_answers,
        "per_class": _per_class([seed.confusion(everything) for seed in judged], judged[0].names),
        "selective": {"score": "its own" if own else "MaxProb", **over_seeds},
    }


class _Measured:
    """Predictions of one seed, as answers, errors and probabilities."""

    def __init__(self, run: Predictions):
        two_way = bool((run.labels == NOT_ENTAILMENT).any())
        self.names = TWO_WAY if two_way else LABELS
        self.errors = wrong(run.logits, run.labels)
        self.probabilities = probabilities_of(run.logits)
        self.answers, self.labels = run.logits.argmax(axis=-1), run.labels
        if two_way:
            entailed = self.probabilities[:, :1]
            self.probabilities = np.concatenate([entailed, 1 - entailed], axis=1)
            self.answers, self.labels = np.minimum(self.answers, 1), np.minimum(run.labels, 1)
        self.confidence = self.probabilities[np.arange(len(self.answers)), self.answers]
        self.max_prob = max_prob_uncertainty(run.logits)
        self.uncertainty = self.max_prob if run.uncertainty is None else run.uncertainty
        self.threshold = run.threshold

    def confusion(self, rows: np.ndarray) -> np.ndarray:
        """Counts by right label and answer, (classes, classes)."""
        classes = len(self.names)
        cells = self.labels[rows] * classes + self.answers[rows]
        return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)

    def figures(self, rows: np.ndarray) -> Figures:
        """All figures of some of the pairs."""
        errors, confusion = self.errors[rows], self.confusion(rows)
        right = int(np.trace(confusion))
        found: Figures = {
            "f1_macro": float(np.mean([row["f1"] for row in _scores(confusion)])),
            "f1_micro": right / len(rows),  # each pair has one label and gets one: it is the accuracy
            **figures(errors, self.uncertainty[rows], self.threshold),
            "ece": expected_calibration_error(errors, self.confidence[rows]),
            "brier": brier_score(self.probabilities[rows], self.labels[rows]),
            "aurc_max_prob": aurc(errors, self.max_prob[rows]),
        }
        return {"coverage": None, "selective_accuracy": None, **found}


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    """Softmax, (pairs, classes), in double precision."""
    return softmax(logits.astype(np.float64), axis=-1)


def _mean(seeds: list[Figures]) -> Figures:
    """By figure, the mean over the seeds that have it."""
    means: Figures = {}
    for key in seeds[0]:
        values = [value for seed in seeds if (value := seed[key]) is not None]
        means[key] = statistics.fmean(values) if values else None
    return means


def _scores(confusion: np.ndarray) -> list[dict[str, float]]:
    """By class, with 0 where there is nothing to divide by."""
    hits = np.diag(confusion)
    answered, there = confusion.sum(axis=0), confusion.sum(axis=1)
    return [
        {
            "precision": float(hit / max(1, given)),
            "recall": float(hit / max(1, right)),
            "f1": float(2 * hit / max(1, given + right)),
        }
        for hit, given, right in zip(hits, answered, there, strict=True)
    ]


def _per_class(confusions: list[np.ndarray], names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """By label, means over the seeds."""
    seeds = [_scores(confusion) for confusion in confusions]
    return {
        name: {
            key: statistics.fmean(seed[place][key] for seed in seeds) for key in ("precision", "recall", "f1")
        }
        for place, name in enumerate(names)
    }
