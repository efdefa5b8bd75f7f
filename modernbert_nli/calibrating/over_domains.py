"""A guarantee for text of a kind never seen: what is drawn is a domain, not a pair.

Each of K domains is judged by heads that were trained without it. Its score at a target risk is the loosest
threshold up to which the risk measured in it stays within the target. The guaranteed threshold is the r-th
smallest score, r = floor(delta (K + 1)): split conformal prediction with whole domains as its points, as by
Dunn, Wasserman & Ramdas 2022 (arXiv:1809.07441) and Lee, Barber & Willett 2023 (arXiv:2306.06342). It is also
conformal risk control (Angelopoulos et al. 2022, arXiv:2208.02814) of the loss "above the target in this
domain". To test over domains as pairs are tested (Learn then Test) would guarantee more, a share delta with a
probability besides, which needs more of them: 22 without a failure for 10 % at 90 %. Nothing is assumed of
the domains but that the new one is exchangeable with them.

What is guaranteed, for each row by itself: draw a new domain as these were, and a sample of it as theirs; the
probability is at most delta that the sample has `MIN_ACCEPTED` answers accepted or more of which a greater
share than the target is wrong. To be read with it:

- It holds over domains. In one of 1 / delta the risk may be anything, and nothing says which one.
- It is the risk measured in a sample. One of hundreds of pairs is near to the domain's own, and a score ends
  where the measured risk first exceeds the target, so that chance makes scores stricter, not looser.
- Where fewer than `MIN_ACCEPTED` of a sample are accepted nothing is measured, and nothing said of those few.
- It is exact for heads that are given. Here each domain met heads trained without it, and the new one meets
  heads trained with all K: that a domain more in training makes a threshold no worse is taken for granted, as
  with the jackknife (Barber et al. 2021, arXiv:1905.02928).
- Leaving out each of the K in turn cannot refute it: whatever the domains are, at most floor(delta K) of them
  break the guarantee that the others make (see `left_out`). Domains that had no part in it can.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np

from ..training.calibration import DELTA, TARGETS, risk_table

METHOD = "split conformal over domains, each judged by heads trained without it"
MIN_ACCEPTED = 50  # of a domain's pairs, to say anything of their risk
SHOWN = 0.1  # target at which each domain is shown

Domains = Mapping[str, tuple[np.ndarray, np.ndarray]]  # errors and uncertainty of each, (n,)


def domain_guarantee(
    domains: Domains, delta: float = DELTA, targets: Sequence[float] = TARGETS
) -> dict[str, Any]:
    """What goes into `calibration[encoding]["domains"]`: see `calibration.py`.

    Args:
        domains (`Mapping[str, tuple[np.ndarray, np.ndarray]]`): By name, errors (1 for a wrong label) and
            uncertainty (0 to 1) of a domain's pairs, (n,), by heads that nothing of this domain was shown to:
            neither to fit, nor to choose them.
        delta (`float`): Probability that a guarantee may fail, over the draw of a new domain.
        targets (`Sequence[float]`): Shares of wrong answers among those accepted, ascending.

    Raises:
        ValueError: too few domains to guarantee anything with this `delta`, or values that cannot be meant.
    """
    if not 0 < delta < 1:
        raise ValueError(f"`delta` is a probability between 0 and 1, got {delta}.")
    if not _rank(len(domains), delta):
        raise ValueError(
            f"{len(domains)} domains are too few to guarantee anything with a delta of {delta:g}: give "
            f"{math.ceil(1 / delta - 1e-9) - 1} or more."
        )
    domains = {name: _checked(name, *arrays) for name, arrays in domains.items()}
    table = []
    for target in targets:
        threshold = guaranteed([score(*arrays, target) for arrays in domains.values()], delta)
        table.append({"target_risk": target, **_over_domains(domains, threshold, target)})
    kept = [row for row in table if row["threshold"] is not None]
    usual = [row for row in kept if row["target_risk"] <= SHOWN + 1e-9]
    shown = usual[-1] if usual else kept[0] if kept else dict.fromkeys(("target_risk", "threshold"))
    each = []
    for name, (errors, uncertainty) in domains.items():
        coverage, risk = outcome(errors, uncertainty, shown["threshold"])
        row = {"name": name, "pairs": len(errors), "error": float(errors.mean())}
        each.append({**row, "coverage": coverage, "risk": risk})
    return {
        "method": METHOD,
        "delta": delta,
        "n": len(domains),
        "date": date.today().isoformat(),
        "table": table,
        "at": shown["target_risk"],
        "each": each,
    }


def score(errors: np.ndarray, uncertainty: np.ndarray, target: float) -> float:
    """The loosest threshold of a domain up to which none that accepts `MIN_ACCEPTED` breaks the target.

    1 where none breaks it, 0 where the strictest does, or none accepts as many.
    """
    order = np.argsort(uncertainty)
    scores, wrong = uncertainty[order], np.cumsum(errors[order])
    accepted = np.arange(1, len(scores) + 1)
    # A threshold falls between two different scores; the greatest, 1, does not accept a score of 1.
    measured = (np.append(scores[1:] != scores[:-1], True)) & (accepted >= MIN_ACCEPTED) & (scores < 1)
    broken = measured & _above(wrong, accepted, target)
    if not broken.any():
        return 1.0 if measured.any() else 0.0
    first = int(broken.argmax())
    return float(scores[first]) if measured[:first].any() else 0.0


def guaranteed(scores: Sequence[float], delta: float) -> float | None:
    """The threshold that a new domain's score is below with probability delta at most; None for none.

    Its rank among K + 1 is uniform, or lower where scores are equal, if the domains are exchangeable.
    """
    rank = _rank(len(scores), delta)
    return (sorted(scores)[rank - 1] or None) if rank else None


def breaks(errors: np.ndarray, uncertainty: np.ndarray, threshold: float | None, target: float) -> bool:
    """Whether a domain's risk at a threshold is above the target, `MIN_ACCEPTED` answers being accepted."""
    accepted = uncertainty < (threshold or 0.0)
    count = np.array(accepted.sum())
    return bool(count >= MIN_ACCEPTED and _above(errors[accepted].sum(), count, target))


def outcome(
    errors: np.ndarray, uncertainty: np.ndarray, threshold: float | None
) -> tuple[float, float | None]:
    """Coverage and risk at a threshold; the risk of nothing is None."""
    accepted = uncertainty < (threshold or 0.0)
    return float(accepted.mean()), float(errors[accepted].mean()) if accepted.any() else None


def left_out(
    domains: Domains, delta: float = DELTA, targets: Sequence[float] = TARGETS
) -> dict[str, list[dict[str, Any]]]:
    """Each domain under the guarantee of the others, beside the guarantee for pairs drawn from the others.

    That no more than the share delta is broken over domains is certain, as said above; what this shows is
    what it costs, and how much oftener the guarantee for pairs is broken, which is not made for such text.

    Returns:
        `dict`: `domains` and `pairs`, for each of the two a row for each target: `target_risk`; `broken`, the
        share of domains, and `which`, their names; `coverage`, the mean; `guaranteed`, the share of domains
        for which there was a threshold; `worst_risk`, the greatest of those that accepted `MIN_ACCEPTED`.
    """
    domains = {name: _checked(name, *arrays) for name, arrays in domains.items()}
    scores = {name: [score(*arrays, target) for target in targets] for name, arrays in domains.items()}
    thresholds: dict[str, dict[str, list[float | None]]] = {"domains": {}, "pairs": {}}
    for name in domains:
        others = [other for other in domains if other != name]
        columns = zip(*(scores[other] for other in others), strict=True)
        thresholds["domains"][name] = [guaranteed(column, delta) for column in columns]
        errors, uncertainty = (
            np.concatenate(arrays) for arrays in zip(*(domains[o] for o in others), strict=True)
        )
        rows = risk_table(errors, uncertainty, delta, targets)
        thresholds["pairs"][name] = [row["threshold"] for row in rows]
    return {
        kind: [
            {"target_risk": target, **summary(domains, {name: of[name][row] for name in domains}, target)}
            for row, target in enumerate(targets)
        ]
        for kind, of in thresholds.items()
    }


def summary(domains: Domains, thresholds: Mapping[str, float | None], target: float) -> dict[str, Any]:
    """What domains get at a threshold each: see `left_out`."""
    got = {name: outcome(*arrays, thresholds[name]) for name, arrays in domains.items()}
    which = [name for name, arrays in domains.items() if breaks(*arrays, thresholds[name], target)]
    risks = [
        risk
        for name, (coverage, risk) in got.items()
        if risk is not None and round(coverage * len(domains[name][0])) >= MIN_ACCEPTED
    ]
    return {
        "broken": len(which) / len(domains),
        "which": which,
        "coverage": float(np.mean([coverage for coverage, _ in got.values()])),
        "guaranteed": float(np.mean([thresholds[name] is not None for name in domains])),
        "worst_risk": max(risks, default=None),
    }


def _over_domains(domains: Domains, threshold: float | None, target: float) -> dict[str, Any]:
    """The rest of a row: see `calibration.py`."""
    if threshold is None:
        return dict.fromkeys(("threshold", "coverage", "risk", "worst_risk", "broken"))
    found = summary(domains, dict.fromkeys(domains, threshold), target)
    risks = [risk for arrays in domains.values() if (risk := outcome(*arrays, threshold)[1]) is not None]
    shown = {key: found[key] for key in ("coverage", "worst_risk", "broken")}
    return {"threshold": threshold, "risk": float(np.median(risks)) if risks else None, **shown}


def _rank(count: int, delta: float) -> int:
    return math.floor(delta * (count + 1) + 1e-9)


def _above(wrong: np.ndarray, accepted: np.ndarray, target: float) -> np.ndarray:
    return wrong > target * accepted + 1e-9


def _checked(name: str, errors: np.ndarray, uncertainty: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    errors, uncertainty = np.asarray(errors).astype(bool), np.asarray(uncertainty, dtype=float)
    if errors.ndim != 1 or errors.shape != uncertainty.shape or not len(errors):
        raise ValueError(
            f"{name}: {errors.shape} errors and {uncertainty.shape} uncertainties are no pairs of one domain."
        )
    if not ((uncertainty >= 0) & (uncertainty <= 1)).all():
        raise ValueError(f"{name}: an uncertainty lies between 0 and 1.")
    return errors, uncertainty
