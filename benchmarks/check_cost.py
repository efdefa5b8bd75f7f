"""What `nli.check` costs: sentences against as many sentences, beside encoding both.

    python benchmarks/check_cost.py --text report.txt

TEXT is any English text of some hundred sentences, such as a README or a manual. Of each count in `--counts`
the first so many sentences, each made different by a number, are checked against themselves, the sentences
not known before. Prints a table and writes `benchmarks/results/check_cost.json`. Run nothing else meanwhile.
"""

import argparse
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from timing import alternate, ratio  # noqa: E402

from modernbert_nli.documents import rules_of  # noqa: E402
from modernbert_nli.loading import load_pipeline  # noqa: E402
from modernbert_nli.sentences import split_sentences  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--counts", type=int, nargs="+", default=[20, 40, 80, 400])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS / "check_cost.json")
    args = parser.parse_args()
    pipe = load_pipeline()
    text = args.text.read_text(encoding="utf-8")
    known = [text[start:end] for start, end in split_sentences(text) if 20 <= end - start <= 200]
    if not known:
        parser.error(f"{args.text} has no sentences of 20 to 200 characters")
    rows = [_measured(pipe, known, count, args.repetitions) for count in args.counts]
    rules = rules_of(pipe.model.config, separate=True)
    results = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/check_cost.py --text {args.text.name}",
        "threads": torch.get_num_threads(),
        "candidates": dict(zip(map(str, rules["sizes"]), rules["candidates"], strict=True)),
        "rows": rows,
    }
    args.output.write_text(json.dumps(results, indent=2) + "\n")
    print("| Sentences | check, s | encoding both, s | ratio | pairs that met the heads | of | memory, MB |")
    print("|---" * 7 + "|")
    for row in rows:
        print(
            f"| {row['sentences']} | {row['check']:.2f} | {row['encoding']:.2f} | {row['ratio']:.1f} | "
            f"{row['met']:,} | {row['pairs']:,} | {row['megabytes']:.0f} |"
        )


def _measured(pipe: Any, known: list[str], count: int, repetitions: int) -> dict[str, Any]:
    """`megabytes`: how much more memory the process holds after the checks."""
    claims = [f"Item {number}: {known[number % len(known)].rstrip('.')}." for number in range(count)]
    source = [f"Part {number}: {known[number % len(known)].rstrip('.')}." for number in range(count)]
    met = [0]
    judge_every = pipe.model.judge_every

    def counting(premises: Any, hypotheses: Any) -> Any:
        met[0] += len(premises.vectors) * len(hypotheses.vectors)
        return judge_every(premises, hypotheses)

    def check() -> None:
        pipe.texts.clear()
        pipe.check("\n\n".join(claims), "\n\n".join(source))

    def encode() -> None:
        pipe.texts.clear()
        pipe.model.encode([*claims, *source])

    pipe.model.judge_every = counting
    try:
        check()
    finally:
        del pipe.model.judge_every
    before = psutil.Process().memory_info().rss
    seconds = alternate({"check": check, "encoding": encode}, repetitions)
    sizes = rules_of(pipe.model.config, separate=True)["sizes"]
    return {
        "sentences": count,
        "check": min(seconds["check"]),
        "encoding": min(seconds["encoding"]),
        **ratio(seconds["check"], seconds["encoding"]),
        "met": met[0],
        "pairs": count * sum(max(0, count - size + 1) for size in sizes),
        "megabytes": (psutil.Process().memory_info().rss - before) / 2**20,
    }


if __name__ == "__main__":
    main()
