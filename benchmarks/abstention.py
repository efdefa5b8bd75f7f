"""Which score tells right answers from wrong ones best? AURC of each beside that of MaxProb.

    python benchmarks/abstention.py --sets snli_test.jsonl mnli.jsonl hans.jsonl \
        --models 'SNLI=runs/snli/seed-1,runs/snli/seed-2' 'SNLI, with an opinion=runs/opinion/seed-1'

A model is `name=checkpoint,checkpoint...`, its seeds, as for `evaluate_nli.py`; `train.py` makes them, with
an opinion where `--abstention_data` is given. MaxProb, 1 - the largest probability, is that of the same
answers, after the temperature that is folded into every checkpoint. Each ratio is one of means over the
seeds; its 95 % interval is that of pairs and seeds drawn anew, the same ones for both scores (percentile
bootstrap). Prints a table and writes `benchmarks/results/abstention.json` and `.md`.
"""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from modernbert_nli.evaluation.command import public_command  # noqa: E402
from modernbert_nli.evaluation.contestants import Heads, contestants, parse_model  # noqa: E402
from modernbert_nli.evaluation.measure import probabilities_of  # noqa: E402
from modernbert_nli.evaluation.predictions import Predictions, predictions_of  # noqa: E402
from modernbert_nli.files import write_aside  # noqa: E402
from modernbert_nli.training.data import load_pairs  # noqa: E402
from modernbert_nli.training.metrics import aurc, max_prob_uncertainty, wrong  # noqa: E402

DRAWS = 500
RESULTS = ROOT / "benchmarks" / "results"


class Judged:
    """The answers of one seed, and what each score makes of them."""

    def __init__(self, run: Predictions, weight: float):
        self.errors, self.logits = wrong(run.logits, run.labels), run.logits
        self.probabilities = probabilities_of(run.logits)
        self.answers = run.logits.argmax(axis=-1)
        self.max_prob = max_prob_uncertainty(run.logits)
        assert run.uncertainty is not None  # heads have one
        self.own = run.uncertainty
        self.head = (self.own - (1 - weight) * self.max_prob) / weight

    def margin(self) -> np.ndarray:
        ordered = np.sort(self.probabilities, axis=-1)
        return ordered[:, -2] - ordered[:, -1]

    def entropy(self) -> np.ndarray:
        """In nats."""
        return -(self.probabilities * np.log(np.maximum(self.probabilities, 1e-12))).sum(axis=-1)

    def energy(self) -> np.ndarray:
        """Of Liu et al. 2020 (arXiv:2010.03759)."""
        return -np.logaddexp.reduce(self.logits.astype(np.float64), axis=-1)

    def of_all(self, seeds: list["Judged"]) -> np.ndarray:
        """1 - the mean probability that all seeds give this one's answers: a deep ensemble."""
        rows = np.arange(len(self.answers))
        return 1 - np.mean([seed.probabilities[rows, self.answers] for seed in seeds], axis=0)


Score = Callable[[Judged, list[Judged]], np.ndarray]
SCORES: dict[str, Score] = {
    "margin": lambda seed, _: seed.margin(),
    "entropy": lambda seed, _: seed.entropy(),
    "energy": lambda seed, _: seed.energy(),
    "all seeds' heads (an ensemble)": lambda seed, seeds: seed.of_all(seeds),
    "abstention head alone": lambda seed, _: seed.head,
    "uncertainty, as it ships": lambda seed, _: seed.own,
}


def main() -> None:
    """Judge what is missing, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", required=True, help="name=checkpoint,checkpoint")
    parser.add_argument("--sets", nargs="+", required=True, help="files of labelled pairs")
    parser.add_argument("--predictions", type=Path, default=ROOT / "runs" / "evaluation")
    args = parser.parse_args()

    sets = [load_pairs(source) for source in args.sets]
    rows: list[dict[str, Any]] = []
    for text in args.models:
        seeds = [seed for seed in contestants(parse_model(text), None) if isinstance(seed, Heads)]
        encoding = seeds[0].encodings[0]
        for pairs in sets:
            judged = []
            for seed in seeds:
                run = predictions_of(seed, pairs, encoding, args.predictions)
                judged.append(Judged(run, seed.config["abstention_weight"]))
            rows.append({"model": seeds[0].model.name, "set": pairs.name, **compared(judged)})
        for seed in seeds:
            seed.unload()
    results = {
        "date": date.today().isoformat(),
        "command": public_command("benchmarks/abstention.py", sys.argv[1:]),
        "sets": {pairs.name: len(pairs) for pairs in sets},
        "rows": rows,
    }
    write_aside(RESULTS / "abstention.json", json.dumps(results, indent=2) + "\n")
    write_aside(RESULTS / "abstention.md", table(results) + "\n")
    print(table(results))


def compared(seeds: list[Judged], draws: int = DRAWS) -> dict[str, Any]:
    """AURC of MaxProb, and of each score the ratio to it, with its interval."""
    scored = {"MaxProb": [seed.max_prob for seed in seeds]}
    scored |= {name: [score(seed, seeds) for seed in seeds] for name, score in SCORES.items()}
    if len(seeds) == 1:
        del scored["all seeds' heads (an ensemble)"]
    random, count = np.random.default_rng(0), len(seeds[0].errors)

    def mean_aurcs(which: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """By score."""
        of_seeds = [
            [aurc(seeds[seed].errors[pairs], values[seed][pairs]) for seed in which]
            for values in scored.values()
        ]
        return np.mean(of_seeds, axis=1)

    measured = mean_aurcs(np.arange(len(seeds)), np.arange(count))
    drawn = np.array(
        [
            mean_aurcs(random.integers(len(seeds), size=len(seeds)), random.integers(count, size=count))
            for _ in range(draws)
        ]
    )
    low, high = np.percentile(drawn[:, 1:] / drawn[:, :1], [2.5, 97.5], axis=0)
    names = list(scored)[1:]
    return {
        "seeds": len(seeds),
        "errors": float(np.mean([seed.errors.mean() for seed in seeds])),
        "aurc_max_prob": float(measured[0]),
        "ratios": {
            name: {
                "ratio": float(measured[i + 1] / measured[0]),
                "low": float(low[i]),
                "high": float(high[i]),
            }
            for i, name in enumerate(names)
        },
    }


def table(results: dict[str, Any]) -> str:
    """A row for each model and score, a column for each set."""
    sets, rows = list(results["sets"]), results["rows"]
    lines = [f"| Trained on | Score | {' | '.join(sets)} |", "|---|---" + "|---" * len(sets) + "|"]
    for model in dict.fromkeys(row["model"] for row in rows):
        of_model = {row["set"]: row for row in rows if row["model"] == model}
        first = next(iter(of_model.values()))
        base = " | ".join(f"AURC {of_model[name]['aurc_max_prob']:.4f}" for name in sets)
        lines.append(f"| {model} ({first['seeds']} seeds) | MaxProb | {base} |")
        for score in first["ratios"]:
            cells = " | ".join(_cell(of_model[name]["ratios"][score]) for name in sets)
            lines.append(f"| | {score} | {cells} |")
    note = "Ratios of AURC to that of MaxProb, with 95% intervals; bold where the interval lies below 1."
    return "\n".join([*lines, "", f"{note} {results['date']}, `{results['command']}`."])


def _cell(row: dict[str, float]) -> str:
    text = f"{row['ratio']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
    return f"**{text}**" if row["high"] < 1 else text


if __name__ == "__main__":
    main()
