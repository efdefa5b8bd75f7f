"""What more costs: loading, many pairs, long pairs, a second process, a large index, training."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import psutil
import torch
from transformers import AutoModel, AutoTokenizer

from modernbert_nli.indexing.search import ask, nearest
from modernbert_nli.indexing.store import PassageIndex
from modernbert_nli.separate import read
from modernbert_nli.training.report import MemoryWatch

from ..setup import BATCH_SIZE, ROOT, WORK, Setup, in_batches, window_of
from ..timing import Pairs, Row, beside, compared, own_process, timed

GROWTH = (1_000, 10_000, 100_000)  # pairs
PASSAGES, CLAIMS, TOP, SHORTLISTS = 100_000, 20, 5, (None, 10, 100, 1000)
EPOCHS = ("--num_train_epochs", "5", "--abstention_epochs", "3")
_JOINT, _BF16 = ("--encodings", "joint"), ("--bf16", "true")
TRAINING = {  # by name, options of train.py
    "joint": _JOINT,
    "joint, heads in bfloat16": (*_JOINT, *_BF16),
    "one head on both encodings": ("--encodings", "separate", "joint"),
}


def costs(setup: Setup) -> list[Row]:
    """Loading, growth, a long pair and two processes, each beside what it is to be compared with."""
    return [*_load(setup), *_growth(setup), _long(setup), _processes(setup)]


def _load(setup: Setup) -> list[Row]:
    found = [(*own_process(_ours, setup), *own_process(_plain, setup)) for _ in range(setup.repetitions)]
    seconds, memory, plain_seconds, plain_memory = zip(*found, strict=True)
    return [
        compared("seconds to load: the plain base / ours", seconds, plain_seconds),
        compared("MB at most after a batch: the plain base / ours", memory, plain_memory),
    ]


def _ours(setup: Setup) -> tuple[float, float]:
    start = time.perf_counter()
    nli = setup.pipeline()
    seconds = time.perf_counter() - start
    nli(setup.pairs[:BATCH_SIZE], encoding="joint", batch_size=BATCH_SIZE)
    return seconds, MemoryWatch().peak()["with mapped states"] / 1e6


def _plain(setup: Setup) -> tuple[float, float]:
    start, base = time.perf_counter(), setup.folder("base")
    model = AutoModel.from_pretrained(base, dtype=getattr(torch, setup.dtype)).to(setup.device).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    seconds = time.perf_counter() - start
    with torch.inference_mode():
        (batch,) = in_batches(tokenizer, setup.pairs[:BATCH_SIZE])
        model(**batch.to(setup.device))
    return seconds, MemoryWatch().peak()["with mapped states"] / 1e6


def _growth(setup: Setup) -> list[Row]:
    rows = []
    for size in GROWTH:
        seconds, memory = own_process(_judged, setup, size)
        found = {"ms a pair": 1000 * seconds / size, "MB at most": memory / 1e6}
        what = f"{size:,} pairs from a generator"
        rows += [{"The other / ours": f"{what}: {unit}", "ours": value} for unit, value in found.items()]
    return rows


def _judged(setup: Setup, size: int) -> tuple[float, int]:
    """Seconds, and memory at most."""
    nli = setup.pipeline()
    nli(setup.pairs[:BATCH_SIZE])
    process, most, start = psutil.Process(), 0, time.perf_counter()
    for number, _ in enumerate(nli(islice(_again(setup.pairs), size), batch_size=BATCH_SIZE)):
        if number % 1000 == 0:
            most = max(most, process.memory_info().rss)
    return time.perf_counter() - start, most


def _again(pairs: Pairs) -> Iterator[tuple[str, str]]:
    """The pairs, and then again with other texts of the same length."""
    for turn in range(10**9):
        for premise, hypothesis in pairs:
            yield (premise, hypothesis) if turn == 0 else (f"{premise} {turn}", f"{hypothesis} {turn}")


def _long(setup: Setup) -> Row:
    nli = setup.pipeline()
    window = window_of(nli)
    words = " ".join(premise for premise, _ in setup.pairs).split()
    premise = " ".join(islice(cycle(words), window))  # at least a token each; the rest is cut
    pair = (premise, "Somebody said so.")
    (batch,) = in_batches(nli.tokenizer, [pair], window)

    @torch.inference_mode()
    def bare() -> None:
        nli.model.encoder(**batch.to(setup.device)).last_hidden_state.cpu()

    tokens = int(batch["attention_mask"].sum())
    what = f"seconds for a pair of {tokens:,} tokens: the bare encoder / ours"
    return beside(what, lambda: nli(*pair, encoding="joint"), bare, setup.repetitions)


def _processes(setup: Setup) -> Row:
    """`predict.py` over a file, a thread a process, with the time to start taken out."""
    pairs = list(islice(_again(setup.pairs), 8 * setup.count))  # or the start would be all that is measured
    WORK.mkdir(parents=True, exist_ok=True)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(setup.repetitions):
        for processes, found in seconds.items():
            found.append(_predicted(setup, pairs, processes) - _predicted(setup, pairs[:1], processes))
    what = f"seconds of predict.py over {len(pairs):,} pairs: one process / two"
    return compared(what, seconds[2], seconds[1])


def _predicted(setup: Setup, pairs: Pairs, processes: int) -> float:
    source, output = WORK / "pairs.jsonl", WORK / "out.jsonl"
    lines = (json.dumps({"premise": premise, "hypothesis": hypothesis}) for premise, hypothesis in pairs)
    source.write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command += [str(ROOT / "predict.py"), "--input", str(source), "--output", str(output), "--overwrite"]
    command += ["--model", setup.folder("heads"), "--base", setup.folder("base")]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    return timed(lambda: subprocess.run(command, check=True, capture_output=True, env=one_thread))


def passages(setup: Setup) -> list[Row]:
    """A claim against an index of many passages: all of them, and shortlists, which may lose the right one.

    Entailed hypotheses are the claims, their premises the passages that support them.
    """
    nli = setup.pipeline()
    entailed = [row for row in setup.rows if row["label"] == "entailment"]
    claims = [(row["premise"], row["hypothesis"]) for row in entailed[:: max(1, len(entailed) // CLAIMS)]]
    claims = claims[:CLAIMS]
    texts = list(
        dict.fromkeys([*(premise for premise, _ in claims), *(row["premise"] for row in setup.rows)])
    )
    texts = texts[:PASSAGES]
    folder = WORK / "passages"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    source = folder / "passages.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    command = [sys.executable, str(ROOT / "index.py")]  # whose memory is not this process's
    for what in (["build", "--index", str(folder), str(source)], ["graph", "--index", str(folder)]):
        subprocess.run([*command, *what], check=True)
    index, number = PassageIndex(folder), {text: row for row, text in enumerate(texts)}
    rows = []
    for shortlist in SHORTLISTS:
        seconds, among, best = [], 0, 0
        for premise, claim in claims:
            start = time.perf_counter()
            found = ask(nli, index, claim, TOP, shortlist)
            seconds.append(time.perf_counter() - start)
            best += any(passage["text"] == premise for passage in found["supporting"])
            if shortlist is not None:
                (known,) = read(nli.model, [claim])
                among += number[premise] in nearest(index, known.vector, shortlist)
        rows.append(
            {
                "Judged": f"all {len(texts):,}" if shortlist is None else f"the {shortlist} nearest",
                "seconds of a claim": sorted(seconds)[len(seconds) // 2],
                "gold passage shortlisted": None if shortlist is None else f"{among / len(claims):.0%}",
                f"among the {TOP} best": f"{best / len(claims):.0%}",
            }
        )
    return rows


def training(setup: Setup) -> list[Row]:
    """Both stages with a cold cache, beside one plain pass of the encoder over the same pairs."""
    nli = setup.pipeline()
    batches = in_batches(nli.tokenizer, setup.pairs, window_of(nli))
    with torch.inference_mode():
        plain = timed(lambda: [nli.model.encoder(**batch) for batch in batches])
    rows: list[Row] = [{"Run": "a plain pass of the encoder", "seconds": plain, "plain passes": 1.0}]
    work = WORK / "training"
    source = WORK / "training.jsonl"
    WORK.mkdir(parents=True, exist_ok=True)
    source.write_text("".join(json.dumps(row) + "\n" for row in setup.some))
    for name, options in TRAINING.items():
        shutil.rmtree(work, ignore_errors=True)
        command = [sys.executable, str(ROOT / "train.py"), "--train_data", str(source), *EPOCHS, *options]
        command += ["--output_dir", str(work / "out"), "--cache_dir", str(work / "states")]
        command += ["--use_cpu", str(not torch.cuda.is_available()).lower()]
        subprocess.run(command, check=True)
        results: dict[str, Any] = json.loads((work / "out" / "results.json").read_text())
        total = sum(results["seconds"].values())
        parts = {part: results["seconds"].get(part) for part in ("states", "stage 1", "stage 2")}
        memory = results["peak_memory"]["of its own"] / 1e9
        rows.append({"Run": name, "seconds": total, "plain passes": total / plain, **parts, "GB": memory})
    return rows
