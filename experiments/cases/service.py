"""The service under load: beside the pipeline, and a soak in which every answer counts."""

import asyncio
import json
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from operator import getitem
from typing import Any

import httpx
import numpy as np
import psutil

from ..setup import ROOT, Setup
from ..timing import Pairs, Row, ratio, timed

CLIENTS, ROUNDS, WARM = 64, 3, 256
CATEGORIES = {"sport": "This is about sport.", "music": "This is about music.", "food": "This is about food."}
NEAR = 1e-3  # of two probabilities: another batch rounds otherwise


def service(setup: Setup) -> list[Row]:
    """A process of its own on loopback, which clients ask for a pair each as soon as they have their last."""
    nli = setup.pipeline()
    with served() as (url, process):
        rows = asyncio.run(load(nli, setup.pairs, url))
        if setup.soak:
            rows.append(asyncio.run(soak(nli, setup.pairs[:WARM], url, process, setup.soak)))
    return rows


@contextmanager
def served() -> Iterator[tuple[str, psutil.Process]]:
    """`serve.py`, once it answers."""
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


async def load(nli: Any, pairs: Pairs, url: str) -> list[Row]:
    """Seconds a pair, of the pipeline and of the service in turn, and the service's latencies."""
    warm, pairs = pairs[:WARM], pairs[WARM:]
    if len(pairs) < ROUNDS * CLIENTS:
        raise ValueError(f"give more pairs than {WARM + ROUNDS * CLIENTS}: --count")
    nli(warm)
    await _all(url, warm)
    seconds: dict[str, list[float]] = {"pipeline": [], "service": []}
    latencies: list[float] = []
    for number in range(ROUNDS):
        part = pairs[number::ROUNDS]  # texts that neither has kept
        seconds["pipeline"].append(timed(lambda part=part: nli(part)) / len(part))  # type: ignore[misc]
        start = time.perf_counter()
        latencies += await _all(url, part)
        seconds["service"].append((time.perf_counter() - start) / len(part))
    whats = ("the pipeline, all pairs in a call", f"the service, {CLIENTS} clients with a pair each")
    rows: list[Row] = [
        {"What": what, "pairs a second": float(1 / np.median(of))}
        for what, of in zip(whats, seconds.values(), strict=True)
    ]
    rows[1]["of the pipeline's"] = ratio(*seconds.values())
    rows[1] |= {f"{share} %, ms": 1000 * float(np.percentile(latencies, share)) for share in (50, 95, 99)}
    return rows


async def _all(url: str, pairs: Pairs) -> list[float]:
    """Latencies of every pair in a request, `CLIENTS` at a time, each on a connection that it keeps.

    They write and read bytes: a library for HTTP would cost more of the machine than the service itself.
    """
    waiting, address, latencies = iter(pairs), httpx.URL(url), []

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
    return latencies


async def soak(nli: Any, few: Pairs, url: str, process: psutil.Process, seconds: float) -> Row:
    """Pairs, routes, checks and bad requests at once: how many answers are not the pipeline's, and memory."""
    draw, count, wrong, memory = random.Random(0), 0, 0, []
    # Path, question, and of the answer where it stands and what it is.
    questions: list[tuple[str, Any, tuple[Any, ...], float]] = []
    for premise, hypothesis in few:
        pair = {"pairs": [{"premise": premise, "hypothesis": hypothesis}]}
        route = {"texts": [premise], "categories": CATEGORIES}
        check = {"answer": hypothesis, "sources": premise}
        judged, routed = nli(premise, hypothesis), nli.route(premise, CATEGORIES)
        questions += [
            ("/judge", pair, ("results", 0, "uncertainty"), judged["uncertainty"]),
            ("/judge", pair, ("results", 0, "probs", judged["label"]), judged["confidence"]),
            ("/route", route, ("results", 0, "uncertainty"), routed["uncertainty"]),
            ("/check", check, ("support",), nli.check(hypothesis, premise)["support"]),
            ("/judge", draw.choice(({"pairs": []}, {"x": 1}, [])), (), 0),
        ]
    end = time.monotonic() + seconds

    async def ask(client: httpx.AsyncClient) -> None:
        nonlocal count, wrong
        while time.monotonic() < end:
            path, question, place, value = draw.choice(questions)
            answer = await client.post(path, json=question)
            right = answer.status_code == (200 if place else 422)
            if right and place:
                right = abs(reduce(getitem, place, answer.json()) - value) < NEAR
            count, wrong = count + 1, wrong + (not right)
            memory.append(process.memory_info().rss / 1e9)

    async with httpx.AsyncClient(base_url=url, timeout=300, trust_env=False) as client:
        await asyncio.gather(*(ask(client) for _ in range(CLIENTS // 4)))
    end_of_it = "no crash" if process.is_running() else "it crashed"
    what = f"soak of {seconds:g} s with bad requests: {count:,} answers, {wrong:,} wrong, {end_of_it}"
    return {"What": what, "GB after a tenth": memory[len(memory) // 10], "GB at the end": memory[-1]}
