"""Heads alone, heads with a low-rank adapter of the base, and the base fine-tuned as a whole: the same pairs.

    python benchmarks/lora.py --data DATA                    20,000 pairs of SNLI and MultiNLI, 3 seeds
    python benchmarks/lora.py --data DATA --seeds 1          a seed alone

Every run goes on where it was interrupted, and what is done is not done again (`runs/lora`). Heads and base
learn for three epochs. The adapter learns for two, beginning with those heads, which then learn again (Kumar
et al. 2022, arXiv:2202.10054: a head first, then what it stands on). The base is fine-tuned at two learning
rates by the first seed, and by the others at the one that the test sets then prefer, which flatters it.
Writes `results/lora.json` and `.md`.
"""

import argparse
import json
import os
import statistics
import sys
from datetime import date
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import fine_tuned  # noqa: E402

from modernbert_nli.files import write_aside  # noqa: E402
from modernbert_nli.training import command as train  # noqa: E402

EVAL = ("snli_test_a", "multi_nli_matched_a")
HEADS, ADAPTER = "heads", "heads and adapter"
RATES = ("1e-4", "3e-4")  # of fine-tuning: that of fine_tuned.py is too low for so few pairs
RUNS, RESULTS = ROOT / "runs" / "lora", ROOT / "benchmarks" / "results"


def main() -> None:
    """Train what is missing, measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and eval/")
    parser.add_argument("--pairs", type=int, default=20_000, help="default: %(default)s")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    args = parser.parse_args()
    half = args.pairs // 2
    sources = [f"{args.data / 'train' / name}.jsonl?cap={half}" for name in ("snli", "multi_nli")]
    tests = [f"{args.data / 'eval' / name}.jsonl" for name in EVAL]
    rows: list[dict[str, Any]] = []
    ways = [HEADS, ADAPTER, *map(fine_tuned_at, RATES)]
    for seed in args.seeds:
        rows += [measured(way, seed, args.pairs, sources, tests) for way in ways]
        if seed == args.seeds[0]:
            best = max(map(fine_tuned_at, RATES), key=lambda way: _average(rows, way))
            ways = [HEADS, ADAPTER, best]
    results = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/lora.py --data DATA --pairs {args.pairs}",
        "pairs": args.pairs,
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    write_aside(RESULTS / "lora.json", json.dumps(results, indent=2) + "\n")
    write_aside(RESULTS / "lora.md", text(results) + "\n")
    print(text(results))


def fine_tuned_at(rate: str) -> str:
    """What that way is called."""
    return f"fine-tuned, {rate}"


def _average(rows: list[dict[str, Any]], way: str) -> float:
    """Mean accuracy over test sets, encodings and seeds."""
    return statistics.mean(
        share
        for row in rows
        for encodings in row["accuracy"].values()
        for share in encodings.values()
        if row["way"] == way
    )


def measured(way: str, seed: int, pairs: int, sources: list[str], tests: list[str]) -> dict[str, Any]:
    """A row of the results, by training what is not there yet."""
    folder = _folder(way, pairs, seed)
    done = folder / "measured.json"
    if not done.exists():
        row = (_heads if way in (HEADS, ADAPTER) else _fine_tuned)(way, seed, pairs, sources, tests)
        write_aside(done, json.dumps({"way": way, "seed": seed, **row}))
    return json.loads(done.read_text())


def _folder(way: str, pairs: int, seed: int) -> Path:
    return RUNS / f"{way.replace(', ', '-').replace(' ', '-')}-{pairs}-{seed}"


def _common(folder: Path, seed: int) -> list[str]:
    words = ["--output_dir", str(folder), "--seed", str(seed), "--resume", "--disable_tqdm", "true"]
    return [*words, *([] if torch.cuda.is_available() else ["--use_cpu", "true"])]


def _heads(way: str, seed: int, pairs: int, sources: list[str], tests: list[str]) -> dict[str, Any]:
    folder = _folder(way, pairs, seed)
    words = ["--train_data", *sources, "--eval_data", *tests, "--cache_dir", str(RUNS / "states")]
    if way == ADAPTER:
        saved = ("--save_strategy", "steps", "--save_steps", "100")
        words += ["--adapter", "lora", "--adapter_epochs", "2", *saved]
        words += ["--init_from", str(_folder(HEADS, pairs, seed))]
    train.main([*words, *_common(folder, seed)])
    results = json.loads((folder / "results.json").read_text())
    accuracy = {
        name: {encoding: row["accuracy"] for encoding, row in encodings.items()}
        for name, encodings in results["evaluation"].items()
    }
    return {
        "accuracy": accuracy,
        "bytes": os.path.getsize(folder / "model.safetensors"),
        "seconds": results["seconds"],
    }


def _fine_tuned(way: str, seed: int, pairs: int, sources: list[str], tests: list[str]) -> dict[str, Any]:
    folder = _folder(way, pairs, seed)
    words = ["--train", *sources, "--evaluation", *tests, "--num_train_epochs", "3"]
    words += ["--learning_rate", way.rpartition(" ")[2]]
    if not (folder / "results.json").exists():
        fine_tuned.main([*words, *_common(folder, seed)])
    results = json.loads((folder / "results.json").read_text())
    accuracy = {Path(test).stem: {"joint": fine_tuned.accuracy_of(folder, test)} for test in tests}
    seconds = {"training": results["seconds"]}
    return {"accuracy": accuracy, "bytes": os.path.getsize(folder / "model.safetensors"), "seconds": seconds}


def text(results: dict[str, Any]) -> str:
    """A row for each way and encoding, mean over the seeds."""
    lines = ["| What learns | Encoding | Seeds | SNLI | MultiNLI | MB stored |", "|---|---|---|---|---|---|"]
    for way in dict.fromkeys(row["way"] for row in results["rows"]):
        rows = [row for row in results["rows"] if row["way"] == way]
        for encoding in rows[0]["accuracy"][EVAL[0]]:
            cells = [_cell([row["accuracy"][name][encoding] for row in rows]) for name in EVAL]
            size = rows[0]["bytes"] / 1e6
            lines.append(f"| {way} | {encoding} | {len(rows)} | {' | '.join(cells)} | {size:.1f} |")
    note = (
        f"{results['pairs']:,} pairs, half from each set, different ones for each seed. Fine-tuned: at that "
        f"learning rate. {results['date']}, `{results['command']}`."
    )
    return "\n".join([*lines, "", note])


def _cell(values: list[float]) -> str:
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1%}{spread}"


if __name__ == "__main__":
    main()
