"""Judgements of `domains.py` to figures and tables: domain by domain, left out and learnt."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from mix import EVALUATION, SOURCES
from scipy.stats import mannwhitneyu

from modernbert_nli.training.metrics import aurc, bootstrap_difference, max_prob_uncertainty, wrong

DRAWS = 300
CLAIMS = "claims: "  # how the names of domains of evidence and claims begin


@dataclass
class Judged:
    """What heads of all seeds say of a domain or of a set: (seeds, pairs), and labels (pairs,)."""

    errors: np.ndarray
    uncertainty: np.ndarray
    max_prob: np.ndarray
    entailment: np.ndarray  # whether it is what was answered
    odds: np.ndarray  # of entailment, as logarithms
    labels: np.ndarray
    tested: np.ndarray  # (pairs,): nobody learns from these

    @classmethod
    def read(cls, seeds: Sequence[Mapping[str, Any]], names: Sequence[str], encoding: str) -> "Judged":
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

    def tested_alone(self) -> "Judged":
        """The pairs that nobody learns from."""
        return Judged(*(getattr(self, field.name)[..., self.tested] for field in fields(self)))

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

    @property
    def best_balanced(self) -> list[float]:
        """By seed, the greatest share that a threshold on entailment reaches, chosen on these very pairs."""
        entailed = self.labels == 0
        found = []
        for odds in self.odds:
            right = entailed[np.argsort(-odds)]
            of_both = np.cumsum(right) / right.sum() + 1 - np.cumsum(~right) / (~right).sum()
            found.append(float(of_both.max() / 2))
        return found

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


def domains() -> dict[str, list[str]]:
    """Names of the files of each domain that is left out at some time."""
    found: dict[str, list[str]] = {}
    for source in SOURCES:
        if source.fold is not None:
            found.setdefault(source.domain, []).append(source.name)
    return found


def figures_of(left_out: Sequence[Mapping[str, Any]], learnt: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures of one mix by encoding: of each domain, left out and learnt, and of each set."""
    found = {}
    for encoding in next(iter(left_out[0].values())):
        rows = {}
        for domain, names in domains().items():
            judged = Judged.read(left_out, names, encoding)
            rows[domain] = {"pairs": judged.errors.shape[1], **_shown(judged), "aurc": judged.aurc_ratio()}
            rows[domain] |= {"auroc": _spread(judged.auroc), "best_balanced": _spread(judged.best_balanced)}
            if learnt[0]:
                known, tested = Judged.read(learnt, names, encoding), judged.tested
                rows[domain]["tested"] = {
                    "pairs": int(tested.sum()),
                    "left_out": _spread((1 - judged.errors[:, tested].mean(axis=1)).tolist()),
                    "learnt": _spread((1 - known.errors[:, tested].mean(axis=1)).tolist()),
                }
        claims = [row for domain, row in rows.items() if domain.startswith(CLAIMS)]
        found[encoding] = {
            "domains": rows,
            "sets": set_figures(left_out, encoding),
            "average": statistics.mean(row["accuracy"]["mean"] for row in rows.values()),
            **{
                f"claims_{key}": statistics.mean(row[key]["mean"] for row in claims)
                for key in ("balanced", "best_balanced")
            },
            "aurc_ratio": statistics.mean(row["aurc"]["ratio"] for row in rows.values()),
        }
    return found


def set_figures(seeds: Sequence[Mapping[str, Any]], encoding: str) -> dict[str, Any]:
    """Figures of the evaluation sets, by name."""
    found = {}
    for name in EVALUATION:
        judged = Judged.read(seeds, [name], encoding)
        found[name] = {"pairs": judged.errors.shape[1], **_shown(judged), "aurc": judged.aurc_ratio()}
    return found


def differences(
    ours: Sequence[Mapping[str, Any]], home: Sequence[Mapping[str, Any]], encoding: str
) -> dict[str, Any]:
    """By domain, accuracy beside that of the home mix, with the paired interval."""
    found = {}
    for domain, names in domains().items():
        one, other = (1 - Judged.read(seeds, names, encoding).errors for seeds in (ours, home))
        found[domain] = {
            "difference": float(one.mean() - other.mean()),
            "interval": bootstrap_difference(one, other, DRAWS),
        }
    return found


def _shown(judged: Judged) -> dict[str, Any]:
    return {"accuracy": _spread(judged.accuracy), "balanced": _spread(judged.balanced)}


def _spread(values: list[float]) -> dict[str, float]:
    spread = {"sd": statistics.stdev(values)} if len(values) > 1 else {}
    return {"mean": statistics.mean(values), **spread}


# Tables ----------------------------------------------------------------------------------------------------


def mix_table(results: dict[str, Any]) -> str:
    """A row for each mix and encoding: what it is worth on average."""
    heads = (
        "Mix",
        "Seeds",
        "Encoding",
        "Left-out domains",
        "Claims, balanced",
        "by the best threshold",
        "AURC / MaxProb",
        *EVALUATION,
    )
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for mix, row in results["mixes"].items():
        for encoding, figures in row["encodings"].items():
            sets = [_percent(figures["sets"][name]["accuracy"]) for name in EVALUATION]
            cells = [f"{figures[key]:.1%}" for key in ("average", "claims_balanced", "claims_best_balanced")]
            cells += [f"{figures['aurc_ratio']:.3f}", *sets]
            lines.append("| " + " | ".join([mix, str(len(row["seeds"])), encoding, *cells]) + " |")
    return "\n".join(lines)


def domain_table(results: dict[str, Any], mix: str, encoding: str) -> str:
    """A row for each domain: home mix, left out, learnt; how errors are ranked."""
    ours, home = (results["mixes"][name]["encodings"][encoding]["domains"] for name in (mix, "home"))
    heads = (
        *("Domain", "Pairs", "Home mix", "Left out", "Difference", "Balanced", "AUROC"),
        *("AURC / MaxProb", "Learnt"),
    )
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for domain, row in ours.items():
        change = results["mixes"][mix]["differences"][encoding][domain]
        low, high = change["interval"]
        ratio, tested = home[domain]["aurc"], row.get("tested")
        cells = [
            domain,
            f"{row['pairs']:,}",
            _percent(home[domain]["accuracy"]),
            _percent(row["accuracy"]),
            f"{100 * change['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
            *(f"{home[domain][key]['mean']:.1%} → {row[key]['mean']:.1%}" for key in ("balanced", "auroc")),
            f"{ratio['ratio']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})",
            f"{tested['left_out']['mean']:.1%} → {tested['learnt']['mean']:.1%}" if tested else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _percent(figures: Mapping[str, float]) -> str:
    return f"{figures['mean']:.1%}" + (f" ± {100 * figures['sd']:.1f}" if "sd" in figures else "")
