"""Thresholds that keep a guarantee: of the answers accepted, at most a target share is wrong.

Learn then Test (Angelopoulos et al. 2021, arXiv:2110.01052) with a fixed sequence. Some of the calibration
pairs place thresholds and choose the one to begin with. The others then test "the risk at this threshold is
above the target" from there to ever looser thresholds, and stop where that cannot be rejected. Of the pairs
that a threshold accepts, the number of errors is binomial, so that the p-value is exact. Each test may use
all of `delta`: the guarantee breaks only if the first threshold that is too loose passes its own.

To begin at the strictest threshold would end at once, where too few pairs are accepted to show anything; to
split `delta` over several places to begin costs coverage. What the pairs that place say may be used freely
instead, being independent of the tests: they begin where it expects the lowest risk that can be shown. That
is one place for all targets, so that no greater target has a stricter threshold.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from statistics import NormalDist
from typing import Any

import torch

from .calibration import QUANTILES

METHOD = "Learn then Test, fixed sequence, binomial p-values"
DELTA = 0.1  # probability that a guarantee does not hold, over the draw of the calibration pairs
TARGETS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3)
MIN_PAIRS = 100
PLACING = 0.2  # share of the pairs that places thresholds
THRESHOLDS = 200

Tail = Callable[[int, int, float], float]


def entry_of(
    uncertainty: torch.Tensor,
    labels: Sequence[str],
    data: Sequence[str],
    delta: float,
    table: Sequence[dict[str, float | None]],
) -> dict[str, Any]:
    """What goes into `calibration` of the configuration for an encoding, see `calibration.py`.

    Args:
        uncertainty (`torch.Tensor` of shape `(n,)`): Of pairs that nothing was fitted to.
        labels (`Sequence[str]`): The labels that were answered.
        data (`Sequence[str]`): Names of the sets that the pairs are from.
        delta (`float`): Probability that a guarantee fails.
        table (`Sequence`): From `guarantee_table`.
    """
    counts = Counter(labels)
    return {
        "method": METHOD,
        "delta": delta,
        "n": len(labels),
        "data": list(data),
        "date": date.today().isoformat(),
        "table": list(table),
        "quantiles": _quantiles(uncertainty, torch.linspace(0, 1, QUANTILES, dtype=torch.float64)).tolist(),
        "labels": {label: counts[label] / len(labels) for label in sorted(counts)},
    }


def nothing(targets: Sequence[float] = TARGETS) -> list[dict[str, float | None]]:
    """A table that guarantees nothing."""
    unknown: dict[str, float | None] = dict.fromkeys(("threshold", "coverage", "risk"))
    return [{"target_risk": target, **unknown} for target in targets]


def binomial_tail(wrong: int, accepted: int, risk: float) -> float:
    """Probability of at most so many wrong among those accepted, each being wrong with this risk."""
    if wrong >= accepted:
        return 1.0
    if wrong > accepted * risk:  # the terms below are too many, those above few
        return 1.0 - _terms(accepted - wrong - 1, accepted, 1 - risk)
    return _terms(wrong, accepted, risk)


def guarantee_table(
    errors: torch.Tensor,
    uncertainty: torch.Tensor,
    order: torch.Tensor,
    delta: float = DELTA,
    targets: Sequence[float] = TARGETS,
    tail: Tail = binomial_tail,
) -> list[dict[str, float | None]]:
    """The loosest threshold for each target whose risk is at most the target with probability 1 - delta.

    Args:
        errors, uncertainty (`torch.Tensor` of shape `(n,)`): Of pairs drawn independently of each other.
        order (`torch.LongTensor` of shape `(n,)`): A random order: the first of it place thresholds, the
            others test.
        tail (`Callable`, *optional*): `binomial_tail`, or another function that computes it.

    Returns:
        Rows of `target_risk`, `threshold` (accept below it), and `coverage` and `risk` as measured on the
        pairs that tested; the last three are `None` where no threshold could be shown to keep the target.
    """
    errors, uncertainty = errors[order].bool(), uncertainty[order].double()
    count = round(PLACING * len(errors))
    thresholds = _thresholds(errors[:count], uncertainty[:count], len(errors) - count, delta)
    wrong, accepted = _counts(errors[count:], uncertainty[count:], torch.tensor(thresholds).double())
    rows = nothing(targets)
    for row, target in zip(rows, targets, strict=True):
        passed = 0
        while passed < len(thresholds) and tail(wrong[passed], accepted[passed], target) <= delta:
            passed += 1
        if passed:
            last = passed - 1
            row["threshold"], row["coverage"] = thresholds[last], accepted[last] / (len(errors) - count)
            row["risk"] = wrong[last] / accepted[last]
    return rows


def pairs_needed(
    errors: torch.Tensor, uncertainty: torch.Tensor, target: float, delta: float = DELTA
) -> int | None:
    """Roughly how many pairs like these would guarantee a risk; `None` where more of them would not help.

    For each threshold that a tenth of these pairs is below: as many as show, at the risk seen there, that the
    target is kept. That risk is seen with chance errors, so that one more error is counted than there was.

    Args:
        errors, uncertainty (`torch.Tensor` of shape `(n,)`): As for `guarantee_table`.
        target, delta (`float`): The risk, and the probability that the guarantee of it fails.
    """
    thresholds = _quantiles(uncertainty.double(), torch.arange(1, 11, dtype=torch.float64) / 10)
    thresholds[-1] = 1.0
    needed = []
    for wrong, accepted in zip(*_counts(errors.bool(), uncertainty.double(), thresholds), strict=True):
        if not accepted or (risk := (wrong + 1) / accepted) >= target:
            continue
        # Normal approximation of the binomial test, and at least what no error at all asks for.
        z = NormalDist().inv_cdf(1 - delta)
        shown = max(
            (z / (target - risk)) ** 2 * target * (1 - target), math.log(delta) / math.log(1 - target)
        )
        needed.append(shown / (1 - PLACING) / (accepted / len(errors)))
    return None if not needed else math.ceil(min(needed) / 10) * 10


def _terms(last: int, count: int, risk: float) -> float:
    """Probabilities of `last`, `last` - 1, …, 0 of `count` events, summed: the first must be the largest."""
    log_term = math.lgamma(count + 1) - math.lgamma(last + 1) - math.lgamma(count - last + 1)
    term = math.exp(log_term + last * math.log(risk) + (count - last) * math.log1p(-risk))
    total, odds = term, (1 - risk) / risk
    for number in range(last, 0, -1):
        term *= number / (count - number + 1) * odds
        total += term
        if term < total * 1e-17:
            break
    return total


def _thresholds(errors: torch.Tensor, uncertainty: torch.Tensor, tested: int, delta: float) -> list[float]:
    """Thresholds at quantiles, from the one whose risk can be shown to be lowest, if these are right."""
    inner = _quantiles(uncertainty, torch.arange(1, THRESHOLDS, dtype=torch.float64) / THRESHOLDS)
    thresholds = torch.cat([inner, inner.new_ones(1)]).unique()
    wrong, accepted = (torch.tensor(count).double() for count in _counts(errors, uncertainty, thresholds))
    # Roughly the upper bound of the risk that the tests will find, with their errors as Poisson counts. It
    # need not be exact: wherever they begin, the guarantee holds.
    expected = wrong * tested / len(errors) + 1
    bound = (expected + NormalDist().inv_cdf(1 - delta) * expected.sqrt()) / accepted.clamp_min(1)
    return thresholds[bound.argmin() :].tolist()


def _counts(
    errors: torch.Tensor, uncertainty: torch.Tensor, thresholds: torch.Tensor
) -> tuple[list[int], list[int]]:
    """How many are wrong, and how many accepted, below each threshold."""
    ordered, order = uncertainty.sort()
    accepted = torch.searchsorted(ordered, thresholds.to(ordered), side="left")
    upto = torch.cat([errors.new_zeros(1, dtype=torch.long), errors[order].long().cumsum(dim=0)])
    return upto[accepted].tolist(), accepted.tolist()


def _quantiles(values: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Straight in between; `torch.quantile` takes no more than 16 million values."""
    ordered = values.double().sort().values
    place = at * (len(ordered) - 1)
    below = place.floor().long()
    above = (below + 1).clamp_max(len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
