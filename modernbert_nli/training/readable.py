"""Text that an encoder of English reads, by kind: that of labelled sets, and short or formal text made here.

    texts = readable(200, seed=1, paths=[Path("snli.jsonl"), Path("banking.jsonl")])
    texts["snli"], texts["made:numbers"], texts["made:docstrings"]

What looks odd to an encoder and yet is plain to read must be among it: a detector knows no other limits.
"""

import ast
import json
import random
import re
import string
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from ..sentences import split_sentences

_FIELDS = ("premise", "hypothesis", "text", "source", "claim")
_LONG = 400  # characters of a text that is taken whole; of a longer one some sentences
_NAME = re.compile(r"\b[A-Z][a-zà-ž]+(?:[ -][A-Z][a-zà-ž]+)+")
_PASSAGES = (1, 1, 3, 8)  # sentences of it, as whole documents are read


Pair = tuple[str, str]


def readable(count: int, seed: int, paths: Sequence[Path]) -> dict[str, list[Pair]]:
    """Up to `count` pairs of each kind; what is no pair by itself stands beside another of its kind.

    Args:
        count (`int`): Pairs of a kind.
        seed (`int`): Of what is drawn.
        paths (`Sequence[Path]`): JSONL files of pairs, texts, or sources and claims, in English.
    """
    found = {path.stem: _of_file(path, count, random.Random(f"{seed} {path.stem}")) for path in paths}
    texts = [text for pairs in found.values() for pair in pairs for text in pair]
    words = [word for text in texts for word in re.findall(r"\b[a-z]{3,}\b", text)] or ["word"]
    for name, make in MADE.items():
        draw = random.Random(f"{seed} {name}")
        made = list(dict.fromkeys(make(draw, words) for _ in range(4 * count)))
        found[f"made:{name}"] = paired(made)[:count]
    names = sorted({name for text in texts for name in _NAME.findall(text)})
    draw = random.Random(f"{seed} names")
    found["made:names"] = paired(draw.sample(names, min(2 * count, len(names))))
    draw = random.Random(f"{seed} misspelled")
    short = [text for text in texts if 20 <= len(text) <= 150] or words
    found["made:misspelled"] = paired([misspelled(draw.choice(short), draw) for _ in range(2 * count)])
    for name, every in (("docstrings", _docstrings()), ("licences", _licences())):
        some = random.Random(f"{seed} {name}").sample(every, min(2 * count, len(every)))
        found[f"made:{name}"] = paired(some)
    return {kind: pairs for kind, pairs in found.items() if pairs}


def paired(texts: Sequence[str]) -> list[Pair]:
    """Texts side by side, the first with the second and so on."""
    return list(zip(texts[::2], texts[1::2], strict=False))


def _of_file(path: Path, count: int, draw: random.Random) -> list[Pair]:
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in draw.sample(lines, min(2 * count, len(lines)))]
    found = [
        [passage(row[name], draw) for name in _FIELDS if str(row.get(name) or "").strip()] for row in rows
    ]
    if all(len(texts) >= 2 for texts in found):
        return [(texts[0], texts[1]) for texts in found][:count]
    return paired([texts[0] for texts in found if texts])


def passage(text: str, draw: random.Random) -> str:
    """A text, or where it is long some of its sentences."""
    if len(text) <= _LONG:
        return text
    spans = list(split_sentences(text[:20_000]))
    first = draw.randrange(len(spans))
    last = min(len(spans), first + draw.choice(_PASSAGES)) - 1
    return text[spans[first][0] : spans[last][1]]


_CHAT = {"you": "u", "are": "r", "please": "pls", "because": "bcz", "thanks": "thx", "and": "n", "for": "4"}


def misspelled(text: str, draw: random.Random) -> str:
    """A text as typed in haste: in small letters, words shortened, letters lost, doubled or exchanged."""
    words = [_CHAT.get(word, word) if draw.random() < 0.5 else word for word in text.lower().split()]
    for row, word in enumerate(words):
        if len(word) > 3 and draw.random() < 0.2:
            place = draw.randrange(1, len(word) - 1)
            one, two, rest = word[:place], word[place], word[place + 1 :]
            words[row] = draw.choice((one + rest, one + two + two + rest, one + rest[:1] + two + rest[1:]))
    return " ".join(words).rstrip(".") if draw.random() < 0.7 else " ".join(words)


def _answer(draw: random.Random, words: list[str]) -> str:
    word = draw.choice(words)
    return draw.choice(
        (word, word.capitalize(), f"{word}.", f"{word.capitalize()}.", f"the {word}", "Yes.", "No.")
    )


def _question(draw: random.Random, words: list[str]) -> str:
    asked = draw.choice(
        (
            "What is {}?",
            "How much is the {}?",
            "who is {}",
            "Where is my {}?",
            "why {}?",
            "Is it {}?",
            "{}?",
            "when {}",
        )
    )
    return asked.format(draw.choice(words))


_UNITS = (
    *("kg", "km", "m", "cm", "g", "%", "°C", "mg", "ml", "l", "GB", "MB", "kW", "mph", "km/h", "years"),
    *("hours", "min", "days", "people", "points", "dollars", "miles"),
)


def _amount(draw: random.Random) -> str:
    number = draw.choice((draw.randint(0, 99), draw.randint(100, 9999), round(draw.random() * 100, 2)))
    written = draw.choice((f"{number:,}", f"{number}", f"{number:.1f}", f"-{number}"))
    return draw.choice((written, f"{written} {draw.choice(_UNITS)}", f"{draw.choice('$€£')}{written}"))


def _number(draw: random.Random, words: list[str]) -> str:
    year, month, day, hour = (
        draw.randint(1800, 2030),
        draw.randint(1, 12),
        draw.randint(1, 28),
        draw.randint(0, 23),
    )
    dates = (
        f"{year}",
        f"{year}-{month:02}-{day:02}",
        f"{month}/{day}/{year}",
        f"{hour}:{day:02}",
        f"{hour % 12 + 1} a.m.",
    )
    one, other = _amount(draw), draw.choice((_amount(draw), draw.choice(dates)))
    return draw.choice(
        (
            one,
            other,
            f"{draw.choice(words)}: {one}",
            f"{draw.choice(words)} {one} {other}",
            f"{one} to {other}",
        )
    )


def _product(draw: random.Random, words: list[str]) -> str:
    """A name as of a product: a brand, a model, a size."""
    brand = draw.choice((draw.choice(words), "".join(map(str.capitalize, draw.sample(words, 2)))))
    brand = draw.choice((brand[:1].upper() + brand[1:], brand.upper()))
    letters = "".join(draw.choices(string.ascii_uppercase, k=draw.randint(1, 3)))
    model = draw.choice(
        (f"{letters}{draw.randint(1, 9999)}", f"{letters}-{draw.randint(10, 999)}", str(draw.randint(1, 20)))
    )
    rest = draw.choice(
        ("Pro", "Plus", "Mini", "Max", "Air", "Lite", *map(str.capitalize, draw.sample(words, 3)))
    )
    parts = (brand, draw.choice((model, "")), rest, draw.choice((_amount(draw), "", draw.choice(words))))
    return " ".join(part for part in parts if part)


def _table(draw: random.Random, words: list[str]) -> str:
    """A few rows of a table: in Markdown, by commas or tabs, or as names and values."""
    heads = [draw.choice(words).capitalize() for _ in range(draw.randint(2, 4))]
    rows = [
        [draw.choice((draw.choice(words), _amount(draw))) for _ in heads] for _ in range(draw.randint(1, 4))
    ]
    kind = draw.choice(("markdown", "comma", "tab", "names"))
    if kind == "names":
        return draw.choice(("\n", "; ")).join(
            f"{head}: {one}" for row in rows for head, one in zip(heads, row, strict=True)
        )
    if kind == "markdown":
        lines = [heads, ["---"] * len(heads), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n".join({"comma": ",", "tab": "\t"}[kind].join(line) for line in [heads, *rows])


def _items(draw: random.Random, words: list[str]) -> str:
    """A list of a few words each."""
    mark = draw.choice(("- ", "* ", "• ", ""))
    lines = [" ".join(draw.choices(words, k=draw.randint(1, 4))) for _ in range(draw.randint(2, 5))]
    return draw.choice(("\n", "\n", ", ")).join(mark + line for line in lines)


def _contact(draw: random.Random, words: list[str]) -> str:
    """A sentence with an address of the web or of mail."""
    name, host = draw.choice(words), draw.choice(words)
    address = draw.choice(
        (f"https://www.{host}.com/{name}", f"{name}@{host}.org", f"{host}.co.uk", f"{name}.{host}@{host}.com")
    )
    said = draw.choice(
        ("See {} for details.", "Write to {}.", "More at {}", "Contact: {}", "You find the form at {}.")
    )
    return said.format(address)


MADE: dict[str, Callable[[random.Random, list[str]], str]] = {
    "answers": _answer,
    "questions": _question,
    "numbers": _number,
    "products": _product,
    "tables": _table,
    "lists": _items,
    "addresses": _contact,
}


@cache
def _docstrings() -> list[str]:
    """First paragraphs of the standard library's docstrings: English about code."""
    found: dict[str, None] = {}
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Module):
                words = (ast.get_docstring(node) or "").partition("\n\n")[0].split()
                if len(words) >= 6:
                    found[" ".join(words)] = None
    return list(found)


# Of this project's dependencies, so that what is drawn does not depend on what else is installed.
_LICENSED = ("numpy", "scipy", "torch", "pyarrow", "transformers")


@cache
def _licences() -> list[str]:
    """Sentences of licences: legal English."""
    found: dict[str, None] = {}
    for path in (Path(sysconfig.get_path("stdlib")) / "LICENSE.txt", *_licence_files()):
        text = path.read_text(encoding="utf-8", errors="ignore")[:40_000] if path.is_file() else ""
        for start, end in split_sentences(text):
            words = text[start:end].split()
            if len(words) >= 8 and all(map(str.isascii, words)) and words[0][0].isalnum():
                found[" ".join(words)[:_LONG]] = None
    return list(found)


def _licence_files() -> Iterator[Path]:
    for name in _LICENSED:
        with suppress(PackageNotFoundError):
            for file in sorted(files(name) or [], key=str):
                if file.name.upper().startswith(("LICENSE", "LICENCE", "NOTICE")) and file.suffix != ".py":
                    yield Path(str(file.locate()))
