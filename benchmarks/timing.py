"""Programs timed in turn, so that what the machine does meanwhile falls on all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def alternate(programs: Mapping[str, Callable[[], Any]], repetitions: int) -> dict[str, list[float]]:
    """Seconds of each repetition of each program, after a warm-up of each."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for program in programs.values():
        program()
    for _ in range(repetitions):
        for name, program in programs.items():
            seconds[name].append(timed(program))
    return seconds


def timed(program: Callable[[], Any]) -> float:
    """Seconds of a program."""
    start = time.perf_counter()
    program()
    return time.perf_counter() - start


def ratio(first: list[float], second: list[float]) -> dict[str, float]:
    """Seconds of the first over those of the second, repetition by repetition: median, least and most."""
    ratios = sorted(a / b for a, b in zip(first, second, strict=True))
    return {"ratio": statistics.median(ratios), "least": ratios[0], "most": ratios[-1]}
