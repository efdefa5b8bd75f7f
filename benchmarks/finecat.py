"""What the FineCat recipe buys: a teacher's logits, thinning by a pilot, and leaving out its suspects.

    python benchmarks/finecat.py --train snli_validation.jsonl --eval snli_test_a.jsonl --teacher TEACHER

Each of them is added to the same stage 1, over the same seeds, with one head on both encodings. The teacher
has learnt from other data, or the table flatters it. Prints a table like `ablation.py`'s and writes it to
`benchmarks/results/finecat.json` and `.md`.
"""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import set_seed
from transformers.utils.logging import set_verbosity_error

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from ablation import STATES, Right, cell, compare, fit, new_heads, right_answers  # noqa: E402
from variants import VARIANTS  # noqa: E402

from modernbert_nli import embedded  # noqa: E402
from modernbert_nli.training.arguments import StageArguments  # noqa: E402
from modernbert_nli.training.cache import cache_states  # noqa: E402
from modernbert_nli.training.data import load_pairs  # noqa: E402
from modernbert_nli.training.pilot import Scores, find_suspects, folds_by_premise, thin  # noqa: E402
from modernbert_nli.training.pilot_command import out_of_fold  # noqa: E402
from modernbert_nli.training.states import PairStates  # noqa: E402
from modernbert_nli.training.teacher import teacher_logits  # noqa: E402

BINS, MOST_PER_BIN, SUSPECTS = 20, 0.1, 0.02
Rows = Callable[[Scores, int], np.ndarray]  # which pairs to learn from, given the pilot's scores and a seed


def _all(scores: Scores, seed: int) -> np.ndarray:
    return np.ones(len(scores.labels), bool)


def _thinned(scores: Scores, seed: int) -> np.ndarray:
    return thin(scores.p_label, scores.labels, BINS, MOST_PER_BIN, seed)


def _without_suspects(scores: Scores, seed: int) -> np.ndarray:
    kept = _all(scores, seed)
    kept[find_suspects(scores, round(SUSPECTS * len(kept)))] = False
    return kept


def _random(scores: Scores, seed: int) -> np.ndarray:
    """As many as thinning keeps."""
    kept = np.zeros(len(scores.labels), bool)
    count = int(_thinned(scores, seed).sum())
    kept[np.random.default_rng(seed).permutation(len(kept))[:count]] = True
    return kept


RECIPES: dict[str, tuple[Rows, dict[str, float]]] = {
    "labels alone": (_all, {}),
    "teacher, α = β = ½": (_all, {"alpha": 0.5, "beta": 0.5}),
    "thinned of easy pairs": (_thinned, {}),
    "as many pairs at random": (_random, {}),
    "without suspects": (_without_suspects, {}),
}


def main() -> None:
    """Run all recipes and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", required=True, help="a file of pairs to learn from")
    parser.add_argument("--eval", nargs="+", required=True, help="files of pairs to measure on")
    parser.add_argument("--teacher", default=str(embedded.CHECKPOINT), help="folder or repository id")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", type=float, default=5.0)
    parser.add_argument("--bf16", action="store_true", help="train the heads in bfloat16")
    args = parser.parse_args()
    set_verbosity_error()

    pairs, evaluation = load_pairs(args.train), list(map(load_pairs, args.eval))
    training = {"num_train_epochs": args.epochs, "bf16": args.bf16}
    logits = teacher_logits(pairs, args.teacher, STATES, trust_remote_code=True)
    right: dict[str, list[Right]] = {name: [] for name in RECIPES}
    kept: dict[str, list[int]] = {name: [] for name in RECIPES}
    for seed in args.seeds:
        model = new_heads(VARIANTS["reference"])
        states = cache_states(model, pairs, STATES)
        folds = folds_by_premise(pairs, 2, seed)
        work = ROOT / "runs" / "ablation" / "pilot"
        pilot = StageArguments(
            output_dir=str(work),
            seed=seed,
            num_train_epochs=2,
            eval_strategy="no",
            save_strategy="no",
            use_cpu=not torch.cuda.is_available(),
        )
        scores = Scores([pairs], out_of_fold(model, states, folds, pilot, work))
        for name, (rows, losses) in RECIPES.items():
            set_seed(seed)
            model = new_heads(VARIANTS["reference"])
            extra = {"teacher_logits": logits} if losses else {}
            which = np.flatnonzero(rows(scores, seed))
            fitted = PairStates(states.encoded, states.labels, extra).take(which)
            trainer = fit(model, fitted, seed, training, **losses)
            right[name].append(right_answers(trainer, model, evaluation))
            kept[name].append(len(which))
    first = next(iter(RECIPES))
    results = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/finecat.py --train {Path(args.train).name} --eval "
        + " ".join(Path(file).name for file in args.eval)
        + f" --teacher {Path(args.teacher).name}"
        + " --bf16" * args.bf16,
        "base": {"name": embedded.BASE, "revision": embedded.BASE_REVISION},
        "pairs": len(pairs),
        "teacher_accuracy": float((logits.argmax(axis=-1) == pairs.labels).mean()),
        "seeds": args.seeds,
        "training": training,
        "recipes": {
            name: {
                "pairs": kept[name],
                "accuracy": {
                    measured: compare(measured, runs, None if name == first else right[first])
                    for measured in runs[0]
                },
            }
            for name, runs in right.items()
        },
    }
    folder = ROOT / "benchmarks" / "results"
    (folder / "finecat.json").write_text(json.dumps(results, indent=2) + "\n")
    (folder / "finecat.md").write_text(table(results) + "\n")
    print(table(results))


def table(results: dict[str, Any]) -> str:
    """Markdown: a row for each recipe, a column for each set and encoding."""
    recipes = results["recipes"]
    columns = list(next(iter(recipes.values()))["accuracy"])
    lines = ["| Recipe | Pairs | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for name, row in recipes.items():
        cells = [cell(row["accuracy"][column]) for column in columns]
        lines.append(f"| {name} | {np.mean(row['pairs']):,.0f} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Accuracy, mean ± standard deviation of {len(results['seeds'])} seeds; in brackets the difference "
        "to the first row, with its 95 % interval (paired bootstrap over seeds and pairs). The teacher is "
        f"right on {results['teacher_accuracy']:.1%} of the training pairs; {results['date']}, "
        f"`{results['command']}`.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
