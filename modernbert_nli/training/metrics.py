"""Logits and uncertainties to figures. Risk: share of wrong answers; coverage: share of answers given.

The figures of selective prediction are those of the published metric in `metrics/selective_prediction`.
"""

import numpy as np
from scipy.special import softmax

from ..metrics.selective_prediction.selective_prediction import aurc, coverage_at_risk, figures, risk_coverage
from .data import NOT_ENTAILMENT

__all__ = [
    "accuracy",
    "aurc",
    "bootstrap_difference",
    "coverage_at_risk",
    "decisions",
    "max_prob_uncertainty",
    "risk_coverage",
    "threshold_for_risk",
    "wrong",
]


def wrong(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mask of the wrong labels, (n,); `logits` (n, 3), `labels` (n,), of a three-way or of a two-way set."""
    predicted = logits.argmax(axis=-1)
    return np.where(labels == NOT_ENTAILMENT, predicted == 0, predicted != labels)


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of right labels."""
    return float(1 - wrong(logits, labels).mean())


def max_prob_uncertainty(logits: np.ndarray) -> np.ndarray:
    """1 - the largest softmax probability, (n,), as in Hendrycks & Gimpel 2017 (arXiv:1610.02136)."""
    return 1 - softmax(logits, axis=-1).max(axis=-1)


def threshold_for_risk(errors: np.ndarray, uncertainty: np.ndarray, target_risk: float) -> float:
    """The greatest threshold at which the accepted answers of *this* sample err at most `target_risk`.

    An estimate, without a guarantee for other samples. 0, which accepts nothing, where no threshold reaches
    the target.
    """
    coverage, risk = risk_coverage(errors, uncertainty)
    allowed = risk <= target_risk
    if not allowed.any():
        return 0.0
    ordered = np.sort(uncertainty)
    accepted = round(coverage[allowed].max() * len(ordered))
    if accepted == len(ordered):
        return 1.0
    return float((ordered[accepted - 1] + ordered[accepted]) / 2)


def decisions(
    logits: np.ndarray, labels: np.ndarray, uncertainty: np.ndarray, threshold: float
) -> dict[str, float | None]:
    """What a user gets at a threshold, and how well the uncertainty ranks errors beside MaxProb.

    Returns:
        `pairs`; the figures of the metric, among them `accuracy` of all answers, `coverage`, the share of
        answers given, `selective_accuracy` of those, and `aurc`; `aurc_max_prob`, of MaxProb on the same
        answers.
    """
    errors = wrong(logits, labels)
    return {
        "pairs": len(labels),
        **figures(errors, uncertainty, threshold),
        "aurc_max_prob": aurc(errors, max_prob_uncertainty(logits)),
    }


def bootstrap_difference(first: np.ndarray, second: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """95 % interval of the difference of two means over the same seeds and pairs, both drawn anew.

    Args:
        first, second (`np.ndarray` of shape `(seeds, pairs)`):
            What was measured, such as 1 for a right answer.
        draws (`int`): Bootstrap samples (Efron & Tibshirani 1993, percentile interval).
    """
    difference = (first.astype(float) - second).T  # pairs first: a draw of rows is contiguous
    random = np.random.default_rng(0)
    pairs, seeds = difference.shape
    means = [
        difference[random.integers(pairs, size=pairs)][:, random.integers(seeds, size=seeds)].mean()
        for _ in range(draws)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
