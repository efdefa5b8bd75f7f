"""A calibration of labelled pairs: the guarantee of `risk_control.py`, for all and by group.

`tests/test_guarantee.py` checks the guarantee, and what it costs beside SGR (Geifman & El-Yaniv 2017,
arXiv:1705.08500). The same is done for each group of the pairs by itself, such as those of a source: a
guarantee for all together may be broken in one and more than kept in another. For text that calibration had
nothing like: `calibrating/over_domains.py`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import bdtr
from scipy.stats import binomtest

from ..calibration import CALIBRATION
from ..risk_control import DELTA, METHOD, MIN_PAIRS, TARGETS, entry_of, guarantee_table, nothing

__all__ = [
    "DELTA",
    "METHOD",
    "MIN_PAIRS",
    "TARGETS",
    "binomial_tail",
    "calibration_of",
    "measured_risk",
    "nothing",
    "risk_table",
]


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
        delta (`float`): Probability that a guarantee may fail, for each row of a table by itself.
        groups (`Sequence[str]`, *optional*): The group of each pair: each that has `MIN_PAIRS` gets a
        guarantee
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
        raise ValueError(f"{len(errors)} pairs are too few to guarantee anything: give {MIN_PAIRS} or more.")
    if not ((uncertainty >= 0) & (uncertainty <= 1)).all():
        raise ValueError("An uncertainty lies between 0 and 1.")
    if not 0 < delta < 1:
        raise ValueError(f"`delta` is a probability between 0 and 1, got {delta}.")
    table = risk_table(errors, uncertainty, delta)
    entry = entry_of(torch.from_numpy(uncertainty), labels, data, delta, table)
    if groups is not None and (guarantees := _by_group(errors, uncertainty, groups, delta)):
        entry["groups"] = guarantees
    return entry


def _by_group(
    errors: np.ndarray, uncertainty: np.ndarray, groups: Sequence[str], delta: float
) -> dict[str, dict[str, Any]]:
    """The table of each group, by name; of a group that is too small, rows that guarantee nothing."""
    sizes = Counter(groups)
    if len(groups) != len(errors):
        raise ValueError(f"{len(groups)} groups of {len(errors)} pairs do not match.")
    if len(sizes) < 2:
        return {}
    which = np.array(groups)
    guarantees = {}
    for name in sorted(sizes):
        here = which == name
        table = risk_table(errors[here], uncertainty[here], delta) if sizes[name] >= MIN_PAIRS else nothing()
        asked = f"{name} (group)" if name == CALIBRATION else name  # which stands for all pairs together
        guarantees[asked] = {"n": sizes[name], "table": table}
    return guarantees


def risk_table(
    errors: np.ndarray,
    uncertainty: np.ndarray,
    delta: float = DELTA,
    targets: Sequence[float] = TARGETS,
    seed: int = 0,
) -> list[dict[str, float | None]]:
    """See `guarantee_table`.

    Args:
        errors, uncertainty (`np.ndarray` of shape `(n,)`): Of pairs drawn independently of each other.
        seed (`int`): Of the split into what places and what tests.
    """
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(errors)))
    return guarantee_table(
        torch.as_tensor(errors), torch.as_tensor(uncertainty), order, delta, targets, binomial_tail
    )


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
