"""A source read as what it means: sentences, cells of tables under their headers, items under their headings.

    statements("Included:\\n- battery\\n\\nNot included:\\n- memory card")
    # "Included:", "Included battery.", "Not included:", "Not included memory card."

Prose is its sentences, inline mark-up read through (`markup.py`). Tables are those of Markdown and HTML, and
lines of values under a header, separated by commas, semicolons or tabs. Lists are read under what governs
them: the two nearest of headings, lead-in and the items that they are nested in.
Whatever only resembles a table or a list stays prose. Time is linear in the length of a source.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from .markup import plain
from .sentences import Span, split_sentences

# Full-width signs and ligatures, which tokenizers of English do not know.
_SAME: dict[int, str | int] = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_SAME.update(zip(range(0xFB00, 0xFB07), ("ff", "fi", "fl", "ffi", "ffl", "st", "st"), strict=True))
_MARKED = re.compile(
    r"[&<>*_`\[\]\\#~|+•⁃▪◦●‣\x00-\x1f\x7f-\x9f\u00ad\u2000-\u206f\ufb00-\uffff]|^[-\d(\w]+[.)]?\s|\s\s"
)

_LINE = re.compile(r"([^\r\n\u2028\u2029]*)(?:\r\n|[\r\n\u2028\u2029]|\Z)")
_HEADING = re.compile(r" {0,3}(?:(#{1,6})[^\S\r\n]+\S|(\*\*|__)(?=[^\s*_])[^*_]+\2:?\s*\Z)")
_UNDERLINE = re.compile(r"(?:={3,}|-{3,})\s*\Z")
_FENCE = re.compile(r" {0,3}(?:```|~~~)")
_ITEM = re.compile(r"([^\S\r\n]*)(?:[-*+•⁃▪◦●‣]|(\d{1,3})[.)]|\(?[a-z]\))[^\S\r\n]+(?=\S)")
_LEADS_IN = re.compile(r":[*_]*\s*\Z")
_ENDED = re.compile(r"[.!?…。！？][\"'”’»)\]*_]*\s*\Z")
_WRAPPED = 40  # characters from which a line of an item may go on in the next one without being indented

_RULE = re.compile(r"\s*\|?(?:\s*:?-+:?\s*\|)*\s*(?::?-+:?\s*)?\Z")
_GRID = re.compile(r"\s*\+(?:[-=:]+\+)+\s*\Z")
_PIPE = re.compile(r"(?<!\\)\|")
_NAME = re.compile(r"[^\W\d_][^=;{}<>!?\"]{0,39}\Z|[^\W_][\w-]{0,15}\Z")
_YEAR = re.compile(r"(?:1[5-9]|20)\d\d\Z")
_NUMBER = re.compile(r"\W{0,3}\d[\d.,:/\s%–-]*(?:[^\W\d_]{1,4}\.?|\W{1,2})?\Z")
_LONG = 60  # characters of a value; more are a sentence
_SENTENCE = 100_000  # characters of the longest sentence
_TAG = re.compile(r"<(/?)(table|caption|tr|t[dh]|[uo]l|li|h[1-6])(?:\s[^<>]*)?>", re.IGNORECASE)
_CLOSED = re.compile(r"</(?:table|[uo]l|h[1-6])\s*>", re.IGNORECASE)
_SPANNING = re.compile(r"\b(col|row)span\s*=\s*[\"']?(\d{1,3})", re.IGNORECASE)
_YES, _NO = frozenset(["yes", "true", *"✓✔✅☑"]), frozenset(["no", "false", *"✗✘❌✖"])

_FRAGMENT = 8  # words of an item that is no sentence
_TOGETHER = 1000  # items whose names are told from each other


def _words(text: str) -> list[str]:
    """Words as names compare: in lower case, without the s of a plural or a genitive."""
    words = re.findall(r"\w+", text.lower())
    return [re.sub(r"(?<=\w\w[^\Ws])s\Z", "", word) for word in words]


_UNNAMED = frozenset(
    _words(
        "a an and are as at be by can do does for from had has have he her his how if in into is it its may "
        "no not of on or our per she so than that the their there they this to up was we were what when "
        "where which who will with yes you your"
    )
)


class Names:
    """What the rows or columns of a table are called, or the items of lists: which of them a claim names."""

    def __init__(self, names: Iterable[str] = ()):
        self.count = 0
        self._whole: dict[str, list[int]] = {}
        self._owner: dict[str, int | None] = {}  # whose a word is; None: of several
        self._alike: dict[str, list[str]] = {}  # words by their first letters
        for name in names:
            self.add(name)

    def add(self, name: str) -> int:
        """Takes one more; its number."""
        number, self.count = self.count, self.count + 1
        words = _words(name)[:_FRAGMENT]
        self._whole.setdefault(" ".join(words), []).append(number)
        for word in set(words) - _UNNAMED:
            if word not in self._owner and len(word) > 2 and word.isalpha():
                self._alike.setdefault(word[:4], []).append(word)
            self._owner[word] = number if self._owner.get(word, number) == number else None
        return number

    def named(self, text: str) -> set[int]:
        """Those that a text names: as a whole, or by a word that no other has, or that begins like it."""
        words, at = _words(text), 0
        found: set[int] = set()
        while at < len(words):
            for size in range(min(_FRAGMENT, len(words) - at), 0, -1):
                whole = self._whole.get(" ".join(words[at : at + size]), [])
                if whole and (size > 1 or words[at] not in _UNNAMED):
                    found.update(whole)
                    at += size
                    break
            else:
                found |= self._by_word(words[at])
                at += 1
        return found

    def _by_word(self, word: str) -> set[int]:
        if word in _UNNAMED:
            return set()
        near = [*self._alike.get(word[:4], ()), *(self._alike.get(word[:3], ()) if len(word) > 3 else ())]
        words = [word] if word in self._owner else [one for one in near if _alike(word, one)]
        return {owner for one in words if (owner := self._owner[one]) is not None}


@dataclass(frozen=True)
class Statement:
    """What a source says at one place.

    Attributes:
        span (`tuple[int, int]`): Where it stands: a sentence, an item, or the row that a cell is in.
        text (`str`): What is encoded.
        places (`tuple[tuple[int, int], ...]`): Where the words of it stand, those of a header or heading too.
        group (`int`): Statements of one group make passages together: prose, a list, the cells of a row.
        alone (`bool`): Whether it says anything by itself; a heading or a lead-in does not.
        names (`tuple[tuple[Names, int], ...]`): What it is of, among others: a row, a column, a table with
            the same columns as others, an item.
    """

    span: Span
    text: str
    places: tuple[Span, ...]
    group: int = 0
    alone: bool = True
    names: tuple[tuple[Names, int], ...] = ()


@dataclass
class _Element:
    """A part of a source; `kind`: "prose", "heading", "item", "table".

    `level`: depth of a heading or item. `rows` of a table: where each stands, and its cells; the first one is
    the header if there is one (`headed`).
    """

    kind: str
    span: Span
    level: int = 0
    rows: list[tuple[Span, list[Span]]] = field(default_factory=list)
    headed: bool = True


def statements(text: str) -> Iterator[Statement]:
    """What a source says, in its order.

    Every character of prose that is no white space and no mark-up is in exactly one statement; a row of a
    table has one for each of its values.

    Args:
        text (`str`): Of any length; it is read as its statements are asked for.
    """
    before: list[Statement] = []  # headings, until something is said
    said = False
    for one in _read(text):
        before.append(one)
        if said or one.alone:
            yield from before
            before, said = [], True
    if not said:  # nothing but headings, or nothing but mark-up
        end = len(text.rstrip())
        span = (min(end, len(text) - len(text.lstrip())), end)
        before = before or [Statement(span, text[slice(*span)], (span,))] * bool(text.strip())
        yield from (replace(one, alone=True) for one in before)


def _read(text: str) -> Iterator[Statement]:
    group = 0
    before = ""  # the kind of the element before
    headings: list[tuple[int, str, Span]] = []
    above: list[tuple[int, str, Span]] = []  # of an item: a lead-in, and the items that it is nested in
    names = Names()
    tables: dict[tuple[str, ...], Names] = {}  # by columns: what stands above those that have the same ones
    elements = _elements(text)
    element = next(elements, None)
    while element is not None:
        following = next(elements, None)
        kind, span = element.kind, element.span
        if kind == "item":
            above = [one for one in above if one[0] < element.level]
            kind = "item" if headings or above else "prose"
        if kind == "prose":
            group += before in ("item", "table")
            count, last = 0, None
            for sentence in _sentences(text, span, group):
                if last:
                    yield last
                last, count = sentence, count + 1
            if not last:  # tags alone
                element = following
                continue
            above = []
            if following and following.kind in ("item", "table") and _LEADS_IN.search(last.text):
                level = element.level if element.kind == "item" else _indent(text, last.span[0])
                above = [(level, last.text, last.span)]
                last = replace(last, alone=False)
            yield last
            if count > 1 or not above:
                names = Names()
        elif kind == "heading":
            sign = shown(text, span)
            headings = [one for one in headings if one[0] < element.level]
            above = []
            if sign:
                headings.append((element.level, sign, span))
                group += before in ("item", "table")
                # a line in bold may be a sentence
                yield Statement(span, sign, (span,), group, alone=element.level > 6 and sign[-1] != ":")
        elif kind == "item":
            group += before != "item"
            names = Names() if names.count >= _TOGETHER else names
            governing = [*headings, *above][-2:]
            first = True
            for sentence in _sentences(text, span, group):
                if first:
                    above.append((element.level, sentence.text, span))
                    sentence = _item(sentence, governing, names)
                yield sentence
                first = False
        else:
            title = " ".join(one[1] for one in [*headings, *above][-2:])
            columns = tuple(shown(text, cell) for cell in element.rows[0][1]) if element.headed else ()
            alike = tables.setdefault(columns, Names())
            about = (alike, alike.add(title))
            for statement in _cells(text, element):
                yield replace(statement, group=group + statement.group, names=(*statement.names, about))
            group += len(element.rows)
            above, names = [], Names()
        before, element = kind, following


def shown(text: str, span: Span) -> str:
    """What stands at a place, mark-up read through; the text as it is where there is none.

    So it is where it is longer than any sentence: whoever encodes it reads it part by part.
    """
    raw = text[slice(*span)]
    marked = len(raw) <= _SENTENCE and _MARKED.search(raw)
    return plain(text, span).text.translate(_SAME) if marked else raw


def _sentences(text: str, span: Span, group: int) -> Iterator[Statement]:
    start, end = span
    for a, b in split_sentences(text if span == (0, len(text)) else text[start:end]):
        place = (start + a, start + b)
        if said := shown(text, place):
            yield Statement(place, said, (place,), group)


def _item(sentence: Statement, governing: Sequence[tuple[int, str, Span]], names: Names) -> Statement:
    """An item under what governs it; one that governs others says nothing by itself."""
    said = sentence.text
    short = len(_words(said)) <= _FRAGMENT
    about = ((names, names.add(said)),) if short and said[-1] not in ".!?:" else ()
    *outer, inner = [one[1].rstrip(" :") for one in governing]
    outer = [one for one in outer if len(one) <= _WRAPPED]
    said = "".join(f"{one}: " for one in outer) + f"{inner}{'' if short else ':'} {said}"
    places = (*(one[2] for one in governing), sentence.span)
    said += "" if _ENDED.search(said) or said.endswith(":") else "."
    return Statement(sentence.span, said, places, sentence.group, not said.endswith(":"), about)


def _indent(text: str, start: int) -> int:
    """How deep an item is that begins here; -1 where none does, so that all items are below it."""
    return start - text.rfind("\n", 0, start) - 1 if _ITEM.match(text, start) else -1


def _cells(text: str, table: _Element) -> Iterator[Statement]:
    """Each value of a table, with its row and its column; those of a row are a group, numbered from 1."""
    rows = table.rows
    header = rows[0][1] if table.headed else []
    columns = [shown(text, cell).rstrip(" :") for cell in header]
    body = rows[1:] if table.headed else rows
    first = [[shown(text, cell) for cell in cells[:3]] for _, cells in body]
    key = _key(first)
    keys = [", ".join(one[at] for at in key if at < len(one) and one[at]) for one in first]
    row_names = Names(keys)
    column_names = Names("" if at in key else name for at, name in enumerate(columns))
    for number, (span, cells) in enumerate(body):
        own = tuple(cells[at] for at in key if at < len(cells))
        about, any_value = (row_names, number), False
        for at, cell in enumerate(cells):
            value = "" if at in key else shown(text, cell).rstrip(" .")
            if not re.search(r"\w", value) and value not in _YES | _NO:
                continue
            any_value = True
            name = columns[at] if at < len(columns) else ""
            said = _said(keys[number], name, value)
            if name:
                places, names = (header[at], *own, cell), (about, (column_names, at))
                yield Statement(span, said, places, number + 1, names=names)
            else:
                yield Statement(span, said, (*own, cell), number + 1, names=(about,))
        if not any_value and keys[number]:
            yield Statement(span, keys[number], own, number + 1, names=(about,))


def _said(key: str, column: str, value: str) -> str:
    """A cell in words; these were understood best of fifteen wordings that were tried."""
    if not key or not column:
        return f"{key or column}: {value}."
    if value.lower() in _YES:
        return f"{key}: {column}."
    if value.lower() in _NO:
        return f"{key}: no {column}."
    return f"The {column} of {key} is {value}."


def _key(rows: Sequence[Sequence[str]]) -> list[int]:
    """The columns that name a row: the first with letters, and more of the first three where it repeats."""
    width = max(map(len, rows))
    columns = [[row[at] if at < len(row) else "" for row in rows] for at in range(width)]
    lettered = [sum(any(map(str.isalpha, cell)) for cell in column) for column in columns]
    start = next((at for at, count in enumerate(lettered) if 2 * count >= len(rows)), 0)
    key = [start]
    for at in [start, *(at for at in range(width) if at != start)][: max(1, width - 1)]:
        key = sorted({*key, at})
        if len(set(zip(*(columns[one] for one in key), strict=True))) == len(rows):
            return key
    return [start]


def _elements(text: str) -> Iterator[_Element]:
    """The parts of a source in their order: lines, unless HTML tags lay it out."""
    at, kind, level = 0, "prose", 0
    lists = 0  # open ones
    tables, tags = 0, list[re.Match[str]]()

    def until(end: int) -> Iterator[_Element]:
        if kind == "prose":
            yield from _lines(text, at, end)
        elif span := _stripped(text, at, end):
            yield _Element(kind, span, level)

    for tag in _TAG.finditer(text) if _CLOSED.search(text) else ():
        name, step = tag[2].lower(), -1 if tag[1] else 1
        if tables or (name == "table" and step > 0):
            tables += step if name == "table" else 0
            if not tags:
                yield from until(tag.start())
                at = tag.start()
            tags.append(tag)
            if not tables:
                table = _html_table(text, tags)
                yield from [table] if table else _lines(text, at, tag.end())
                at, tags, kind = tag.end(), [], "prose"
        elif name[0] in "uolh":
            yield from until(tag.start())
            at = tag.end()
            lists = max(0, lists + step) if name[1] == "l" else lists
            kind = {"h": "heading", "l": "item"}.get(name[0], "prose") if step > 0 else "prose"
            level = int(name[1]) if name[0] == "h" else lists
    yield from until(len(text))


def _html_table(text: str, tags: Sequence[re.Match[str]]) -> _Element | None:
    """A table; `None` where one is inside of another, or it has a single column or row."""
    if sum(tag[2].lower() == "table" for tag in tags) > 2:
        return None
    rows: list[tuple[Span, list[Span]]] = []
    heads: list[int] = []  # header cells of each row
    below: dict[int, tuple[int, Span]] = {}  # by column: cells that reach into the rows that follow
    opened: re.Match[str] | None = None
    for tag in tags:
        name = tag[2].lower()
        if name == "caption":
            continue
        if opened:
            size = {axis.lower(): min(100, int(count)) for axis, count in _SPANNING.findall(opened[0])}
            cell = _stripped(text, opened.end(), tag.start()) or (opened.end(), opened.end())
            (begin, _), row = rows[-1]
            for column in range(len(row), len(row) + size.get("col", 1)):
                row.append(cell)
                heads[-1] += opened[2].lower() == "th"
                if size.get("row", 1) > 1:
                    below[column] = (size["row"] - 1, cell)
            rows[-1] = ((begin, tag.start()), row)
            opened = None
        if tag[1] and rows and name != "table":
            rows[-1] = ((rows[-1][0][0], tag.end()), rows[-1][1])
        if tag[1] or name == "table":
            continue
        if name == "tr" or not rows:
            rows.append((tag.span(), []))
            heads.append(0)
        if name != "tr":
            opened, row = tag, rows[-1][1]
            while len(row) in below:
                left, cell = below.pop(len(row))
                if left > 1:
                    below[len(row)] = (left - 1, cell)
                row.append(cell)
    filled = [(row, count) for row, count in zip(rows, heads, strict=True) if len(set(row[1])) > 1]
    if len(filled) < 1 or not tags:
        return None
    first, count = filled[0]
    width = max(len(cells) for (_, cells), _ in filled)
    named = all(_NAME.match(shown(text, cell)) for cell in first[1] if cell[0] < cell[1])
    headed = count == len(first[1]) or (not any(heads) and width > 2 and named)
    if headed and len(filled) < 2:
        return None
    return _Element(
        "table", (tags[0].start(), tags[-1].end()), rows=[row for row, _ in filled], headed=headed
    )


def _lines(text: str, start: int, end: int) -> Iterator[_Element]:
    """The parts of lines of text, or of Markdown."""
    at, prose, tried = start, start, start  # `prose`: where what is pending begins
    fresh, governed, fenced, outlined = True, False, False, False
    while at < end:
        match = _LINE.match(text, at, end)
        assert match
        line, found = match[1], list[_Element]()
        if not line.strip():
            fresh, at = True, match.end()
            continue
        if _FENCE.match(line):
            fenced, fresh, at = not fenced, True, match.end()
            continue
        if at >= tried and (fresh or "|" in line):
            table, tried = _table(text, at, end)
            found += [table] if table else []
        if not found and not fenced:
            found = _heading(text, match, end, fresh)
            if not found and (governed or outlined):
                found = list(_list(text, at, end))
        if found:
            if span := _stripped(text, prose, at):
                yield _Element("prose", span)
            yield from found
            outlined = outlined or found[0].kind == "heading"
            at = prose = max(found[-1].span[1], match.end())
            fresh, governed = True, found[-1].kind == "heading"
        else:
            fresh = governed = _LEADS_IN.search(line) is not None
            at = match.end()
    if span := _stripped(text, prose, end):
        yield _Element("prose", span)


def _heading(text: str, match: re.Match[str], end: int, fresh: bool) -> list[_Element]:
    line = match[1]
    if marks := _HEADING.match(line):
        if marks[1]:
            return [_Element("heading", match.span(1), len(marks[1]))]
        return [] if _ENDED.search(line) else [_Element("heading", match.span(1), 7)]
    under = _LINE.match(text, match.end(), end)
    if (
        fresh
        and under
        and len(line) <= 2 * _WRAPPED
        and _UNDERLINE.match(under[1])
        and not _ENDED.search(line)
    ):
        return [_Element("heading", (match.start(1), under.end(1)), 1 if under[1][0] == "=" else 2)]
    return []


def _list(text: str, start: int, end: int) -> Iterator[_Element]:
    """The items of a list that begins here, if one does; numbers count from 1."""
    at, begin, stop, depth, last = start, -1, start, 0, ""
    counts: dict[int, int] = {}  # by depth
    blank = False
    while at < end:
        match = _LINE.match(text, at, end)
        assert match
        line, at = match[1], match.end()
        if not line.strip():
            blank = True
            continue
        indent = len(line) - len(line.lstrip())
        mark = _ITEM.match(line)
        if mark and mark[2] and int(mark[2]) != counts.get(indent, 0) + 1:
            mark = None
        if mark:
            if begin >= 0:
                yield _Element("item", (begin, stop), depth)
            counts = {key: value for key, value in counts.items() if key <= indent}
            counts[indent] = counts.get(indent, 0) + 1
            begin, depth = match.start() + mark.end(), indent
        elif begin < 0 or not _goes_on(line, last, indent > depth, blank):
            break
        stop, last, blank = match.start() + len(line.rstrip()), line, False
    if begin >= 0:
        yield _Element("item", (begin, stop), depth)


def _goes_on(line: str, last: str, indented: bool, blank: bool) -> bool:
    """Whether a line goes on with the item of the line before."""
    if _FENCE.match(line) or _HEADING.match(line):
        return False
    wrapped = len(last) >= _WRAPPED and not _ENDED.search(last) and not _LEADS_IN.search(last)
    return indented or (not blank and (wrapped or line.lstrip()[0].islower()))


def _table(text: str, start: int, end: int) -> tuple[_Element | None, int]:
    """A table that begins with this line, and where the next one may begin."""
    lines: list[re.Match[str]] = []
    at = start
    while at < end and (match := _LINE.match(text, at, end)) and ("|" in match[1] or _GRID.match(match[1])):
        lines.append(match)
        at = match.end()
    if len(lines) > 1:
        ruled = _RULE.match(lines[1][1]) and "-" in lines[1][1]
        framed = all(re.match(r"\s*[|+]", line[1]) and re.search(r"[|+]\s*\Z", line[1]) for line in lines)
        rows = [line for line in lines if not _GRID.match(line[1]) and not _RULE.match(line[1])]
        cells = [_piped(line) for line in rows]
        widths = {len(one) for one in cells}
        listed = (ruled and len(rows) > 1) or (framed and len(rows) > 2 and len(widths) == 1)
        if listed and len(cells[0]) > 1:
            found = [(line.span(1), one) for line, one in zip(rows, cells, strict=True)]
            return _Element("table", (start, lines[-1].end(1)), rows=found), at
        return None, at
    return _values(text, start, end)


def _piped(line: re.Match[str]) -> list[Span]:
    """The cells of a line of Markdown."""
    text, base = line[1], line.start(1)
    stops = [match.start() for match in _PIPE.finditer(text)]
    bounds = [-1, *stops, len(text)]
    cells = [(a + 1, b) for a, b in pairwise(bounds)]
    cells = cells[not text[slice(*cells[0])].strip() :]
    if cells and not text[slice(*cells[-1])].strip():
        del cells[-1]
    return [_shifted(text, cell, base) for cell in cells]


def _values(text: str, start: int, end: int) -> tuple[_Element | None, int]:
    """Lines of values under a header, all lines until a blank one; and where the next may begin."""
    first = _LINE.match(text, start, end)
    assert first
    for sign in "\t;,":
        header = _separated(first, sign)
        names = [text[slice(*cell)] for cell in header]
        plainly = [name for name in names if not _YEAR.match(name)]
        if len(names) < 2 or names[0] not in plainly or len(set(names)) < len(names):
            continue
        plainly = plainly if plainly[0] else plainly[1:]  # nothing stands above what names the rows
        if not all(_NAME.match(name) and not _NUMBER.match(name) for name in plainly):
            continue
        rows, at = [(first.span(1), header)], first.end()
        while (
            at < end
            and (line := _LINE.match(text, at, end))
            and line[1].strip()
            and not _FENCE.match(line[1])
        ):
            cells = _separated(line, sign)
            if len(cells) != len(header) or any(b - a > _LONG for a, b in cells):
                break
            rows.append((line.span(1), cells))
            at = line.end()
        else:
            if len(rows) > 2 and _are_values(text, rows, names, sign):
                return _Element("table", (start, rows[-1][0][1]), rows=rows), at
    return None, start + 1


def _are_values(text: str, rows: Sequence[tuple[Span, list[Span]]], names: Sequence[str], sign: str) -> bool:
    """Whether lines are a table, and not prose, names or code with as many commas in each line."""
    columns = list(zip(*([text[slice(*cell)] for cell in cells] for _, cells in rows[1:]), strict=True))
    if any(name in column for name, column in zip(names, columns, strict=True)):
        return False
    spaced = any(f"{sign} " in text[slice(*span)] for span, _ in rows)
    if spaced and (not names[0] or any(map(_YEAR.match, names))):
        return False
    if any(any(column) and all(_NUMBER.match(one) for one in column if one) for column in columns):
        return True
    return not spaced and not any(_ENDED.search(value) for column in columns for value in column)


def _separated(line: re.Match[str], sign: str) -> list[Span]:
    """The values of a line; none where a quote stays open."""
    text, base = line[1], line.start(1)
    found, at, start, quoted = list[Span](), 0, 0, False
    for at, one in enumerate(text + sign):
        if one == '"':
            quoted = not quoted
        elif one == sign and not quoted:
            a, b = _shifted(text, (start, at), 0)
            if b - a > 1 and text[a] == text[b - 1] == '"':
                a, b = a + 1, b - 1
            found.append((base + a, base + b))
            start = at + 1
    return [] if quoted else found


def _shifted(text: str, span: Span, by: int) -> Span:
    start, end = _stripped(text, *span) or (span[0], span[0])
    return start + by, end + by


def _stripped(text: str, start: int, end: int) -> Span | None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return (start, end) if start < end else None


def _alike(word: str, other: str) -> bool:
    """Whether words begin alike enough: "Sat" and "Saturday", "inhabitant" and "inhabited"."""
    same = next(
        (at for at, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), min(len(word), len(other))
    )
    return same == len(other) <= 4 or same >= max(4, 0.6 * max(len(word), len(other)))
