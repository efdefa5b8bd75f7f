"""What `peers.py` measured, as Markdown."""

from typing import Any

from modernbert_nli.evaluation.tables import table

_MB = 1e6


def scoring(runs: dict[str, dict[str, Any]]) -> str:
    """A row for each program and run: pairs a second, and how many times as fast ours is in each encoding."""
    measured = [run["scoring"] for run in runs.values() if "scoring" in run]
    encodings = list(dict.fromkeys(own for row in measured for own in row["times_the_speed_of"]))
    body = []
    for row in measured:
        where = f"{row['base']}, {row['dtype']}, {row['device']}"
        for name, speed in row["pairs_per_second"].items():
            compared = (row["times_the_speed_of"].get(own, {}).get(name) for own in encodings)
            body.append([where, name, f"{speed:,.1f}", *map(_ratio, compared)])
    heads = ["Base", "Program", "Pairs/s", *(f"Times as fast: {own}" for own in encodings)]
    return "\n\n".join([table(heads, body), _made(measured), *_share_of_peak(measured)])


def costs(runs: dict[str, dict[str, Any]]) -> str:
    """A row for each of the other measurements."""
    body, made = [], []
    for name, run in runs.items():
        for part, rows in (("load", _load), ("growth", _growth), ("long", _long), ("processes", _processes)):
            if part in run:
                body += [[name, *row] for row in rows(run[part])]
                made.append(run[part])
    return "\n\n".join([table(["Run", "What", "Measured"], body), _made(made)])


def _load(row: dict[str, Any]) -> list[list[str]]:
    return [
        ["time to load, ours / the plain base", _ratio(row["load_seconds"])],
        ["peak memory after a batch, ours / the plain base", _ratio(row["peak_rss_bytes"])],
    ]


def _growth(row: dict[str, Any]) -> list[list[str]]:
    return [
        [
            f"{int(size):,} pairs from a generator",
            f"{1000 * found['seconds_per_pair']:.2f} ms a pair, "
            f"{found['rss_bytes_at_most'] / _MB:,.0f} MB at most",
        ]
        for size, found in row["sizes"].items()
    ]


def _long(row: dict[str, Any]) -> list[list[str]]:
    own, bare = row["seconds"].values()
    shown = f"{own:.2f} s, {_ratio(row['ours_over_bare'])} of the bare encoder's {bare:.2f} s"
    return [[f"a pair of {row['tokens']:,} tokens in one pass", shown]]


def _processes(row: dict[str, Any]) -> list[list[str]]:
    return [[f"predict.py over {row['pairs']:,} pairs, one process / two", _ratio(row["one_over_two"])]]


def _ratio(found: dict[str, float] | None) -> str:
    return "" if found is None else f"{found['ratio']:.2f} ({found['least']:.2f} to {found['most']:.2f})"


def _share_of_peak(measured: list[dict[str, Any]]) -> list[str]:
    shares = [
        f"{row['base']}, {row['dtype']}: {name} reaches {share:.0%} of the chip's peak."
        for row in measured
        for name, share in row.get("share_of_peak", {}).items()
    ]
    return [" ".join(shares)] if shares else []


def _made(rows: list[dict[str, Any]]) -> str:
    made = dict.fromkeys(f"`{row['command']}` ({row['threads']} threads, {row['date']})" for row in rows)
    return f"Median (least to most) of the repetitions. Written by {', '.join(made)}."
