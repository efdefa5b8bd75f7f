"""What heads said of labelled pairs to figures: of a domain or a set, over seeds."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.stats import mannwhitneyu

from modernbert_nli.training.metrics import aurc, bootstrap_difference, max_prob_uncertainty, wrong

DRAWS = 300


@dataclass
class LeftOutPredictions:
    """What heads of all seeds say of a domain or of a set: (seeds, pairs), and labels (pairs,)."""

    errors: np.ndarray
    uncertainty: np.ndarray
    max_prob: np.ndarray
    entailment: np.ndarray  # whether it is what was answered
    odds: np.ndarray  # of entailment, as logarithms
    labels: np.ndarray
    tested: np.ndarray  # (pairs,): nobody learns from these

    @classmethod
    def read(
        cls, seeds: Sequence[Mapping[str, Any]], names: Sequence[str], encoding: str
    ) -> "LeftOutPredictions":
        """Files of one domain together."""

        def of_all(take: Callable[[Mapping[str, np.ndarray]], np.ndarray]) -> np.ndarray:
            return np.stack(
                [np.concatenate([take(said[name][encoding]) for name in names]) for said in seeds]
            )

        return cls(
            of_all(lambda said: wrong(said["logits"], said["labels"])),
            of_all(lambda said: said["uncertainty"]),
            of_all(lambda said: max_prob_uncertainty(said["logits"])),
            of_all(lambda said: said["logits"].argmax(axis=-1) == 0),
            of_all(lambda said: said["logits"][:, 0] - np.logaddexp.reduce(said["logits"][:, 1:], axis=-1)),
            of_all(lambda said: said["labels"])[0],
            of_all(lambda said: said["tested"])[0],
        )

    def tested_alone(self) -> "LeftOutPredictions":
        """The pairs that nobody learns from."""
        return LeftOutPredictions(*(getattr(self, field.name)[..., self.tested] for field in fields(self)))

    @property
    def accuracy(self) -> list[float]:
        """By seed."""
        return (1 - self.errors.mean(axis=1)).tolist()

    @property
    def balanced(self) -> list[float]:
        """By seed, the mean share that is told right of what is entailed and of what is not."""
        entailed = self.labels == 0
        of_both = (self.entailment[:, entailed].mean(axis=1), (~self.entailment[:, ~entailed]).mean(axis=1))
        return np.mean(of_both, axis=0).tolist()

    @property
    def auroc(self) -> list[float]:
        """By seed, of telling what is entailed from what is not: 50 % where nothing of it is known."""
        entailed = self.labels == 0
        pairs = entailed.sum() * (~entailed).sum()
        return [mannwhitneyu(odds[entailed], odds[~entailed]).statistic / pairs for odds in self.odds]

    def aurc_ratio(self) -> dict[str, float]:
        """AURC of the uncertainty to that of MaxProb, with its 95 % interval: pairs and seeds drawn anew."""
        random, (seeds, pairs) = np.random.default_rng(0), self.errors.shape

        def ratio(which: np.ndarray, rows: np.ndarray) -> float:
            own, known = (
                np.mean([aurc(self.errors[seed][rows], score[seed][rows]) for seed in which])
                for score in (self.uncertainty, self.max_prob)
            )
            return float(own / known) if known else 1.0

        def draw(size: int) -> np.ndarray:
            return random.integers(size, size=size)

        drawn = [ratio(draw(seeds), draw(pairs)) for _ in range(DRAWS)]
        low, high = np.percentile(drawn, [2.5, 97.5])
        return {"ratio": ratio(np.arange(seeds), np.arange(pairs)), "low": float(low), "high": float(high)}

    def figures(self, other: "LeftOutPredictions | None" = None) -> dict[str, Any]:
        """Of these pairs; beside other heads, whose seeds are as many or one, the paired difference."""
        found: dict[str, Any] = {
            "pairs": self.errors.shape[1],
            "accuracy": spread(self.accuracy),
            "aurc": self.aurc_ratio(),
        }
        if 0 < (self.labels == 0).sum() < len(self.labels):
            found |= {"balanced": spread(self.balanced), "auroc": spread(self.auroc)}
        if other is not None:
            theirs = np.broadcast_to(other.errors, self.errors.shape)
            found["difference"] = float(theirs.mean() - self.errors.mean())
            found["interval"] = bootstrap_difference(1 - self.errors, 1 - theirs, DRAWS)
        return found


def spread(values: list[float]) -> dict[str, float]:
    """Mean, and standard deviation where there are several."""
    deviation = {"sd": statistics.stdev(values)} if len(values) > 1 else {}
    return {"mean": statistics.mean(values), **deviation}
