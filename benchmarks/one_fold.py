"""Two ways to learn side by side, from a part of the quick start's mix without the domains of one fold.

`larger_base.py` and `ceiling.py` compare so: on the evaluation sets, on the domains of that fold, of which
nothing is learnt, and on those of another, of which a part is judged that nobody learns from.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from domain_figures import Judged, domains
from domains import Recipe, domain_of, of_fold, tested
from mix import EVALUATION, SOURCES

from modernbert_nli.training.data import Pairs
from modernbert_nli.training.metrics import bootstrap_difference

LEFT_OUT = 1  # fold
LEARNT = 0  # fold of which the part that nobody learns from is judged
TESTED = 400  # pairs of a source in that part, at most
SEED, EPOCHS = 1, 3.0
NAMES = [*EVALUATION, *of_fold(LEFT_OUT), *of_fold(LEARNT)]  # what is judged


def recipe(**head: Any) -> Recipe:
    """New heads that abstain by MaxProb."""
    return Recipe("further", 1.0, 1.0, EPOCHS, (*head.items(), ("abstention_weight", 0.0)))


def drawn(pairs: Pairs, share: float, sets: int | None = None, left_out: int | None = None) -> np.ndarray:
    """Rows that are used: of what is learnt a share, of what is only judged all, or so many.

    Args:
        sets, left_out (`int`, *optional*): Pairs of an evaluation set, and of a source that is left out.
    """
    random = np.random.default_rng(0).permutation(len(pairs))
    if pairs.name in EVALUATION:
        return np.sort(random[:sets])
    fold = domain_of(pairs.name).fold
    if fold == LEFT_OUT:
        return np.sort(random[:left_out])
    learnt = random[: round(share * len(pairs))]
    if fold == LEARNT:
        learnt = np.union1d(learnt, np.flatnonzero(tested(pairs))[:TESTED])
    return np.sort(learnt)


def part_of(pairs: Pairs, rows: np.ndarray) -> Pairs:
    """Some rows, whose states are taken out of those of the whole file."""
    known = rows if pairs.rows is None else pairs.rows[rows]
    return replace(pairs.take(rows), origin=pairs.whole, rows=known)


def compared(
    runs: Mapping[str, Mapping[str, Any]], encoding: str
) -> Iterator[tuple[dict[str, Any], list[Judged]]]:
    """Of each set and domain a row of the table, with the gain of the last run on the one before it.

    Args:
        runs (`Mapping`): By name of a run, what it says, by set and encoding.

    Returns:
        The row, and of each run what it was made of.
    """
    sets = [("evaluation set", name, [name]) for name in EVALUATION]
    for kind, fold in (("left out", LEFT_OUT), ("learnt", LEARNT)):
        inside = {source.domain for source in SOURCES if source.fold == fold}
        sets += [(kind, domain, names) for domain, names in domains().items() if domain in inside]
    for kind, title, names in sets:
        judged = [Judged.read([said], names, encoding) for said in runs.values()]
        if kind == "learnt":
            judged = [of.tested_alone() for of in judged]
        right = [1 - of.errors for of in judged]
        row = {
            "kind": kind,
            "name": title,
            "pairs": right[0].shape[1],
            "accuracy": {run: float(of.mean()) for run, of in zip(runs, right, strict=True)},
            "difference": float(right[-1].mean() - right[-2].mean()),
            "interval": bootstrap_difference(right[-1], right[-2]),
        }
        yield row, judged


def cells(row: Mapping[str, Any]) -> list[str]:
    """The row as the table begins with it."""
    low, high = row["interval"]
    return [
        row["name"],
        row["kind"],
        f"{row['pairs']:,}",
        *(f"{share:.1%}" for share in row["accuracy"].values()),
        f"{100 * row['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
    ]
