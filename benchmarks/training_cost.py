"""What training costs beside one plain pass of the encoder over the same pairs, and beside no cache at all.

    python benchmarks/training_cost.py --pairs snli.jsonl

Each run is a process of its own: the plain pass (length-sorted batches of joint pairs through the whole
encoder), then `train.py` with a cold cache, 5 + 3 epochs, as each of `RUNS` says, and once without a cache
(`--state_cache none`, joint, float32, one epoch of each stage, scaled to 5 + 3). The encoder runs in float32
everywhere. Prints a table and writes `benchmarks/results/training-cost.json`. Run it while nothing else runs.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from modernbert_nli import embedded  # noqa: E402
from modernbert_nli.tokenization import encode_pairs, load_tokenizer, max_pair_length  # noqa: E402
from modernbert_nli.training.data import load_pairs  # noqa: E402
from modernbert_nli.training.report import MemoryWatch  # noqa: E402

WORK = ROOT / "runs" / "training-cost"
EPOCHS = {"stage 1": 5, "stage 2": 3}
BATCH_SIZE = 64
_JOINT, _BF16 = ("--encodings", "joint"), ("--bf16", "true")
RUNS: dict[str, tuple[str, ...]] = {
    "joint": _JOINT,
    "joint, heads in bfloat16": (*_JOINT, *_BF16),
    "joint, heads in bfloat16, abstention from errors": (*_JOINT, *_BF16, "--abstention_type", "error"),
    "one head on both encodings": ("--encodings", "separate", "joint"),
}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", required=True, help="a file of labelled pairs")
    parser.add_argument("--count", type=int, default=30_000, help="how many of them")
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)  # in a process of its own
    args = parser.parse_args()
    source = f"{args.pairs}?cap={args.count}"
    if args.plain:
        print(json.dumps(_plain_pass(source)))
        return

    command = [sys.executable, __file__, "--pairs", args.pairs, "--count", str(args.count), "--plain"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    plain = json.loads(output.splitlines()[-1])
    rows: dict[str, Any] = {"a plain pass of the encoder": {**plain, "passes": 1.0}}
    for name, options in RUNS.items():
        trained = _trained(source, EPOCHS, *options)
        rows[f"both stages, {name}"] = {**trained, "passes": trained["total"] / plain["total"]}
    once = _trained(source, dict.fromkeys(EPOCHS, 1), *_JOINT, "--state_cache", "none")
    total = sum(once["seconds"][stage] * epochs for stage, epochs in EPOCHS.items())
    rows["both stages, joint, no cache (scaled from one epoch of each)"] = {
        **once,
        "total": total,
        "passes": total / plain["total"],
    }
    results = {
        "date": date.today().isoformat(),
        "command": shlex.join(
            ["python", "benchmarks/training_cost.py", *(Path(word).name for word in sys.argv[1:])]
        ),
        "base": {"name": embedded.BASE, "revision": embedded.BASE_REVISION},
        "pairs": args.count,
        "epochs": EPOCHS,
        "threads": torch.get_num_threads(),
        "runs": rows,
    }
    path = ROOT / "benchmarks" / "results" / "training-cost.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))


def table(results: dict[str, Any]) -> str:
    """Markdown: a row for each run."""
    lines = ["| Run | Plain passes | States | Stage 1 | Stage 2 | Peak memory |", "|---" * 6 + "|"]
    for name, row in results["runs"].items():
        parts = [f"{row['seconds'][part]:.0f} s" if part in row["seconds"] else "" for part in _PARTS]
        lines.append(f"| {name} | {row['passes']:.2f} | {' | '.join(parts)} | {row['memory'] / 1e9:.2f} GB |")
    return "\n".join(lines)


_PARTS = ("states", "stage 1", "stage 2")


def _plain_pass(source: str) -> dict[str, Any]:
    """Seconds of the encoder alone; tokenising is not counted."""
    folder = str(embedded.base_folder())
    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = load_tokenizer(folder, model.config)
    pairs = load_pairs(source)
    texts = list(zip(pairs.premises, pairs.hypotheses, strict=True))
    encoded = encode_pairs(tokenizer, texts, max_pair_length(model.config, tokenizer))
    order = sorted(range(len(texts)), key=lambda row: len(encoded["input_ids"][row]))
    start = time.perf_counter()
    with torch.no_grad():
        for first in range(0, len(order), BATCH_SIZE):
            rows = order[first : first + BATCH_SIZE]
            batch = {name: [values[row] for row in rows] for name, values in encoded.items()}
            model(**tokenizer.pad(batch, return_tensors="pt"))
    seconds = time.perf_counter() - start
    return {"total": seconds, "seconds": {}, "memory": MemoryWatch().peak()["of its own"]}


def _trained(source: str, epochs: dict[str, int], *options: str) -> dict[str, Any]:
    shutil.rmtree(WORK, ignore_errors=True)
    shared = {
        "--train_data": source,
        "--output_dir": str(WORK / "out"),
        "--cache_dir": str(WORK / "states"),
        "--num_train_epochs": str(epochs["stage 1"]),
        "--abstention_epochs": str(epochs["stage 2"]),
        "--use_cpu": str(not torch.cuda.is_available()).lower(),
    }
    words = [word for option in shared.items() for word in option] + list(options)
    subprocess.run([sys.executable, str(ROOT / "train.py"), *words], check=True)
    results = json.loads((WORK / "out" / "results.json").read_text())
    shutil.rmtree(WORK)
    return {
        "total": sum(results["seconds"].values()),
        "seconds": results["seconds"],
        "memory": results["peak_memory"]["of its own"],
        "held_out_accuracy": {name: row["accuracy"] for name, row in results["held_out"].items()},
    }


if __name__ == "__main__":
    main()
