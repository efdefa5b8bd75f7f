"""Logits and uncertainties to figures. Risk: share of wrong answers; coverage: share of answers given."""

import numpy as np


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of right labels; `logits` (n, 3), `labels` (n,)."""
    return float((logits.argmax(axis=-1) == labels).mean())


def max_prob_uncertainty(logits: np.ndarray) -> np.ndarray:
    """1 - the largest softmax probability, (n,), as in Hendrycks & Gimpel 2017 (arXiv:1610.02136)."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return 1 - shifted.max(axis=-1) / shifted.sum(axis=-1)


def risk_coverage(errors: np.ndarray, uncertainty: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and selective risk, (n,) each, as ever less certain answers are accepted."""
    order = np.argsort(uncertainty, kind="stable")
    accepted = np.arange(1, len(order) + 1)
    return accepted / len(order), np.cumsum(errors[order]) / accepted


def aurc(errors: np.ndarray, uncertainty: np.ndarray) -> float:
    """Area under the risk-coverage curve, lower is better (Geifman et al. 2019, arXiv:1805.08206)."""
    return float(risk_coverage(errors, uncertainty)[1].mean())


def threshold_for_risk(errors: np.ndarray, uncertainty: np.ndarray, target_risk: float) -> float:
    """The greatest threshold at which the accepted answers of *this* sample err at most `target_risk`.

    An estimate, without a guarantee for other samples. 0, which accepts nothing, where no threshold reaches
    the target.
    """
    _, risk = risk_coverage(errors, uncertainty)
    ordered = np.sort(uncertainty)
    last = len(ordered) - 1
    # Abstaining starts at the threshold, so it lies between two neighbours that differ.
    allowed = [i for i in np.flatnonzero(risk <= target_risk) if i == last or ordered[i] < ordered[i + 1]]
    if not allowed:
        return 0.0
    best = allowed[-1]
    return 1.0 if best == last else float((ordered[best] + ordered[best + 1]) / 2)


def decisions(
    logits: np.ndarray, labels: np.ndarray, uncertainty: np.ndarray, threshold: float
) -> dict[str, float | None]:
    """What a user gets at a threshold, and how well the uncertainty ranks errors beside MaxProb.

    Returns:
        `accuracy` of all answers; `coverage`, the share of answers given; `selective_accuracy` of those;
        `aurc` of the uncertainty and `aurc_max_prob` of MaxProb on the same answers.
    """
    errors = logits.argmax(axis=-1) != labels
    accepted = uncertainty < threshold
    return {
        "pairs": len(labels),
        "accuracy": accuracy(logits, labels),
        "coverage": float(accepted.mean()),
        "selective_accuracy": float(1 - errors[accepted].mean()) if accepted.any() else None,
        "aurc": aurc(errors, uncertainty),
        "aurc_max_prob": aurc(errors, max_prob_uncertainty(logits)),
    }
