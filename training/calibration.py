"""Thresholds that keep a promise: of the answers accepted, at most a target share is wrong.

Learn then Test (Angelopoulos et al. 2021, arXiv:2110.01052) with a fixed sequence. A random fifth of the
calibration pairs places thresholds and chooses the one to begin with. The others then test "the risk at this
threshold is above the target" from there to ever looser thresholds, and stop where that cannot be rejected.
Of the pairs that a threshold accepts, the number of errors is binomial, so that the p-value is exact. Each
test may use all of `delta`: the promise breaks only if the first threshold that is too loose passes its own.

To begin at the strictest threshold would end at once, where too few pairs are accepted to show anything; to
split `delta` over several places to begin costs coverage. What the first fifth says may be used freely
instead, being independent of the tests: they begin where it expects the lowest risk that can be shown. That
is one place for all targets, so that no greater target has a stricter threshold. `benchmarks/promise.py`
checks the promise, and what it costs beside SGR (Geifman & El-Yaniv 2017, arXiv:1705.08500).

The same is done for each group of the pairs by itself, such as those of a source: a promise for all together
may be broken in one and more than kept in another. For text that calibration had nothing like: `domains.py`.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import date
from statistics import NormalDist
from typing import Any

import numpy as np
from scipy.special import bdtr
from scipy.stats import binomtest

from calibration_modernbert_nli import CALIBRATION, QUANTILES

METHOD = "Learn then Test, fixed sequence, binomial p-values"
DELTA = 0.1  # probability that a promise does not hold, over the draw of the calibration pairs
TARGETS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3)
MIN_PAIRS = 100
PLACING = 0.2  # share of the pairs that places thresholds
THRESHOLDS = 200


def calibration_of(
    errors: np.ndarray,
    uncertainty: np.ndarray,
    labels: Sequence[str],
    data: Sequence[str],
    delta: float = DELTA,
    groups: Sequence[str] | None = None,
) -> dict[str, Any]:
    """What goes into `calibration` of the configuration for an encoding.

    Args:
        errors (`np.ndarray` of shape `(n,)`): 1 for a wrong label, of pairs that nothing was fitted to.
        uncertainty (`np.ndarray` of shape `(n,)`): 0 to 1.
        labels (`Sequence[str]`): The labels that were answered.
        data (`Sequence[str]`): Names of the sets that the pairs are from.
        delta (`float`): Probability that a promise may fail, for each row of a table by itself.
        groups (`Sequence[str]`, *optional*): The group of each pair: each that has `MIN_PAIRS` gets a promise
            of its own, if there is more than one.

    Raises:
        ValueError: fewer than `MIN_PAIRS`, or values that cannot be meant.
    """
    errors, uncertainty = np.asarray(errors).astype(bool), np.asarray(uncertainty, dtype=float)
    if not errors.shape == uncertainty.shape == (len(labels),):
        raise ValueError(
            f"{errors.shape} errors, {uncertainty.shape} uncertainties and {len(labels)} labels do not match."
        )
    if len(errors) < MIN_PAIRS:
        raise ValueError(f"{len(errors)} pairs are too few to promise anything: give {MIN_PAIRS} or more.")
    if not ((uncertainty >= 0) & (uncertainty <= 1)).all():
        raise ValueError("An uncertainty lies between 0 and 1.")
    if not 0 < delta < 1:
        raise ValueError(f"`delta` is a probability between 0 and 1, got {delta}.")
    counts = Counter(labels)
    entry = {
        "method": METHOD,
        "delta": delta,
        "n": len(errors),
        "data": list(data),
        "date": date.today().isoformat(),
        "table": risk_table(errors, uncertainty, delta),
        "quantiles": np.quantile(uncertainty, np.linspace(0, 1, QUANTILES)).tolist(),
        "labels": {label: counts[label] / len(labels) for label in sorted(counts)},
    }
    if groups is not None and (promises := _by_group(errors, uncertainty, groups, delta)):
        entry["groups"] = promises
    return entry


def _by_group(
    errors: np.ndarray, uncertainty: np.ndarray, groups: Sequence[str], delta: float
) -> dict[str, dict[str, Any]]:
    """The table of each group, by name; of a group that is too small, rows that promise nothing."""
    sizes = Counter(groups)
    if len(groups) != len(errors):
        raise ValueError(f"{len(groups)} groups of {len(errors)} pairs do not match.")
    if len(sizes) < 2:
        return {}
    which = np.array(groups)
    promises = {}
    for name in sorted(sizes):
        here = which == name
        table = risk_table(errors[here], uncertainty[here], delta) if sizes[name] >= MIN_PAIRS else nothing()
        asked = f"{name} (group)" if name == CALIBRATION else name  # which stands for all pairs together
        promises[asked] = {"n": sizes[name], "table": table}
    return promises


def nothing(targets: Sequence[float] = TARGETS) -> list[dict[str, float | None]]:
    """A table that promises nothing."""
    unknown: dict[str, float | None] = dict.fromkeys(("threshold", "coverage", "risk"))
    return [{"target_risk": target, **unknown} for target in targets]


def risk_table(
    errors: np.ndarray,
    uncertainty: np.ndarray,
    delta: float = DELTA,
    targets: Sequence[float] = TARGETS,
    seed: int = 0,
) -> list[dict[str, float | None]]:
    """The loosest threshold for each target whose risk is at most the target with probability 1 - delta.

    Args:
        errors, uncertainty (`np.ndarray` of shape `(n,)`): Of pairs drawn independently of each other.
        seed (`int`): Of the split into what places and what tests.

    Returns:
        Rows of `target_risk`, `threshold` (accept below it), and `coverage` and `risk` as measured on the
        pairs that tested; the last three are `None` where no threshold could be shown to keep the target.
    """
    order = np.random.default_rng(seed).permutation(len(errors))
    placing, testing = np.split(order, [round(PLACING * len(errors))])
    thresholds = _thresholds(errors[placing], uncertainty[placing], len(testing), delta)
    wrong, accepted = _counts(errors[testing], uncertainty[testing], thresholds)
    rows = nothing(targets)
    for row, target in zip(rows, targets, strict=True):
        passed = 0
        while passed < len(thresholds) and binomial_tail(wrong[passed], accepted[passed], target) <= delta:
            passed += 1
        if passed:
            last = passed - 1
            row["threshold"], row["coverage"] = thresholds[last], accepted[last] / len(testing)
            row["risk"] = wrong[last] / accepted[last]
    return rows


def binomial_tail(wrong: int, accepted: int, risk: float) -> float:
    """Probability of at most so many wrong among those accepted, each being wrong with this risk."""
    return float(bdtr(wrong, accepted, risk))


def measured_risk(errors: np.ndarray, uncertainty: np.ndarray, threshold: float) -> dict[str, Any]:
    """The risk of these pairs at a threshold, and what it may be in the long run.

    Returns:
        `dict`: `pairs`; `accepted`, of which `wrong` are wrong; `risk`, with the bounds of its 95 % interval
        (Clopper & Pearson 1934) `low` and `high`. The risk is `None` where nothing is accepted.
    """
    accepted = np.asarray(uncertainty) < threshold
    wrong, count = int(np.asarray(errors)[accepted].sum()), int(accepted.sum())
    low, high = binomtest(wrong, count).proportion_ci(method="exact") if count else (0.0, 1.0)
    return {
        "pairs": len(accepted),
        "accepted": count,
        "wrong": wrong,
        "risk": wrong / count if count else None,
        "low": float(low),
        "high": float(high),
    }


def _thresholds(errors: np.ndarray, uncertainty: np.ndarray, tested: int, delta: float) -> list[float]:
    """Thresholds at quantiles, from the one whose risk can be shown to be lowest, if these are right."""
    inner = np.quantile(uncertainty, np.arange(1, THRESHOLDS) / THRESHOLDS)
    thresholds = np.unique(np.append(inner, 1.0))
    wrong, accepted = (np.array(count) for count in _counts(errors, uncertainty, thresholds))
    # Roughly the upper bound of the risk that the tests will find, with their errors as Poisson counts. It
    # need not be exact: wherever they begin, the promise holds.
    expected = wrong * tested / len(errors) + 1
    bound = (expected + NormalDist().inv_cdf(1 - delta) * np.sqrt(expected)) / np.maximum(accepted, 1)
    return thresholds[bound.argmin() :].tolist()


def _counts(
    errors: np.ndarray, uncertainty: np.ndarray, thresholds: Sequence[float] | np.ndarray
) -> tuple[list[int], list[int]]:
    """How many are wrong, and how many accepted, below each threshold."""
    order = np.argsort(uncertainty)
    accepted = np.searchsorted(uncertainty[order], thresholds, side="left")
    return np.append(0, np.cumsum(errors[order]))[accepted].tolist(), accepted.tolist()
