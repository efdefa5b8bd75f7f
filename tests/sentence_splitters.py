"""Our rules for sentences beside two libraries: our own hard texts, pySBD's golden rules, whole documents.

    pip install sentencex pysbd
    python tests/sentence_splitters.py --documents DOCUMENTS/*.jsonl

Texts and golden rules: how many are split as they should be, white space at the ends of a sentence aside. The
golden rules are those that the package pysbd brings. Documents (rows of JSON with a `source`): of the places
where a library ends a sentence, the share where our rules do, and the other way round; what is right there
nobody has marked.
"""

import argparse
import ast
import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sentence_cases import KINDS  # noqa: E402

from modernbert_nli.sentences import Span, split_sentences  # noqa: E402

try:
    import pysbd
    import sentencex
except ImportError as error:
    sys.exit(f"{error}. This program compares with two libraries: pip install sentencex pysbd")

RESULTS = ROOT / "experiments" / "results" / "sentences.json"
OURS, MOST = "ours", 100  # sources of a file, at most


def by_sentencex(text: str) -> Iterable[Span]:
    found = sentencex.get_sentence_boundaries("en", text)
    return [(one["start_index"], one["end_index"]) for one in found]


def by_pysbd(text: str) -> Iterable[Span]:
    found = pysbd.Segmenter(language="en", clean=False, char_span=True).segment(text)
    return [(one.start, one.end) for one in found]


SPLITTERS: dict[str, Callable[[str], Iterable[Span]]] = {
    OURS: split_sentences,
    "sentencex": by_sentencex,
    "pysbd": by_pysbd,
}


def sentences(splitter: Callable[[str], Iterable[Span]], text: str) -> list[str]:
    """Without those that are white space alone."""
    return [part for span in splitter(text) if (part := text[slice(*span)].strip())]


def golden_rules() -> list[tuple[str, list[str]]]:
    """Texts and their sentences, read from the file that pysbd brings; nothing of it is run."""
    files = importlib.metadata.files("pysbd") or []
    path = next(Path(str(file.locate())) for file in files if file.name == "english_golden_rules.py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "GOLDEN_EN_RULES":
            return list(ast.literal_eval(node.value))
    raise ValueError(f"{path} has no GOLDEN_EN_RULES.")


def right(texts: list[tuple[str, list[str]]]) -> dict[str, int]:
    """How many texts each splitter splits as they should be."""
    counts = dict.fromkeys(SPLITTERS, 0)
    for text, expected in texts:
        for name, splitter in SPLITTERS.items():
            found = sentences(splitter, text)
            counts[name] += found == [part.strip() for part in expected]
    return counts


def ends(splitter: Callable[[str], Iterable[Span]], text: str) -> set[int]:
    """Where sentences end, the last one's aside."""
    found = [
        start + len(text[start:end].rstrip()) for start, end in splitter(text) if text[start:end].strip()
    ]
    return set(found[:-1])


def agreement(paths: list[Path]) -> dict[str, Any]:
    """Of the sources of all files: of each library's ends the share that is ours, and the other way round."""
    sources = []
    for path in paths:
        rows = [json.loads(line)["source"] for line in path.read_text(encoding="utf-8").splitlines()]
        sources += list(dict.fromkeys(rows))[:MOST]
    libraries = [name for name in SPLITTERS if name != OURS]
    totals = {name: [0, 0] for name in libraries}
    mine = 0
    for source in sources:
        ours = ends(SPLITTERS[OURS], source)
        mine += len(ours)
        for name in libraries:
            theirs = ends(SPLITTERS[name], source)
            totals[name][0] += len(theirs)
            totals[name][1] += len(theirs & ours)
    return {
        "sources": len(sources),
        "ends": {OURS: mine, **{name: count for name, (count, _) in totals.items()}},
        "of_theirs_ours": {name: round(both / max(1, count), 4) for name, (count, both) in totals.items()},
        "of_ours_theirs": {name: round(both / max(1, mine), 4) for name, (_, both) in totals.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--documents", nargs="*", type=Path, default=[], help="JSON Lines with a `source` each"
    )
    args = parser.parse_args()
    kinds = {
        kind: [(text.replace("|", ""), text.split("|")) for text in texts] for kind, texts in KINDS.items()
    }
    kinds["golden rules of pySBD"] = golden_rules()
    result = {
        "date": date.today().isoformat(),
        "versions": {name: importlib.metadata.version(name) for name in SPLITTERS if name != OURS},
        "texts": {kind: {"texts": len(texts), **right(texts)} for kind, texts in kinds.items()},
    }
    if args.documents:
        result["documents"] = agreement(args.documents)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
