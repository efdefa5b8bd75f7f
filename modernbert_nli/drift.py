"""Whether results can be told from those of calibration: two tests, of uncertainty and of labels."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from .calibration import calibrated
from .tokenization import items_of

if TYPE_CHECKING:
    from .pipeline_modernbert_nli import NliAbstentionPipeline

ENOUGH = 50  # results to tell a drift from chance
SIGNIFICANT = 0.01  # how often a difference may be seen where there is none
_MEASURE = (
    "some 100 labelled ones tell: python calibrate.py --model CHECKPOINT --data LABELLED_PAIRS --measure"
)


def drift(pipe: "NliAbstentionPipeline", results: Iterable[Any], encoding: str) -> dict[str, Any]:
    """See `NliAbstentionPipeline.drift`."""
    entry = calibrated(pipe.model.calibration, encoding)
    results = list(items_of(results, "results, or pairs"))
    if not all(isinstance(result, Mapping) and "uncertainty" in result for result in results):
        results = pipe(results, encoding=encoding)
    uncertainty, labels = ([result[key] for result in results] for key in ("uncertainty", "label"))
    return drift_from(entry, uncertainty, labels)


def drift_from(
    entry: Mapping[str, Any], uncertainty: Sequence[float], labels: Sequence[str]
) -> dict[str, Any]:
    """Whether results differ from calibration's: what its guarantee was made on is then another kind of text.

    No more can be told without labels. A difference does not show that the risk is broken; and where none is
    found, the risk may be any: heads that are sure and wrong give the same uncertainties and labels.

    Two tests, at half of `SIGNIFICANT` each: Kolmogorov-Smirnov of the uncertainty, its p-value approximated
    as by Stephens 1970, calibration's scores being known by their quantiles; chi-square of the labels.

    Args:
        entry (`Mapping`): The `calibration` for one encoding.
        uncertainty (`Sequence[float]`): Of the results.
        labels (`Sequence[str]`): Of the results.

    Returns:
        `dict`: `drifted`, true for a difference beyond chance, else `None`, never false; `message`, a
        sentence; `pairs`; `statistic` and `p_value` of the scores; `labels`, by label its share `here` and in
        `calibration`, and `labels_p_value`.

    Raises:
        ValueError: there are no results.
    """
    if not len(uncertainty):
        raise ValueError("There are no results to compare with calibration's.")
    here = torch.tensor(uncertainty, dtype=torch.float64)
    known = torch.tensor(entry["quantiles"], dtype=torch.float64)
    statistic = _greatest_distance(here, known)
    p_value = _kolmogorov(statistic, len(here) * entry["n"] / (len(here) + entry["n"]))
    names = list(dict.fromkeys([*entry["labels"], *labels]))
    shares = {
        name: {"here": labels.count(name) / len(labels), "calibration": entry["labels"].get(name, 0.0)}
        for name in names
    }
    labels_p_value = _chi_square(list(shares.values()), len(labels), entry["n"])
    enough = len(here) >= ENOUGH
    drifted = True if enough and min(p_value, labels_p_value) < SIGNIFICANT / 2 else None
    higher = "higher" if here.mean() > known.mean() else "lower"
    figures = (
        f"Kolmogorov-Smirnov {statistic:.3f}, p {_shown(p_value)}; labels p {_shown(labels_p_value)}; "
        f"uncertainty {higher} on average"
    )
    if not enough:
        message = f"{len(here)} results are too few to tell: give {ENOUGH} or more ({figures})."
    elif drifted:
        message = (
            f"These {len(here):,} results differ from calibration's beyond chance ({figures}): what it "
            f"guarantees for pairs like its own is not for these. What their risk is, {_MEASURE}"
        )
    else:
        message = (
            f"No difference from calibration's results was found in these {len(here):,} ({figures}). That "
            "does not show that their risk is the guaranteed one: where the heads are sure and wrong, "
            f"nothing differs. What it is, {_MEASURE}"
        )
    return {
        "drifted": drifted,
        "message": message,
        "pairs": len(here),
        "statistic": statistic,
        "p_value": p_value,
        "labels": shares,
        "labels_p_value": labels_p_value,
    }


def _greatest_distance(here: torch.Tensor, known: torch.Tensor) -> float:
    """Between the distributions of a sample and of what has these quantiles, straight in between."""
    here, points = here.sort().values, torch.cat([here, known])
    greatest = torch.zeros((), dtype=torch.float64)
    for up_to in (True, False):  # at each point, and just below it: both distributions may jump there
        of_sample = torch.searchsorted(here, points, right=up_to) / len(here)
        above = torch.searchsorted(known, points, right=up_to)
        low, high = (known[place.clamp(0, len(known) - 1)] for place in (above - 1, above))
        between = torch.where(high > low, (points - low) / (high - low).clamp_min(1e-300), 0.0)
        of_known = ((above - 1 + between) / (len(known) - 1)).clamp(0, 1)
        greatest = torch.maximum(greatest, (of_sample - of_known).abs().max())
    return greatest.item()


def _kolmogorov(statistic: float, size: float) -> float:
    """P-value of a Kolmogorov-Smirnov statistic; `size` is n · m / (n + m) of two samples."""
    scaled = (math.sqrt(size) + 0.12 + 0.11 / math.sqrt(size)) * statistic
    if scaled < 0.2:  # where the series below converges slowly, and to 1
        return 1.0
    series = (2 * (-1) ** (term - 1) * math.exp(-2 * (term * scaled) ** 2) for term in range(1, 101))
    return min(1.0, max(0.0, sum(series)))


def _chi_square(shares: list[dict[str, float]], here: int, known: int) -> float:
    """P-value of the test that two samples of labels come from one distribution."""
    total = here + known
    statistic = 0.0
    present = 0
    for share in shares:
        pooled = (share["here"] * here + share["calibration"] * known) / total
        if pooled > 0:
            present += 1
            statistic += here * known / total * (share["here"] - share["calibration"]) ** 2 / pooled
    if present < 2:
        return 1.0
    half = torch.tensor([(present - 1) / 2, statistic / 2], dtype=torch.float64)
    return torch.special.gammaincc(half[0], half[1]).item()


def _shown(p_value: float) -> str:
    return "< 0.0001" if p_value < 0.0001 else f"= {p_value:.2g}"
