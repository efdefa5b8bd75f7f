"""Is the promise for text of a kind never seen kept? Over new domains, beside the promise for pairs.

    python benchmarks/promise_domains.py                           synthetic domains
    python benchmarks/promise_domains.py --judged left_out.npz     real ones, each left out in turn
    python benchmarks/promise_domains.py --judged left_out.npz --foreign foreign.npz

Synthetic domains differ by random effects: in how uncertain the heads are, and in how much worse they err
than they are uncertain; in a part of them they err nearly always. Each of many calibrations draws domains,
pairs of each, and new domains, whose risk at every threshold is known. A promise is broken where it is above
the target.

The arrays of a file are `errors`, `uncertainty` and `domain`, its name, (n,): in `--judged` by heads trained
without the domain of the pair, in `--foreign` by the heads that ship, of domains that nothing was trained on.
Left out in turn, domains cannot break the promise more often than it says (see `training/domains.py`): that
table shows what it costs. Foreign ones can.

Writes `benchmarks/results/promise-domains.json` and `.md`, of real domains `promise-domains-NAME`.
"""

import argparse
import json
import math
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from modernbert_nli.training.calibration import DELTA, risk_table  # noqa: E402
from modernbert_nli.training.domains import Domains, domain_promise, left_out, promised, score, summary  # noqa: E402

SHOWN = (0.05, 0.1, 0.2)
NEW = 20  # domains that meet each promise
GRID = np.linspace(-4, 4, 1001)  # standard normal deviates, and their weights
WEIGHTS = np.exp(-(GRID**2) / 2) / np.exp(-(GRID**2) / 2).sum()
KINDS = {"domains": "for new kinds of text", "pairs": "for pairs"}


def main() -> None:
    """Simulate, or measure, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--judged", type=Path, help=".npz file of pairs of domains that heads had not seen")
    parser.add_argument("--foreign", type=Path, help=".npz file of further domains, by the heads that ship")
    parser.add_argument("--domains", type=int, default=20, help="synthetic ones of a calibration")
    parser.add_argument("--pairs", type=int, default=1000, help="of each of them")
    parser.add_argument("--draws", type=int, default=500, help="calibrations")
    args = parser.parse_args()
    if args.foreign and not args.judged:
        parser.error("--foreign goes with --judged")

    command, name = "python benchmarks/promise_domains.py", "promise-domains"
    results: dict[str, Any] = {"date": date.today().isoformat(), "delta": DELTA}
    if args.judged:
        command += f" --judged {args.judged.name}"
        name += f"-{args.judged.stem}"
        domains = read(args.judged)
        results |= {"promise": domain_promise(domains), "left_out": left_out(domains)}
        if args.foreign:
            command += f" --foreign {args.foreign.name}"
            results["foreign"] = elsewhere(domains, read(args.foreign))
        text = measured_table(results)
    else:
        results |= {"domains": args.domains, "pairs": args.pairs, "draws": args.draws}
        results["populations"] = {
            kind.name: simulate(kind, args.domains, args.pairs, args.draws) for kind in POPULATIONS
        }
        text = simulated_table(results)
    results["command"] = command
    text += f"\n\n{results['date']}, `{command}`.\n"
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(results, indent=2) + "\n")
    (folder / f"{name}.md").write_text(text)
    print(text)


@dataclass(frozen=True)
class Domain:
    """Logits of the uncertainty are normal; the odds of an error are those it states, times e^worse."""

    mean: float
    worse: float

    def sample(self, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Errors and uncertainty of new pairs."""
        logits = self.mean + 1.3 * random.normal(size=count)
        return random.random(count) < expit(logits + self.worse), expit(logits)

    def outcome(self, threshold: float | None) -> tuple[float, float]:
        """Coverage and risk, as they are; 0 where nothing is accepted."""
        logits = self.mean + 1.3 * GRID
        accepted = WEIGHTS * (expit(logits) < threshold) if threshold else np.zeros_like(GRID)
        coverage = float(accepted.sum())
        return coverage, float(accepted @ expit(logits + self.worse)) / coverage if coverage else 0.0


@dataclass(frozen=True)
class Population:
    """Of domains: the standard deviation of `worse`, and the share of them where heads err nearly always."""

    name: str
    spread: float
    hopeless: float = 0.0

    def draw(self, count: int, random: np.random.Generator) -> list[Domain]:
        """New domains."""
        worse = random.normal(-0.5, self.spread, count) + 3 * (random.random(count) < self.hopeless)
        return [Domain(*both) for both in zip(random.normal(logit(0.14), 0.5, count), worse, strict=True)]

    def oracle(self, target: float, delta: float) -> float:
        """Mean coverage at the loosest threshold that breaks a share delta of domains, if all were known."""
        domains = self.draw(500, np.random.default_rng(0))
        low, high = 0.0, 1.0
        for _ in range(10):
            middle = (low + high) / 2
            broken = np.mean([domain.outcome(middle)[1] > target for domain in domains])
            low, high = (middle, high) if broken <= delta else (low, middle)
        return float(np.mean([domain.outcome(low)[0] for domain in domains]))


POPULATIONS = (
    Population("alike", 0.3),
    Population("unlike", 0.7),
    Population("one in twenty hopeless", 0.5, 0.05),
)


def simulate(
    population: Population,
    count: int,
    pairs: int,
    draws: int,
    targets: tuple[float, ...] = SHOWN,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """By promise and target: the share of new domains whose risk is above it, and the coverage got."""
    random = np.random.default_rng(seed)
    got: dict[tuple[str, float], list[tuple[float, float, bool]]] = {}
    for _ in range(draws):
        samples = [domain.sample(pairs, random) for domain in population.draw(count, random)]
        errors, uncertainty = (np.concatenate(arrays) for arrays in zip(*samples, strict=True))
        rows = risk_table(errors, uncertainty, DELTA, targets)
        new = population.draw(NEW, random)
        for target, row in zip(targets, rows, strict=True):
            over_domains = promised([score(*sample, target) for sample in samples], DELTA)
            for kind, threshold in (("domains", over_domains), ("pairs", row["threshold"])):
                coverage, risk = np.array([domain.outcome(threshold) for domain in new]).T
                result = (float((risk > target).mean()), float(coverage.mean()), threshold is None)
                got.setdefault((kind, target), []).append(result)
    results: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    oracle = {target: population.oracle(target, DELTA) for target in targets}
    for (kind, target), outcomes in got.items():
        broken, coverage, nothing = np.array(outcomes, float).T
        results[kind][str(target)] = {
            "broken": float(broken.mean()),
            "standard_error": float(broken.std(ddof=1) / math.sqrt(draws)),
            "coverage": float(coverage.mean()),
            "oracle_coverage": oracle[target],
            "nothing_promised": float(nothing.mean()),
        }
    return results


def read(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Errors and uncertainty by domain, from an .npz file."""
    arrays = np.load(path)
    names, errors, uncertainty = arrays["domain"], arrays["errors"], arrays["uncertainty"]
    return {
        str(name): (errors[names == name], uncertainty[names == name])
        for name in dict.fromkeys(names.tolist())
    }


def elsewhere(domains: Domains, foreign: Domains) -> dict[str, list[dict[str, Any]]]:
    """Domains that had no part in the promises under those of the others: see `training.domains.left_out`."""
    errors, uncertainty = (np.concatenate(arrays) for arrays in zip(*domains.values(), strict=True))
    tables = {"domains": domain_promise(domains)["table"], "pairs": risk_table(errors, uncertainty)}
    return {
        kind: [
            {
                "target_risk": row["target_risk"],
                **summary(foreign, dict.fromkeys(foreign, row["threshold"]), row["target_risk"]),
            }
            for row in table
        ]
        for kind, table in tables.items()
    }


def simulated_table(results: dict[str, Any]) -> str:
    """Markdown: a row for each population, promise and target."""
    lines = [
        "| Domains | Promise | Target risk | Broken | Coverage | Coverage of the oracle | Nothing promised |",
        "|---" * 7 + "|",
    ]
    for population, kinds in results["populations"].items():
        for kind, rows in kinds.items():
            for target, row in rows.items():
                broken = f"{row['broken']:.1%} ± {100 * row['standard_error']:.1f}"
                shares = (row[name] for name in ("coverage", "oracle_coverage", "nothing_promised"))
                cells = [f"{float(target):.0%}", broken, *(f"{share:.1%}" for share in shares)]
                lines.append(f"| {population} | {KINDS[kind]} | {' | '.join(cells)} |")
    return "\n".join(
        [
            *lines,
            "",
            f"{results['draws']:,} calibrations on {results['domains']} domains of {results['pairs']:,} "
            f"pairs, each met by {NEW} new domains. Broken: the share of these whose risk is above the "
            f"target, of which {results['delta']:.0%} are allowed.",
        ]
    )


def measured_table(results: dict[str, Any]) -> str:
    """Markdown: domains left out in turn, then foreign ones, then each of the former."""
    lines = []
    for part, title in (("left_out", "Left out in turn"), ("foreign", "Foreign")):
        if part not in results:
            continue
        lines += [
            f"{title}:",
            "",
            "| Promise | Target risk | Broken | Coverage | Worst risk | Which |",
            "|---" * 6 + "|",
        ]
        for kind, rows in results[part].items():
            for row in rows:
                cells = [f"{row['target_risk']:.1%}", "nothing promised", "", "", ""]
                if row["promised"]:
                    shown = (row["broken"], row["coverage"], row["worst_risk"])
                    cells[1:] = [*map(_percent, shown), ", ".join(row["which"])]
                lines.append(f"| {KINDS[kind]} | {' | '.join(cells)} |")
        lines.append("")
    promise = results["promise"]
    if promise["at"] is not None:
        lines += [
            f"At a target of {promise['at']:.1%}:",
            "",
            "| Domain | Pairs | Risk of all | Coverage | Risk |",
            "|---" * 5 + "|",
        ]
        for row in promise["each"]:
            shares = " | ".join(_percent(row[key]) for key in ("error", "coverage", "risk"))
            lines.append(f"| {row['name']} | {row['pairs']:,} | {shares} |")
    lines += ["", f"{promise['n']} domains left out; {results['delta']:.0%} may break a promise."]
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


if __name__ == "__main__":
    main()
