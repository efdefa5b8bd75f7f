"""A claim against an index of many passages: speed, memory and bytes, and what a shortlist loses.

    python benchmarks/passages.py --gold fever.jsonl --others snli.jsonl multi_nli.jsonl --count 100000

The files are of pairs. Of `--gold` the pairs that are entailed give claims, each with its premise as the
passage that supports it; premises of all files are the passages. `index.py` makes the index under
`runs/passages`, where it is kept: what is there is not made again. Run nothing else meanwhile. A second table
says what more passages would take, on paper: everything but the nearest neighbours grows in proportion.
Prints both and writes `benchmarks/results/passages.json` and `.md`.
"""

import argparse
import hashlib
import json
import math
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from modernbert_nli.files import write_aside  # noqa: E402
from modernbert_nli.indexing.search import NEAREST, ask, nearest  # noqa: E402
from modernbert_nli.indexing.store import PassageIndex  # noqa: E402
from modernbert_nli.loading import load_pipeline  # noqa: E402
from modernbert_nli.training.data import load_pairs  # noqa: E402

SHORTLISTS = (10, 100, 1000)
TOP = 5
ON_PAPER = (10**6, 10**8, 10**9)
DISK, MEMORY = 8e12, 256e9  # bytes of a machine, on paper
RESULTS = ROOT / "benchmarks" / "results"
WORK = ROOT / "runs" / "passages"


def main() -> None:
    """Build, ask, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gold", type=Path, required=True, help="pairs whose premises support claims")
    parser.add_argument("--others", type=Path, nargs="+", default=[], help="pairs whose premises are added")
    parser.add_argument("--count", type=int, default=100_000, help="of passages (default: %(default)s)")
    parser.add_argument("--claims", type=int, default=20, help="default: %(default)s")
    args = parser.parse_args()
    pipe = load_pipeline()
    gold = load_pairs(str(args.gold))
    entailed = [
        (premise, claim)
        for premise, claim, label in zip(gold.premises, gold.hypotheses, gold.labels, strict=True)
        if label == 0
    ]
    step = max(1, len(entailed) // args.claims)
    claims = entailed[::step][: args.claims]
    texts = dict.fromkeys([*(premise for premise, _ in claims), *gold.premises])
    for path in args.others:
        texts |= dict.fromkeys(load_pairs(str(path)).premises)
    if len(texts) < args.count:
        parser.error(f"the files have {len(texts):,} passages, not {args.count:,}: name more with --others")
    passages = list(texts)[: args.count]
    digest = hashlib.sha256("\n".join(passages).encode()).hexdigest()[:12]
    folder = WORK / f"{pipe.model.heads_digest()[:12]}-{len(passages)}-{digest}"
    seconds = _build(passages, folder)
    index = PassageIndex(folder)
    tokens = sum(shard.tokens for shard in index.shards)
    results = {
        "date": date.today().isoformat(),
        "command": "python benchmarks/passages.py --gold "
        + " ".join([args.gold.name, "--others", *(path.name for path in args.others)])
        + f" --count {args.count}",
        "threads": torch.get_num_threads(),
        "passages": len(index),
        "tokens": tokens,
        "bytes_per_token": index.nbytes / tokens,
        "graph_bytes": (folder / NEAREST).stat().st_size,
        "build_seconds": seconds,
        "ways": _ways(pipe, index, claims, passages),
        "claims": len(claims),
    }
    write_aside(RESULTS / "passages.json", json.dumps(results, indent=2) + "\n")
    write_aside(RESULTS / "passages.md", text(results) + "\n")
    print(text(results))


def _build(passages: list[str], folder: Path) -> float:
    """Seconds that it took, now or once."""
    kept = folder / "build_seconds"
    if kept.is_file():
        return float(kept.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "passages.jsonl"
    if not source.exists():
        write_aside(source, "".join(json.dumps({"text": passage}) + "\n" for passage in passages))
    # Processes of their own, so that the memory of asking is seen alone.
    command = [sys.executable, str(ROOT / "index.py")]
    start = time.perf_counter()
    subprocess.run([*command, "build", "--index", str(folder), str(source)], check=True)
    seconds = time.perf_counter() - start
    subprocess.run([*command, "graph", "--index", str(folder)], check=True)
    write_aside(kept, f"{seconds}\n")
    return seconds


def _ways(
    pipe: Any, index: PassageIndex, claims: list[tuple[str, str]], passages: list[str]
) -> dict[str, dict[str, Any]]:
    """Judging all, and shortlists: seconds of a claim, and how often the gold passage is found."""
    number = {passage: row for row, passage in enumerate(passages)}
    process, ways = psutil.Process(), {}
    for shortlist in (None, *SHORTLISTS):
        seconds, among, best, memory = [], 0, 0, 0
        for premise, claim in claims:
            start = time.perf_counter()
            found = ask(pipe, index, claim, TOP, shortlist)
            seconds.append(time.perf_counter() - start)
            memory = max(memory, process.memory_info().rss - process.memory_info().shared)
            best += any(passage["text"] == premise for passage in found["supporting"])
            if shortlist is not None:
                (known,) = pipe.model.read([claim])
                among += number[premise] in nearest(index, known.vector, shortlist)
        ways["all" if shortlist is None else str(shortlist)] = {
            "seconds": sorted(seconds)[len(seconds) // 2],
            "shortlisted": None if shortlist is None else among / len(claims),
            f"among_the_best_{TOP}": best / len(claims),
            "own_memory_gb": memory / 1e9,
        }
    return ways


def text(results: dict[str, Any]) -> str:
    """A row for judging all, and for each shortlist."""
    every = results["ways"]["all"]["seconds"]
    lines = [
        "| Judged | Seconds of a claim | Times as fast | Gold passage shortlisted | "
        f"among the {TOP} best | Memory |",
        "|---|---|---|---|---|---|",
    ]
    for name, way in results["ways"].items():
        cells = [
            f"all {results['passages']:,}" if name == "all" else f"the {name} nearest",
            f"{way['seconds']:.3g}",
            "" if name == "all" else f"{every / way['seconds']:.3g}",
            "" if way["shortlisted"] is None else f"{way['shortlisted']:.0%}",
            f"{way[f'among_the_best_{TOP}']:.0%}",
            f"{way['own_memory_gb']:.2f} GB",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    note = (
        f"{results['passages']:,} passages of {results['tokens']:,} tokens, {results['bytes_per_token']:.0f} "
        f"bytes for each token, made in {results['build_seconds']:.0f} s. Medians of {results['claims']} "
        "claims whose gold passage is in the index; memory: the process's own, at most. "
        f"{results['threads']} threads, {results['date']}, `{results['command']}`."
    )
    return "\n".join([*lines, "", note, "", on_paper(results)])


def on_paper(results: dict[str, Any]) -> str:
    """What more passages of the same length would take: states on disks, the graph in memory."""
    states = results["bytes_per_token"] * results["tokens"] / results["passages"]
    graph = results["graph_bytes"] / results["passages"]
    speed = results["passages"] / results["ways"]["all"]["seconds"]
    lines = [
        "| Passages, on paper | States | Machines for them | Graph of the nearest | Machines for it | "
        "Judging all, on all machines |",
        "|---|---|---|---|---|---|",
    ]
    for count in ON_PAPER:
        disks, memories = (math.ceil(count * size / room) for size, room in ((states, DISK), (graph, MEMORY)))
        cells = [
            f"{count:,}",
            f"{count * states / 1e12:.3g} TB",
            f"{disks:,}",
            f"{count * graph / 1e12:.2g} TB",
            f"{memories:,}",
            f"{count / speed / max(disks, memories) / 60:,.0f} minutes",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    note = (
        f"{states / 1e3:.3g} kB of states for each passage, {graph / 1e3:.2g} kB of graph, {speed:,.0f} "
        f"passages a second on {results['threads']} threads, as measured; machines with {DISK / 1e12:g} TB "
        f"of disk and {MEMORY / 1e9:g} GB of memory, no more threads than that. A shortlist asks the graphs "
        "of all machines at once and judges what they find: seconds of a claim as in the table above."
    )
    return "\n".join([*lines, "", note])


if __name__ == "__main__":
    main()
