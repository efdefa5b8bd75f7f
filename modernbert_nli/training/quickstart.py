"""Train the quick start checkpoint over several seeds, publish the first, and write the figures of all.

    python -m modernbert_nli.training.quickstart --data DATA --output checkpoints/quickstart

DATA holds `train/`, `breadth/` and `eval/` with the files that `mix.py` names. Heads learn from its mix
`home` first (`runs/quickstart/home`, one seed); each seed then goes on from these with the mix `further`, and
abstains by MaxProb. Finished runs under `runs/quickstart` are not trained again. Writes the checkpoint of
the first seed (the best would flatter it) and `results.json`. `calibrating.domains --fit` then adds what
can be guaranteed for other text, and `calibrating.routes --fit` and `calibrating.documents --fit` how it
routes and checks.
"""

import argparse
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

from ..repository import ROOT
from . import command as train
from .mix import EVALUATION, MIXES, SOURCES, files

SEEDS = (1, 2, 3)
_COMMON = ("--head_dropout", "0.1", "--bf16", "true", "--use_cpu", "true")
HOME_SEED = 1
HOME = (
    *("--seed", str(HOME_SEED), "--num_train_epochs", "4"),
    *_COMMON,
)
LEARNING_RATE = 5e-4  # of the second part: half the usual one, which forgets less
FURTHER = (
    *("--num_train_epochs", "2", "--encodings_in_turn", "true", "--abstention_weight", "0"),
    *("--learning_rate", str(LEARNING_RATE)),
    *("--held_out_seed", str(HOME_SEED)),  # what the first part did not learn from, this does not either
    *("--base_dtype", "bfloat16", "--per_device_eval_batch_size", "64"),  # some premises are long
    *_COMMON,
)
FIGURES = ("accuracy", "coverage", "selective_accuracy", "aurc", "aurc_max_prob")


def main() -> None:
    """Train what is missing, then publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and eval/")
    parser.add_argument("--output", type=Path, default=ROOT / "checkpoints" / "quickstart")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "quickstart")
    args = parser.parse_args()

    start = args.runs / "home"
    _train(args.data, start, "home", HOME)
    folders = [args.runs / f"seed-{seed}" for seed in SEEDS]
    for seed, folder in zip(SEEDS, folders, strict=True):
        _train(args.data, folder, "further", (*FURTHER, "--init_from", str(start), "--seed", str(seed)))
    runs = [json.loads((folder / "results.json").read_text()) for folder in folders]
    results = summarise(runs)
    _publish(folders[0], args.output, results)
    print(table(results))


def _train(data: Path, folder: Path, mix: str, options: tuple[str, ...]) -> None:
    if not (folder / "results.json").exists():
        sources, evaluation = training_data(data, folder.parent, mix)
        arguments = ["--train_data", *sources, "--eval_data", *evaluation, "--output_dir", str(folder)]
        train.main([*arguments, "--resume", *options])


def training_data(data: Path, aside: Path, mix: str) -> tuple[list[str], list[str]]:
    """What is learnt from, each source with its weight, and what is measured on."""
    paths = files(data, aside)
    weights = {source.name: MIXES[mix].weight(source) for source in SOURCES}
    return (
        [f"{paths[name]}?weight={weight:g}" for name, weight in weights.items() if weight],
        [str(paths[name]) for name in EVALUATION],
    )


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The first run's results, with mean and standard deviation of each figure over all runs."""
    first = runs[0]

    def over_seeds(name: str, encoding: str) -> dict[str, dict[str, float]]:
        measured = [run["evaluation"][name][encoding] for run in runs]
        values = {figure: [row[figure] for row in measured] for figure in FIGURES}
        return {
            figure: {"mean": statistics.mean(row), "sd": statistics.stdev(row)}
            for figure, row in values.items()
        }

    return {
        **first,
        "command": "python -m modernbert_nli.training.quickstart --data DATA",
        "seeds": [run["seed"] for run in runs],
        "over_seeds": {
            name: {encoding: over_seeds(name, encoding) for encoding in encodings}
            for name, encodings in first["evaluation"].items()
        },
    }


def table(results: dict[str, Any]) -> str:
    """Markdown: a row for each evaluation set and encoding, mean ± standard deviation over the seeds."""
    heads = (
        "Set",
        "Pairs",
        "Encoding",
        "Accuracy",
        "Coverage",
        "Selective accuracy",
        "AURC",
        "AURC of MaxProb",
    )
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, encodings in results["over_seeds"].items():
        for encoding, figures in encodings.items():
            pairs = results["evaluation"][name][encoding]["pairs"]
            cells = [name, f"{pairs:,}", encoding, *(_cell(figure, **figures[figure]) for figure in FIGURES)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(figure: str, mean: float, sd: float) -> str:
    return f"{mean:.4f} ± {sd:.4f}" if figure.startswith("aurc") else f"{mean:.1%} ± {100 * sd:.1f}"


def _publish(run: Path, output: Path, results: dict[str, Any]) -> None:
    aside = output.with_name(output.name + ".new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name in (
        "model.safetensors",
        "replay.safetensors",
        "config.json",
        "calibration.json",
        "tokenizer_config.json",
    ):
        shutil.copyfile(run / name, aside / name)
    tokenizer = json.loads((run / "tokenizer.json").read_text())
    compact = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))  # a third smaller
    (aside / "tokenizer.json").write_text(compact)
    (aside / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    shutil.rmtree(output, ignore_errors=True)
    aside.rename(output)


if __name__ == "__main__":
    main()
