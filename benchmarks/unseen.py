"""What does a checkpoint make of kinds of text that its heads never saw, and what can it promise for such?

    python benchmarks/unseen.py --data DATA --model checkpoints/quickstart

DATA holds `breadth/` and `eval/`; the heads must have learnt nothing of `breadth/`, nor been chosen by it. Up
to 1,000 pairs of each of its files are judged as a user's would be, and a file is a part of the domain that
`mix.py` says. What can be promised over domains, which may be nothing, goes into the checkpoint's
configuration, and is what a target risk then means there. Prints a table and writes
`benchmarks/results/unseen.json` and `.md`.
"""

import argparse
import json
import statistics
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from domain_figures import Judged, domains, figures_of  # noqa: E402
from mix import EVALUATION, SOURCES, files  # noqa: E402

from calibrate import CALIBRATED, write  # noqa: E402
from evaluation.contestants import Heads, contestants, parse_model  # noqa: E402
from evaluation.predictions import predictions_of  # noqa: E402
from training.data import Pairs, load_pairs  # noqa: E402
from training.domains import domain_promise  # noqa: E402
from training.metrics import coverage_at_risk  # noqa: E402
from training.resume import write_aside  # noqa: E402

MOST = 1000  # pairs of a file, at random
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    """Judge what is missing, write the promise and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with breadth/ and eval/")
    parser.add_argument("--model", type=Path, default=ROOT / "checkpoints" / "quickstart")
    args = parser.parse_args()

    (heads,) = contestants(parse_model(str(args.model)))
    assert isinstance(heads, Heads)
    paths = files(args.data, ROOT / "runs" / "quickstart")
    said: dict[str, Any] = {}
    for name in (*EVALUATION, *(source.name for source in SOURCES if source.fold is not None)):
        pairs = load_pairs(str(paths[name]))
        said[name] = judged(heads, pairs if name in EVALUATION else _part(pairs))
    encodings = [encoding for encoding in heads.encodings if encoding]
    promises = {encoding: promise_of(said, encoding) for encoding in encodings}
    model = heads.pipe.model
    calibration = {
        encoding: {**entry, "domains": promises[encoding]} for encoding, entry in model.calibration.items()
    }
    threshold = model.config.abstention_threshold
    model.set_calibration(calibration, threshold)
    write({name: getattr(model.config, name) for name in CALIBRATED}, str(args.model), None, None)
    results = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/unseen.py --data DATA --model {_shown(args.model)}",
        "threshold": threshold,
        "encodings": {
            encoding: {
                **figures_of([said], [{}])[encoding],
                "at_threshold": at_threshold(said, encoding, threshold),
                "coverage_at_10_risk": coverage_of_all(said, encoding, 0.1),
                "promise": promises[encoding],
            }
            for encoding in encodings
        },
    }
    write_aside(RESULTS / "unseen.json", json.dumps(results, indent=2) + "\n")
    write_aside(RESULTS / "unseen.md", text(results) + "\n")
    print(text(results))


def judged(heads: Heads, pairs: Pairs) -> dict[str, dict[str, np.ndarray]]:
    """By encoding: logits, labels, uncertainty, and that all of them are tested."""
    found = {}
    for encoding in filter(None, heads.encodings):
        run = predictions_of(heads, pairs, encoding, ROOT / "runs" / "evaluation")
        assert run.uncertainty is not None  # heads have one
        found[encoding] = {
            "logits": run.logits,
            "labels": run.labels,
            "uncertainty": run.uncertainty,
            "tested": np.ones(len(pairs), bool),
        }
    return found


def promise_of(said: dict[str, Any], encoding: str) -> dict[str, Any]:
    """What these domains let one promise for another one."""
    found = {name: Judged.read([said], names, encoding) for name, names in domains().items()}
    return domain_promise({name: (of.errors[0], of.uncertainty[0]) for name, of in found.items()})


def at_threshold(said: dict[str, Any], encoding: str, threshold: float) -> dict[str, dict[str, float | None]]:
    """By domain, coverage and risk where the checkpoint abstains as it is set to."""
    found = {}
    for name, names in domains().items():
        of = Judged.read([said], names, encoding)
        accepted = of.uncertainty[0] < threshold
        risk = float(of.errors[0][accepted].mean()) if accepted.any() else None
        found[name] = {"coverage": float(accepted.mean()), "risk": risk}
    return found


def coverage_of_all(said: dict[str, Any], encoding: str, risk: float) -> float:
    """Share of the pairs of all domains together that can be answered at a risk, by the best threshold."""
    of_all = [Judged.read([said], names, encoding) for names in domains().values()]
    errors, uncertainty = (
        np.concatenate([getattr(of, name)[0] for of in of_all]) for name in ("errors", "uncertainty")
    )
    return float(coverage_at_risk(errors, uncertainty, risk))


def text(results: dict[str, Any]) -> str:
    """A table for each encoding, and what can be promised."""
    parts = []
    for encoding, figures in results["encodings"].items():
        lines = [
            "| Domain | Pairs | Accuracy | Balanced | AURC / MaxProb | Coverage | Risk |",
            "|---|---|---|---|---|---|---|",
        ]
        for domain, row in figures["domains"].items():
            got, ratio = figures["at_threshold"][domain], row["aurc"]
            risk = "" if got["risk"] is None else f"{got['risk']:.1%}"
            cells = [
                domain,
                f"{row['pairs']:,}",
                *(f"{row[key]['mean']:.1%}" for key in ("accuracy", "balanced")),
            ]
            cells += [f"{ratio['ratio']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"]
            lines.append("| " + " | ".join([*cells, f"{got['coverage']:.1%}", risk]) + " |")
        rows = figures["promise"]["table"]
        kept = [row for row in rows if row["threshold"] is not None]
        promised = (
            f"the lowest risk that can be promised is {kept[0]['target_risk']:.0%}, at a mean coverage of "
            f"{kept[0]['coverage']:.1%}"
            if kept
            else f"no risk up to {rows[-1]['target_risk']:.0%} can be promised"
        )
        mean = statistics.mean(row["accuracy"]["mean"] for row in figures["domains"].values())
        lines += [
            "",
            f"{encoding.capitalize()} encoding: {mean:.1%} right on average. For another kind of text "
            f"{promised}, with {1 - figures['promise']['delta']:.0%} certainty over "
            f"{figures['promise']['n']} kinds. At a risk of 10% over all of them together "
            f"{figures['coverage_at_10_risk']:.1%} could be answered.",
        ]
        parts.append("\n".join(lines))
    note = (
        "Two-way sets: entailment or not. Balanced: mean share told right of what is entailed and of what is "
        "not. Coverage and risk: of the answers given at the checkpoint's own threshold "
        f"({results['threshold']:.3g}). {results['date']}, `{results['command']}`."
    )
    return "\n\n".join([*parts, note])


def _part(pairs: Pairs) -> Pairs:
    return pairs.take(np.sort(np.random.default_rng(0).permutation(len(pairs))[:MOST]))


def _shown(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


if __name__ == "__main__":
    main()
