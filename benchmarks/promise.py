"""Is the promise of a calibration kept? Many calibrations, and how often the risk then exceeds the target.

    python benchmarks/promise.py                                a synthetic population
    python benchmarks/promise.py --judged pairs.npz             real pairs
    python benchmarks/promise.py --judged pairs.npz --resample  real pairs, as a population

The arrays of the file are `errors` and `uncertainty`, (n,). Each calibration is a new draw of `--pairs`
pairs. Of the synthetic population the risk at every threshold is known. Real pairs are split at random, and
a violation is a risk above the target over all pairs that did not calibrate. That over-counts: those are a
sample too, with the more errors the fewer are left for calibration. With `--resample`, pairs are drawn with
replacement instead: all of them are the population, and the risk over all of them is the true one.

A promise is broken at most as often as delta says, by Learn then Test as in `training/calibration.py`, which
is what the product uses, and by SGR (Geifman & El-Yaniv 2017, arXiv:1705.08500). Coverage stands beside that
of the oracle, which knows the risk. Prints a table and writes it to `benchmarks/results/promise.json`, of
real pairs to `promise-NAME.json`.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from modernbert_nli.training.calibration import DELTA, binomial_tail, risk_table  # noqa: E402
from modernbert_nli.training.metrics import coverage_at_risk  # noqa: E402

TARGETS = (0.05, 0.1, 0.2)
Method = Callable[
    [np.ndarray, np.ndarray, float, float], float
]  # errors, uncertainty, target, delta: threshold


def main() -> None:
    """Simulate and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--judged", type=Path, help=".npz file with errors and uncertainty of real pairs")
    parser.add_argument("--resample", action="store_true", help="draw from them with replacement")
    parser.add_argument("--pairs", type=int, default=2500, help="to calibrate with")
    parser.add_argument("--splits", type=int, default=1000)
    args = parser.parse_args()

    population: Any = Synthetic()
    command, name = "python benchmarks/promise.py", "promise"
    if args.judged:
        population = Judged.read(args.judged, args.resample)
        command += f" --judged {args.judged.name}" + " --resample" * args.resample
        name += f"-{args.judged.stem}" + "-resampled" * args.resample
    results = {
        "date": date.today().isoformat(),
        "command": command,
        "population": population.name,
        "pairs": args.pairs,
        "splits": args.splits,
        "delta": DELTA,
        "methods": simulate(population, args.pairs, args.splits),
    }
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))


@dataclass
class Synthetic:
    """Uncertainty uniform on 0 to 1; risk at coverage c: floor + slope · c^power. About that of hard NLI."""

    floor: float = 0.01
    slope: float = 0.26
    power: float = 1.5

    @property
    def name(self) -> str:
        return f"synthetic, risk at coverage c = {self.floor} + {self.slope} c^{self.power}"

    def calibration_pairs(self, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Errors and uncertainty of new pairs."""
        uncertainty = random.random(count)
        wrong = self.floor + self.slope * (self.power + 1) * uncertainty**self.power
        return random.random(count) < wrong, uncertainty

    def outcome(self, threshold: float) -> tuple[float, float]:
        """Coverage and risk, as they are."""
        return threshold, self.floor + self.slope * threshold**self.power

    def oracle(self, target: float) -> float:
        """The greatest coverage with that risk."""
        return min(1.0, (max(0.0, target - self.floor) / self.slope) ** (1 / self.power))


@dataclass
class Judged:
    """Real pairs: some calibrate, and all others stand for the population, or all are the population."""

    name: str
    errors: np.ndarray
    uncertainty: np.ndarray
    resample: bool = False

    @classmethod
    def read(cls, path: Path, resample: bool) -> "Judged":
        """From an .npz file."""
        arrays = np.load(path)
        errors, uncertainty = arrays["errors"].astype(bool), arrays["uncertainty"].astype(float)
        return cls(path.stem + ", resampled" * resample, errors, uncertainty, resample)

    def calibration_pairs(self, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Errors and uncertainty of a random part; the rest is kept for `outcome`."""
        self.rest = np.arange(len(self.errors))
        if self.resample:
            chosen = random.choice(self.rest, count)
            return self.errors[chosen], self.uncertainty[chosen]
        if count > len(self.errors) / 2:
            raise ValueError(f"{count} of {len(self.errors)} pairs leave too few: give fewer `--pairs`.")
        chosen, self.rest = np.split(random.permutation(len(self.errors)), [count])
        return self.errors[chosen], self.uncertainty[chosen]

    def outcome(self, threshold: float) -> tuple[float, float]:
        """Coverage and risk over the rest."""
        accepted = self.uncertainty[self.rest] < threshold
        return accepted.mean(), self.errors[self.rest][accepted].mean() if accepted.any() else 0.0

    def oracle(self, target: float) -> float:
        """The greatest coverage with that risk over all pairs."""
        return coverage_at_risk(self.errors, self.uncertainty, target)


def learn_then_test(errors: np.ndarray, uncertainty: np.ndarray, target: float, delta: float) -> float:
    """The product's threshold, 0 where it promises nothing."""
    return risk_table(errors, uncertainty, delta, [target])[0]["threshold"] or 0.0


def sgr(errors: np.ndarray, uncertainty: np.ndarray, target: float, delta: float) -> float:
    """Selection with guaranteed risk: a binary search over all pairs, whose steps share delta; 0 for none."""
    order = np.argsort(uncertainty)
    wrong, ordered = np.cumsum(errors[order]), uncertainty[order]
    steps = math.ceil(math.log2(len(errors)))
    threshold, low, high = 0.0, 1, len(errors)
    for _ in range(steps):
        accepted = (low + high + 1) // 2
        if binomial_tail(int(wrong[accepted - 1]), accepted, target) <= delta / steps:
            threshold, low = float(np.nextafter(ordered[accepted - 1], 2)), accepted
        else:
            high = max(1, accepted - 1)
    return threshold


METHODS: dict[str, Method] = {"Learn then Test": learn_then_test, "SGR": sgr}


def simulate(
    population: Any, pairs: int, splits: int, targets: tuple[float, ...] = TARGETS, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """By method and target: how often the risk was above it, and the coverage got, beside the oracle's."""
    random = np.random.default_rng(seed)
    got: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for _ in range(splits):
        errors, uncertainty = population.calibration_pairs(pairs, random)
        for name, method in METHODS.items():
            for target in targets:
                threshold = method(errors, uncertainty, target, DELTA)
                outcome = population.outcome(threshold) if threshold else (0.0, 0.0)
                got.setdefault((name, target), []).append(outcome)
    results: dict[str, dict[str, Any]] = {name: {} for name in METHODS}
    for (name, target), outcomes in got.items():
        coverage, risk = np.array(outcomes).T
        share = float((risk > target).mean())
        results[name][str(target)] = {
            "violations": share,
            "standard_error": math.sqrt(share * (1 - share) / splits),
            "coverage": float(coverage.mean()),
            "oracle_coverage": population.oracle(target),
            "nothing_promised": float((coverage == 0).mean()),
            "risk": float(risk[coverage > 0].mean()) if coverage.any() else None,
        }
    return results


def table(results: dict[str, Any]) -> str:
    """Markdown: a row for each method and target."""
    lines = [
        "| Method | Target risk | Broken | Coverage | Coverage of the oracle | Nothing promised |",
        "|---" * 6 + "|",
    ]
    for method, rows in results["methods"].items():
        for target, row in rows.items():
            broken = f"{row['violations']:.1%} ± {100 * row['standard_error']:.1f}"
            shares = (row[name] for name in ("coverage", "oracle_coverage", "nothing_promised"))
            cells = [f"{float(target):.0%}", broken, *(f"{share:.1%}" for share in shares)]
            lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(
        [
            *lines,
            "",
            f"{results['splits']:,} calibrations of {results['pairs']:,} pairs, at {results['delta']:.0%}; "
            f"population: {results['population']}; {results['date']}, `{results['command']}`.",
        ]
    )


if __name__ == "__main__":
    main()
