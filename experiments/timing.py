"""Programs timed in turn, so that what the machine does meanwhile falls on all of them alike; their table."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

from modernbert_nli.evaluation.tables import table

Row = dict[str, Any]
Pairs = list[tuple[str, str]]
Scorer = Callable[[Pairs], Any]
SINGLE, IN_A_ROW = 200, 25  # pairs that are judged one at a time, and how many by one program before the next


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


def ratio(first: Iterable[float], second: Iterable[float]) -> dict[str, float]:
    """The first over the second, repetition by repetition: median, least and most."""
    ratios = sorted(a / b for a, b in zip(first, second, strict=True))
    return {"ratio": statistics.median(ratios), "least": ratios[0], "most": ratios[-1]}


def beside(what: str, ours: Callable[[], Any], other: Callable[[], Any], repetitions: int) -> Row:
    """A row: how many times as long the other takes."""
    return compared(what, *alternate({"ours": ours, "other": other}, repetitions).values())


def compared(what: str, ours: Sequence[float], other: Sequence[float]) -> Row:
    """A row of what was measured of both, the one and then the other, as often."""
    medians = {"ours": statistics.median(ours), "the other": statistics.median(other)}
    return {"The other / ours": what, **medians, "ratio": ratio(other, ours)}


def scored(
    programs: Mapping[str, Scorer], pairs: Pairs, repetitions: int, against: Mapping[str, Mapping[str, str]]
) -> list[Row]:
    """A row for each program: pairs a second in batches, one pair's latency, and how it compares.

    Args:
        against (`Mapping`): By program those whose time is divided by its own, by what the column says.
    """
    seconds = alternate({name: partial(run, pairs) for name, run in programs.items()}, repetitions)
    latencies: dict[str, list[float]] = {name: [] for name in programs}
    singles = pairs[:SINGLE]
    for start in range(0, len(singles), IN_A_ROW):  # a runtime's threads still spin when the next one begins
        for name, run in programs.items():
            run(singles[start : start + 1])
            for pair in singles[start : start + IN_A_ROW]:
                latencies[name].append(timed(partial(run, [pair])))
    rows = []
    for name in programs:
        row: Row = {
            "Program": name,
            "pairs a second": len(pairs) / statistics.median(seconds[name]),
            "one pair, ms": 1000 * statistics.median(latencies[name]),
            "99 %, ms": 1000 * statistics.quantiles(latencies[name], n=100)[98],
        }
        for column, other in against.get(name, {}).items():
            row[f"batches: {column} / it"] = ratio(seconds[other], seconds[name])
            row[f"one pair: {column} / it"] = ratio(latencies[other], latencies[name])
        rows.append(row)
    return rows


def own_process(function: Callable[..., Any], *args: Any) -> Any:
    """What a function returns in a fresh process, whose memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def markdown(rows: Sequence[Row]) -> str:
    """A column for each key; a ratio stands with its least and most."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return table(columns, [[_cell(row.get(column)) for column in columns] for row in rows])


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['ratio']:.3g} ({value['least']:.3g} to {value['most']:.3g})"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
