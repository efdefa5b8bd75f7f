"""Train heads as a spec says, and compare them: on the evaluation sets, and on domains that they never saw.

    python -m experiments.run experiments/specs/heads.json --data DATA

DATA holds `train/`, `breadth/` and `eval/` with the files that `training/mix.py` names. README.md beside this
file says what a spec is. What was judged is kept under `runs/domains`: an interrupted run goes on. Writes
`experiments/results/NAME.json` and `.md`, NAME being the spec's.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
from transformers.utils.logging import set_verbosity_error

from modernbert_nli.calibrating import left_out
from modernbert_nli.calibrating.left_out import HOME, ROOT, Data, Judgements, Recipe, domains
from modernbert_nli.files import write_aside
from modernbert_nli.training.arguments import HeadArguments
from modernbert_nli.training.data import Pairs
from modernbert_nli.training.mix import EVALUATION
from modernbert_nli.training.report import head_parameters

from .figures import LeftOutPredictions

RESULTS = ROOT / "experiments" / "results"


@dataclass(frozen=True)
class Spec:
    """What is compared: see README.md."""

    what: str
    runs: dict[str, dict[str, Any]]  # by name, options of heads and base, and "mix" where it differs
    compare_with: str
    mix: str
    seeds: list[int]
    epochs: float
    shares: list[float] = field(default_factory=lambda: [1.0, 1.0])
    left_out: Literal["each"] | int | None = None
    part: float = 1.0
    most: int | None = None

    @classmethod
    def read(cls, path: Path) -> "Spec":
        """From its file.

        Raises:
            ValueError: a key that is missing or unknown, or a run to compare with that is not there.
        """
        try:
            spec = cls(**json.loads(path.read_text()))
        except TypeError as error:
            raise ValueError(f"{path}: {error}") from None
        if spec.compare_with not in (HOME, *spec.runs):
            raise ValueError(f"{path}: `compare_with` is none of its runs, nor {HOME!r}: {spec.compare_with}")
        return spec

    def drawn(self, pairs: Pairs) -> Pairs:
        """The pairs of a file that are used."""
        random = np.random.default_rng(0).permutation(len(pairs))
        count = self.most if pairs.name in EVALUATION else round(self.part * len(pairs))
        return pairs.take(np.sort(random[:count]))


def main() -> None:
    """Train what is missing, compare, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("spec", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/, breadth/ and eval/")
    args = parser.parse_args()
    set_verbosity_error()
    spec = Spec.read(args.spec)
    said: dict[str, list[Judgements]] = {}
    described: dict[str, Any] = {}
    for name, options in spec.runs.items():
        head = {key: value for key, value in options.items() if key != "mix"}
        cut = spec.drawn if spec.part < 1 or spec.most else None
        data = Data(args.data, HeadArguments(base_dtype="bfloat16", **head), cut)
        if spec.compare_with == HOME and not said:
            said[HOME] = [Judgements(left_out.at_home(data), {})]
        recipe = Recipe(
            options.get("mix", spec.mix), spec.shares[0], spec.shares[1], spec.epochs, tuple(head.items())
        )
        said[name] = [judged(spec, recipe, seed, data) for seed in spec.seeds]
        described[name] = {**options, "parameters": head_parameters(data.model)}
    results = {
        "date": date.today().isoformat(),
        "command": f"python -m experiments.run experiments/specs/{args.spec.name} --data DATA",
        "what": spec.what,
        "compare_with": spec.compare_with,
        "seeds": spec.seeds,
        "epochs": spec.epochs,
        "runs": described,
        "figures": figures(spec, said),
    }
    write_aside(RESULTS / f"{args.spec.stem}.json", json.dumps(results, indent=2) + "\n")
    write_aside(RESULTS / f"{args.spec.stem}.md", text(results) + "\n")
    print(text(results))


def judged(spec: Spec, recipe: Recipe, seed: int, data: Data) -> Judgements:
    """What heads of one run and seed say."""
    if spec.left_out == "each":
        return left_out.judgements(recipe, seed, data)
    names = [*EVALUATION, *(left_out.of_fold(spec.left_out) if spec.left_out is not None else ())]
    return Judgements(left_out.judged_by(recipe, spec.left_out, seed, data, names), {})


def figures(spec: Spec, said: Mapping[str, Sequence[Judgements]]) -> dict[str, Any]:
    """By run and encoding: of each evaluation set and of each domain that was left out."""
    found: dict[str, Any] = {}
    for run, seeds in said.items():
        for encoding in seeds[0].left_out[EVALUATION[0]]:
            reference = [] if run == spec.compare_with else said[spec.compare_with]
            if reference and encoding not in reference[0].left_out[EVALUATION[0]]:
                reference = []
            found.setdefault(run, {})[encoding] = {
                "sets": {name: _figures([name], encoding, seeds, reference) for name in EVALUATION},
                "domains": {
                    domain: _figures(names, encoding, seeds, reference)
                    for domain, names in domains().items()
                    if spec.left_out is not None and names[0] in seeds[0].left_out
                },
            }
    return found


def _figures(
    names: list[str], encoding: str, seeds: Sequence[Judgements], reference: Sequence[Judgements]
) -> dict[str, Any]:
    """Of files together; `reference` is empty where there is nothing to compare with."""
    unseen = [seed.left_out for seed in seeds]
    other = (
        LeftOutPredictions.read([seed.left_out for seed in reference], names, encoding) if reference else None
    )
    found = LeftOutPredictions.read(unseen, names, encoding).figures(other)
    if names[0] in seeds[0].learnt:
        both = {"left_out": unseen, "learnt": [seed.learnt for seed in seeds]}
        for key, said in both.items():
            found[key] = statistics.mean(
                LeftOutPredictions.read(said, names, encoding).tested_alone().accuracy
            )
    return found


def text(results: dict[str, Any]) -> str:
    """A row for each run and encoding, then one for each domain of each."""
    heads = ["Run", "Encoding", "Parameters", *EVALUATION, "Left-out domains"]
    lines = [results["what"], "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for run, encodings in results["figures"].items():
        parameters = results["runs"].get(run, {}).get("parameters")
        for encoding, rows in encodings.items():
            cells = [run, encoding, f"{parameters:,}" if parameters else ""]
            cells += [f"{_cell(of)}; {of['aurc']['ratio']:.3f}" for of in rows["sets"].values()]
            unseen = [of["accuracy"]["mean"] for of in rows["domains"].values()]
            cells.append(f"{statistics.mean(unseen):.1%}" if unseen else "")
            lines.append(f"| {' | '.join(cells)} |")
    for run, encodings in results["figures"].items():
        for encoding, rows in encodings.items():
            if rows["domains"] and run != HOME:
                lines += ["", f"{run}, {encoding} encoding, domains that were left out:", "", *_table(rows)]
    note = (
        "Accuracy, mean ± standard deviation over seeds; two-way sets: entailment or not; in brackets the "
        f"difference to *{results['compare_with']}* in points, with its 95 % interval (paired bootstrap over "
        "seeds and pairs); last, or by itself, AURC of the uncertainty to that of MaxProb. Balanced: mean "
        "share told right of what is entailed and of what is not; AUROC: of entailment. Learnt: the part of "
        "a domain that nobody learns from, left out → by heads that know the rest. "
        f"{len(results['seeds'])} seeds, {results['epochs']:g} epochs, {results['date']}, "
        f"`{results['command']}`."
    )
    return "\n".join([*lines, "", note])


def _table(rows: dict[str, Any]) -> list[str]:
    lines = ["| Domain | Pairs | Accuracy | Balanced | AUROC | AURC / MaxProb | Learnt |", "|---" * 7 + "|"]
    for domain, of in rows["domains"].items():
        ratio = of["aurc"]
        cells = [domain, f"{of['pairs']:,}", _cell(of)]
        cells += [f"{of[key]['mean']:.1%}" if key in of else "" for key in ("balanced", "auroc")]
        cells.append(f"{ratio['ratio']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})")
        cells.append(f"{of['left_out']:.1%} → {of['learnt']:.1%}" if "learnt" in of else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(of: dict[str, Any]) -> str:
    shown = f"{of['accuracy']['mean']:.1%}"
    shown += f" ± {100 * of['accuracy']['sd']:.1f}" if "sd" in of["accuracy"] else ""
    if "interval" in of:
        low, high = of["interval"]
        shown += f" ({100 * of['difference']:+.1f}: {100 * low:+.1f} to {100 * high:+.1f})"
    return shown


if __name__ == "__main__":
    main()
