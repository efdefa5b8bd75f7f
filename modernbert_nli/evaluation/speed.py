"""Throughput and memory of contestants, each in a process of its own, which runs this file.

A process that measured another model before would show that one's memory, not this one's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..repository import ROOT

BATCH_SIZES = (8, 32, 128)
ALWAYS = 32  # shown whether or not it is the best
REPETITIONS = 3
_WARM_UP = 64  # pairs


def speed_of(
    model: str, encoding: str | None, pairs: Sequence[tuple[str, str]], device: str | None
) -> list[dict[str, Any]]:
    """Rows of a model at batch 32, and at the batch size with most pairs a second if that is another.

    Args:
        model (`str`): As `parse_model` reads it; its first checkpoint is measured.
        pairs (`Sequence[tuple[str, str]]`): Real ones, for their lengths.

    Raises:
        ValueError: its process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.json"
        file.write_text(json.dumps(list(pairs)))
        rows = [_in_a_process(model, encoding, file, size, device) for size in BATCH_SIZES]
    best = max(rows, key=lambda row: row["pairs_per_second"])
    return [row for row in rows if row is best or row["batch_size"] == ALWAYS]


def _in_a_process(
    model: str, encoding: str | None, file: Path, batch_size: int, device: str | None
) -> dict[str, Any]:
    command = [sys.executable, "-m", "modernbert_nli.evaluation.speed", model, str(file), str(batch_size)]
    command += ["--encoding", encoding] if encoding else []
    command += ["--device", device] if device else []
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    if done.returncode:
        reason = [f"exit status {done.returncode}", *done.stderr.strip().splitlines()][-1]
        raise ValueError(f"The speed of {model} could not be measured: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure one model at one batch size and print the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("pairs", type=Path)
    parser.add_argument("batch_size", type=int)
    parser.add_argument("--encoding")
    parser.add_argument("--device")
    args = parser.parse_args()
    from ..training.report import MemoryWatch
    from .contestants import contestants, parse_model

    memory = MemoryWatch()
    model = parse_model(args.model)
    contestant = next(contestants(model, args.device))
    pairs = [(premise, hypothesis) for premise, hypothesis in json.loads(args.pairs.read_text())]
    contestant.judge(pairs[:_WARM_UP], args.encoding, args.batch_size)
    seconds = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        contestant.judge(pairs, args.encoding, args.batch_size)
        seconds.append(time.perf_counter() - start)
    median, peak = statistics.median(seconds), memory.peak()
    premises, hypotheses = map(list, zip(*pairs, strict=True))
    tokens = sum(map(len, contestant.tokenizer(premises, hypotheses)["input_ids"]))
    row = {
        "model": model.name,
        "encoding": args.encoding,
        "batch_size": args.batch_size,
        "pairs_per_second": len(pairs) / median,
        "tokens_per_second": tokens / median,  # of the pairs as one sequence each, without padding
        "peak_rss_bytes": peak["with mapped states"],
        "peak_gpu_bytes": peak.get("of the GPU"),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
