"""Text that an encoder of English does not read, by kind: other languages, source code, noise.

    texts = unreadable(200, seed=1, catalogues=installed("django"))
    texts["language:fi"], texts["code:python"], texts["noise:base64"]

Languages come from the message catalogues of Django (BSD-3-Clause), whose English side is readable text in
the same manner; code from Python's standard library (PSF licence) and from Django; noise is drawn.
"""

import ast
import base64
import random
import re
import struct
import sysconfig
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

# Regional catalogues count as their language, so that one left out is left out whole.
_SAME_LANGUAGE = {"nb": "no", "nn": "no"}
# Languages so near to each other that one tells the other: left out together.
_RELATIVES = tuple(
    names.split()
    for names in (
        *("da no sv is", "de lb nl af fy", "es pt gl ca ast it ia io eo", "cs sk hsb dsb pl", "bs hr sl sr"),
        *("be bg mk ru uk", "kk ky tg tt mn os udm", "az tk tr uz", "ar fa ckb ug ur", "hi mr ne", "id ms"),
        *("et fi", "lt lv", "ga gd", "br cy"),
    )
)
SHORTEST = 16  # characters of a message or a piece of code: a word or two can be a name in any language
_MESSAGES = (2, 3)  # at most so many in a row, for texts of different lengths


def installed(package: str) -> Path:
    """The folder of an installed package, whose files are read; nothing of it is run.

    Raises:
        FileNotFoundError: it is not installed.
    """
    found = find_spec(package)
    if found is None or found.origin is None:
        raise FileNotFoundError(
            f"{package} is not installed: run `pip install {package}`, or name its folder."
        )
    return Path(found.origin).parent


def unreadable(count: int, seed: int, catalogues: Path, sentences: list[str]) -> dict[str, list[str]]:
    """Up to `count` texts of each kind, none twice.

    Args:
        count (`int`): Texts of a kind; small catalogues have fewer.
        seed (`int`): Of what is drawn.
        catalogues (`Path`): A folder with `locale/LANGUAGE/LC_MESSAGES/*.mo` somewhere below, and code.
        sentences (`list[str]`): English, whose letters and bytes are shuffled.
    """
    found = {
        f"language:{name}": _joined(texts, count, random.Random(f"{seed} {name}"))
        for name, (texts, _) in messages(catalogues).items()
    }
    for name, (folder, suffix) in _code_folders(catalogues).items():
        draw = random.Random(f"{seed} {name}")
        found[f"code:{name}"] = _distinct(count, partial(_piece, _code(folder, suffix), draw))
    for name, make in NOISE.items():
        draw = random.Random(f"{seed} {name}")
        found[f"noise:{name}"] = _distinct(count, partial(make, draw, sentences))
    return {kind: texts for kind, texts in found.items() if texts}


def english(count: int, seed: int, catalogues: Path) -> list[str]:
    """The English side of the same catalogues: what tells the languages is then not their subject."""
    texts = dict.fromkeys(text for _, originals in messages(catalogues).values() for text in originals)
    return _joined(list(texts), count, random.Random(f"{seed} english"))


def group_of(kind: str) -> str:
    """What a kind is left out together with: languages of a family, all else alone."""
    name = kind.removeprefix("language:")
    return next((f"language:{group[0]}" for group in _RELATIVES if name in group), kind)


def messages(catalogues: Path) -> dict[str, tuple[list[str], list[str]]]:
    """By language, distinct messages and their English originals, without markup and placeholders."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(catalogues.glob("**/locale/*/LC_MESSAGES/*.mo")):
        code = path.parent.parent.name.partition("_")[0]
        if code != "en":
            language = found.setdefault(_SAME_LANGUAGE.get(code, code), {})
            for original, message in _read(path):
                language.setdefault(_plain(message), _plain(original))
    return {
        code: (
            [text for text, original in pairs.items() if _is_translated(text, original)],
            [original for original in pairs.values() if len(original) >= SHORTEST],
        )
        for code, pairs in sorted(found.items())
    }


def _read(path: Path) -> Iterator[tuple[str, str]]:
    """Originals and messages of a catalogue in GNU's binary format; of plural forms the first."""
    content = path.read_bytes()
    order = "<" if content[:4] == b"\xde\x12\x04\x95" else ">"
    count, originals, translations = struct.unpack_from(f"{order}III", content, 8)
    for row in range(count):
        texts = []
        for table in (originals, translations):
            length, start = struct.unpack_from(f"{order}II", content, table + 8 * row)
            texts.append(content[start : start + length].split(b"\0")[0].decode())
        original = texts[0].rpartition("\x04")[2]  # after the context
        if original:  # the first is the header
            yield original, texts[1]


_MARKUP = re.compile(r"<[^>]*>|%(?:\(\w+\))?[\d.]*[a-z]|\{\w*\}|&\w+;")


def _plain(message: str) -> str:
    return " ".join(_MARKUP.sub(" ", message).split())


def _is_translated(text: str, original: str) -> bool:
    words = set(re.findall(r"[^\W\d_]+", original.lower()))
    own = [word for word in re.findall(r"[^\W\d_]+", text.lower()) if word not in words]
    return len(text) >= (SHORTEST if text.isascii() else SHORTEST // 2) and sum(map(len, own)) * 2 > len(text)


def _joined(texts: list[str], count: int, draw: random.Random) -> list[str]:
    """Texts in any order, some alone, some two or three in a row."""
    texts, rows = draw.sample(texts, len(texts)), list[str]()
    while texts and len(rows) < count:
        size = draw.choice((1, 1, *_MESSAGES))
        rows.append(" ".join(texts[:size]))
        texts = texts[size:]
    return rows


def _code_folders(catalogues: Path) -> dict[str, tuple[Path, str]]:
    stdlib = Path(sysconfig.get_path("stdlib"))
    folders = {
        "python": (stdlib, ".py"),
        "c": (Path(sysconfig.get_path("include")), ".h"),
        "javascript": (catalogues, ".js"),
        "css": (catalogues, ".css"),
        "html": (catalogues, ".html"),
    }
    return {name: (folder, suffix) for name, (folder, suffix) in folders.items() if _files(folder, suffix)}


def _files(folder: Path, suffix: str) -> list[Path]:
    deep = folder.glob("*.py") if suffix == ".py" else folder.glob(f"**/*{suffix}")
    return sorted(path for path in deep if not {"test", "tests", "locale", "i18n"} & set(path.parts))


_COMMENTS = re.compile(
    r"/\*.*?\*/|(?<!:)//[^\n]*|<!--.*?-->|\{#.*?#\}|\{%\s*comment.*?endcomment\s*%\}", re.DOTALL
)


@cache
def _code(folder: Path, suffix: str) -> list[list[str]]:
    """Files as their lines, without comments and docstrings, which are English."""
    sources = []
    for path in _files(folder, suffix):
        text = path.read_text(encoding="utf-8", errors="replace")
        lines = _python_lines(text) if suffix == ".py" else _COMMENTS.sub("", text).splitlines()
        lines = [line[:200] for line in lines if line.strip()]
        if len(lines) > 8:
            sources.append(lines)
    return sources


def _python_lines(text: str) -> list[str]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    lines = text.splitlines()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            for row in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[row] = ""
    return [line.partition("  # ")[0] for line in lines if not line.lstrip().startswith("#")]


def _piece(sources: list[list[str]], draw: random.Random) -> str:
    """Some lines of a file, in the usual number of which a piece of code is shown."""
    lines = draw.choice(sources)
    size = draw.choice((1, 2, 3, 5, 8))
    start = draw.randrange(max(1, len(lines) - size))
    return "\n".join(lines[start : start + size]).strip()


def _distinct(count: int, make: Callable[[], str]) -> list[str]:
    found: dict[str, None] = {}
    for _ in range(4 * count):
        text = make()
        if len(text) >= SHORTEST:
            found[text] = None
        if len(found) == count:
            break
    return list(found)


_SMALL = "abcdefghijklmnopqrstuvwxyz"
_SIGNS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~§¤±×÷←→↑↓■□▲●◆★☆♠♥♦♣√∞≈≠≤≥∑∫∂∆"


def _letters(draw: random.Random, _: list[str]) -> str:
    words = ("".join(draw.choices(_SMALL, k=draw.randint(2, 10))) for _ in range(draw.randint(3, 14)))
    return " ".join(words)


def _keys(draw: random.Random, _: list[str]) -> str:
    """Keys that lie beside each other, as a hand falls on them."""
    row = draw.choice(("qwertyuiop", "asdfghjkl", "zxcvbnm"))
    words = ("".join(draw.choices(row, k=draw.randint(3, 9))) for _ in range(draw.randint(3, 10)))
    return " ".join(words)


def _base64(draw: random.Random, _: list[str]) -> str:
    return base64.b64encode(draw.randbytes(draw.randint(15, 120))).decode()


def _hex(draw: random.Random, _: list[str]) -> str:
    return draw.choice(("", " ")).join(draw.randbytes(2).hex() for _ in range(draw.randint(8, 40)))


def _bytes(draw: random.Random, sentences: list[str]) -> str:
    """The bytes of a sentence in any order, each another by chance, read as Latin-1."""
    found = list(draw.choice(sentences).encode()[:200])
    draw.shuffle(found)
    noise = (draw.randrange(33, 256) if draw.random() < 0.5 else one for one in found)
    return " ".join(bytes(noise).decode("latin-1").split())


def _shuffled(draw: random.Random, sentences: list[str]) -> str:
    """The letters of a sentence in any order, with its spaces where they were."""
    text = draw.choice(sentences)[:200]
    letters = iter(draw.sample(rest := text.replace(" ", ""), len(rest)))
    return "".join(" " if one == " " else next(letters) for one in text)


def _mixed(draw: random.Random, _: list[str]) -> str:
    """Letters and digits, as of passwords and keys."""
    signs = draw.choice((_SMALL, _SMALL.upper(), _SMALL + _SMALL.upper())) + "0123456789" * 2
    return draw.choice(" -_:").join(
        "".join(draw.choices(signs, k=draw.randint(4, 12))) for _ in range(draw.randint(3, 9))
    )


def _digits(draw: random.Random, _: list[str]) -> str:
    """Digits without end, which are no number of anything."""
    return draw.choice(("", " ", ".", ":")).join(
        "".join(draw.choices("0123456789", k=draw.randint(3, 9))) for _ in range(draw.randint(6, 20))
    )


def _escaped(draw: random.Random, sentences: list[str]) -> str:
    """A sentence as bytes are written out where something went wrong."""
    form = draw.choice(("\\x{:02x}", "%{:02X}", "&#{};", "\\u{:04x}"))
    return "".join(map(form.format, draw.choice(sentences).encode()[: draw.randint(8, 40)]))


def _symbols(draw: random.Random, _: list[str]) -> str:
    words = ("".join(draw.choices(_SIGNS, k=draw.randint(1, 6))) for _ in range(draw.randint(6, 20)))
    return " ".join(words)


def _repeated(draw: random.Random, _: list[str]) -> str:
    """One sign or syllable, again and again."""
    part = draw.choice((draw.choice(_SIGNS), "".join(draw.choices(_SMALL, k=draw.randint(1, 3)))))
    return draw.choice(("", " ")).join([part] * draw.randint(16, 40))


NOISE: dict[str, Callable[[random.Random, list[str]], str]] = {
    "letters": _letters,
    "keys": _keys,
    "base64": _base64,
    "hex": _hex,
    "mixed": _mixed,
    "digits": _digits,
    "escaped": _escaped,
    "bytes": _bytes,
    "shuffled": _shuffled,
    "symbols": _symbols,
    "repeated": _repeated,
}
