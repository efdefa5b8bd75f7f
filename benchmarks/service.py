"""The service under load: throughput beside the pipeline's, latency, and a soak in which every answer counts.

    python benchmarks/service.py --pairs PAIRS.jsonl
    python benchmarks/service.py --pairs PAIRS.jsonl --soak 600

PAIRS has a premise and a hypothesis in each row. The service is a process of its own, `serve.py`, on
loopback; 64 clients ask for a pair at a time, each as soon as it has its last answer. The soak mixes pairs,
routes, checks and bad requests for so many seconds, and compares every answer with the pipeline's. Run
nothing else meanwhile. Prints a table and writes `benchmarks/results/service.json` and `.md`: the load, or
with `--soak` the soak, the other staying as it was.
"""

import argparse
import asyncio
import json
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from modernbert_nli.files import write_aside  # noqa: E402
from modernbert_nli.loading import load_pipeline  # noqa: E402
from modernbert_nli.training.data import load_pairs  # noqa: E402

CLIENTS, ROUNDS = 64, 3
RESULTS = ROOT / "benchmarks" / "results"
CATEGORIES = {"sport": "This is about sport.", "music": "This is about music.", "food": "This is about food."}
NEAR = 1e-3  # of two probabilities: another batch rounds otherwise


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=Path, required=True, help="a file of pairs")
    parser.add_argument("--count", type=int, default=2048, help="of them (default: %(default)s)")
    parser.add_argument("--soak", type=float, default=0, help="seconds (default: none)")
    args = parser.parse_args()
    read = load_pairs(f"{args.pairs}?cap={args.count}")
    pairs = list(zip(read.premises, read.hypotheses, strict=True))
    pipe = load_pipeline()
    path = RESULTS / "service.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    results: dict[str, Any] = {
        **{key: before[key] for key in ("load", "soak") if key in before},
        "date": date.today().isoformat(),
        "command": f"python benchmarks/service.py --pairs {args.pairs.name}" + " [--soak SECONDS]",
        "threads": torch.get_num_threads(),
        "clients": CLIENTS,
        "pairs": len(pairs),
    }
    with served() as (url, process):
        if args.soak:
            results["soak"] = asyncio.run(soak(pipe, pairs, url, process, args.soak))
        else:
            results["load"] = asyncio.run(load(pipe, pairs, url))
    write_aside(path, json.dumps(results, indent=2) + "\n")
    write_aside(RESULTS / "service.md", text(results) + "\n")
    print(text(results))


@contextmanager
def served() -> Iterator[tuple[str, psutil.Process]]:
    """The service in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "serve.py"), "--port", str(port)]
    environment = {key: value for key, value in os.environ.items() if key != "MODERNBERT_NLI_TOKEN"}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            while True:
                try:
                    httpx.get(f"{url}/health", trust_env=False)
                    break
                except httpx.TransportError:
                    if process.poll() is not None:
                        raise RuntimeError(f"serve.py ended with {process.returncode}.") from None
                    time.sleep(0.1)
            yield url, psutil.Process(process.pid)
        finally:
            process.terminate()


async def load(pipe: Any, pairs: list[tuple[str, str]], url: str) -> dict[str, Any]:
    """Pairs a second, of the pipeline and of the service in turn, and the service's latencies."""
    warm, pairs = pairs[:256], pairs[256:]
    pipe(warm)
    rates: dict[str, list[float]] = {"pipeline": [], "service": []}
    latencies: list[float] = []
    await _all(url, warm, [])
    for number in range(ROUNDS):
        part = pairs[number::ROUNDS]  # texts that neither has kept
        start = time.perf_counter()
        pipe(part)
        rates["pipeline"].append(len(part) / (time.perf_counter() - start))
        start = time.perf_counter()
        await _all(url, part, latencies)
        rates["service"].append(len(part) / (time.perf_counter() - start))
    ratios = np.array(rates["service"]) / np.array(rates["pipeline"])
    return {
        "pairs_per_second": {name: float(np.median(of)) for name, of in rates.items()},
        "ratio": float(np.median(ratios)),
        "least": float(ratios.min()),
        "most": float(ratios.max()),
        "latency": {f"p{share}": float(np.percentile(latencies, share)) for share in (50, 95, 99)},
    }


def _limits() -> httpx.Limits:
    return httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)


async def _all(url: str, pairs: list[tuple[str, str]], latencies: list[float]) -> None:
    """Every pair in a request, `CLIENTS` at a time, each on a connection that it keeps.

    They write and read bytes: a library for HTTP would cost more of the machine than the service itself.
    """
    waiting, address = iter(pairs), httpx.URL(url)

    async def one() -> None:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        for premise, hypothesis in waiting:
            start = time.perf_counter()
            body = json.dumps({"pairs": [{"premise": premise, "hypothesis": hypothesis}]}).encode()
            head = "POST /judge HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            status, _, headers = (await reader.readuntil(b"\r\n\r\n")).lower().partition(b"\r\n")
            length = re.search(rb"content-length: (\d+)", headers)
            answer = await reader.readexactly(int(length[1]) if length else 0)
            if b" 200 " not in status:
                raise RuntimeError(f"{status.decode()}: {answer.decode()}")
            latencies.append(time.perf_counter() - start)
        writer.close()

    await asyncio.gather(*(one() for _ in range(CLIENTS)))


async def soak(
    pipe: Any, pairs: list[tuple[str, str]], url: str, process: psutil.Process, seconds: float
) -> dict[str, Any]:
    """Mixed load with bad requests in between: answers by status, wrong ones, and memory at start and end."""
    draw, few = random.Random(0), pairs[:256]
    expected = pipe(few)
    routed = pipe.route([premise for premise, _ in few], CATEGORIES)
    checked = [pipe.check(hypothesis, premise) for premise, hypothesis in few]
    statuses: Counter[str] = Counter()
    wrong, memory = 0, []
    end = time.monotonic() + seconds

    def as_expected(kind: str, number: int, answer: httpx.Response) -> bool:
        if kind == "bad" or answer.status_code != 200:
            return kind == "bad" and answer.status_code == 422
        if kind == "check":
            return abs(answer.json()["support"] - checked[number]["support"]) < NEAR
        (found,), of = answer.json()["results"], (expected if kind == "judge" else routed)[number]
        same = (
            found["label"] == of["label"]
            if kind == "judge"
            else found["ranking"][0][0] == of["ranking"][0][0]
        )
        return same and abs(found["uncertainty"] - of["uncertainty"]) < NEAR

    async def ask(client: httpx.AsyncClient) -> None:
        nonlocal wrong
        while time.monotonic() < end:
            number, kind = draw.randrange(len(few)), draw.choice(("judge", "judge", "route", "check", "bad"))
            premise, hypothesis = few[number]
            if kind == "judge":
                question: Any = {"pairs": [{"premise": premise, "hypothesis": hypothesis}]}
            elif kind == "route":
                question = {"texts": [premise], "categories": CATEGORIES}
            elif kind == "check":
                question = {"answer": hypothesis, "sources": premise}
            else:
                question = draw.choice(({"pairs": []}, {"pairs": [{"premise": premise}]}, {"x": 1}, []))
            answer = await client.post(f"/{'judge' if kind == 'bad' else kind}", json=question)
            statuses[f"{kind} {answer.status_code}"] += 1
            wrong += not as_expected(kind, number, answer)

    async def watch() -> None:
        while time.monotonic() < end:
            memory.append(process.memory_info().rss)
            await asyncio.sleep(min(5.0, seconds / 20))

    async with httpx.AsyncClient(base_url=url, timeout=300, trust_env=False, limits=_limits()) as client:
        await asyncio.gather(watch(), *(ask(client) for _ in range(CLIENTS // 4)))
    settled = memory[len(memory) // 10 :]
    return {
        "seconds": seconds,
        "answers": dict(sorted(statuses.items())),
        "wrong": wrong,
        "crashed": not process.is_running(),
        "memory_gb": {"settled": settled[0] / 1e9, "end": settled[-1] / 1e9, "most": max(settled) / 1e9},
    }


def text(results: dict[str, Any]) -> str:
    """What is there: a table of the load, and what the soak found."""
    parts = [
        _load_text(results) if "load" in results else "",
        _soak_text(results["soak"]) if "soak" in results else "",
    ]
    return "\n\n".join([*filter(None, parts), f"{results['date']}, `{results['command']}`."])


def _load_text(results: dict[str, Any]) -> str:
    of = results["load"]
    rate, latency = of["pairs_per_second"], of["latency"]
    shown = " / ".join(f"{1000 * latency[name]:.0f} ms" for name in ("p50", "p95", "p99"))
    lines = [
        "| | Pairs a second | Latency of a request, median / 95 % / 99 % |",
        "|---|---|---|",
        f"| the pipeline, all pairs in a call | {rate['pipeline']:.0f} | |",
        f"| the service, {results['clients']} clients with a pair each | {rate['service']:.0f} | {shown} |",
        "",
        f"The service has {of['ratio']:.2f} ({of['least']:.2f} to {of['most']:.2f}) of the pipeline's "
        f"throughput, with its clients on the same {results['threads']} cores; {ROUNDS} rounds.",
    ]
    return "\n".join(lines)


def _soak_text(of: dict[str, Any]) -> str:
    memory, count = of["memory_gb"], sum(of["answers"].values())
    bad = sum(number for name, number in of["answers"].items() if name.startswith("bad"))
    return (
        f"Soak of {of['seconds']:g} seconds: {count:,} answers, {bad:,} of them to bad requests; "
        f"{of['wrong']:,} other than the pipeline's; {'it crashed' if of['crashed'] else 'no crash'}; memory "
        f"{memory['settled']:.2f} GB after a tenth of the time, {memory['end']:.2f} GB at the end."
    )


if __name__ == "__main__":
    main()
