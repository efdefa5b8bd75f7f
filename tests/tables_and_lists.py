"""Claims about tables and lists: how many that are true, and how many that are another row's, are supported.

    python tests/tables_and_lists.py [--prose] [--show]

The cases are those of `tables_and_lists.jsonl`, each written in several formats; the wordings of cells
and items were chosen on those that are not `fresh`. With `--prose` sources are split into sentences alone;
with `--show` wrong claims that are supported are printed.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import modernbert_nli
from modernbert_nli.sentences import split_sentences

CASES = Path(__file__).with_suffix(".jsonl")
Row = Sequence[str]


def markdown(header: Row, rows: Sequence[Row]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def separated(header: Row, rows: Sequence[Row], sign: str = ";") -> str:
    return "\n".join(sign.join(row) for row in (header, *rows))


def html(header: Row, rows: Sequence[Row]) -> str:
    body = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    head = "".join(f"<th>{cell}</th>" for cell in header)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in (head, *body))}</table>"


def headed(title: str, lists: Mapping[str, Row]) -> str:
    parts = [f"## {name}\n\n" + "".join(f"- {item}\n" for item in items) for name, items in lists.items()]
    return f"# {title}\n\n" + "\n".join(parts)


def led_in(title: str, lists: Mapping[str, Row]) -> str:
    return f"{title}\n\n" + "\n".join(
        f"{name.rstrip(':')}:\n" + "".join(f"* {item}\n" for item in items) for name, items in lists.items()
    )


def tagged(title: str, lists: Mapping[str, Row]) -> str:
    parts = [f"<h2>{name}</h2><ul><li>{'<li>'.join(items)}</ul>" for name, items in lists.items()]
    return f"<h1>{title}</h1>{''.join(parts)}"


TABLES: dict[str, Callable[..., str]] = {"Markdown": markdown, "separated": separated, "HTML": html}
LISTS: dict[str, Callable[..., str]] = {"Markdown": headed, "lead-in": led_in, "HTML": tagged}


def sources(case: Mapping[str, Any]) -> dict[str, str]:
    """The source of a case by its format."""
    if "rows" in case:
        return {f"table, {name}": made(case["header"], case["rows"]) for name, made in TABLES.items()}
    return {f"list, {name}": made(case["title"], case["lists"]) for name, made in LISTS.items()}


def main() -> None:
    nli = modernbert_nli.load()
    splitter = (lambda text: list(split_sentences(text))) if "--prose" in sys.argv else None
    counts: dict[str, dict[bool, list[int]]] = {}
    for line in CASES.read_text().splitlines():
        case = json.loads(line)
        for name, source in sources(case).items():
            name += ", fresh" * ("fresh" in case)
            for claim, true in case["claims"]:
                verdict = nli.check(claim, source, splitter=splitter)["verdict"]
                if verdict == "supported" and not true and "--show" in sys.argv:
                    print(f"{name}: {claim}")
                supported, every = counts.setdefault(name, {}).setdefault(true, [0, 0])
                counts[name][true] = [supported + (verdict == "supported"), every + 1]
    print("| source | true, supported | wrong, supported |\n|---|---|---|")
    for name, found in counts.items():
        print(f"| {name} | {found[True][0]} of {found[True][1]} | {found[False][0]} of {found[False][1]} |")


if __name__ == "__main__":
    main()
