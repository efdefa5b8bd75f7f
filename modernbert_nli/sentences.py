"""Text to sentences, as places of characters: rules alone, for any language that ends sentences by a mark.

    [text[start:end] for start, end in split_sentences(text)]

A careful guess, not a parser: no model, no list of a language's words but the English abbreviations below.
Whoever has a better splitter for their text, such as pysbd or spaCy, gives it as `splitter=` where texts are
split: any callable from a text to its sentences, as texts or as pairs of places (`placed`).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .markup import ATTRIBUTES, BLOCK_TAGS, INLINE_TAGS, Span

Splitter = Callable[[str], Iterable[Any]]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Followed by what they belong to, such as a name or a number: never the end.
_NEVER_LAST = _words(
    "adj adm adv asst bldg brig capt cf cmdr col cpl dr drs ens esp fig figs fr gen gov hon lt maj messrs mm "
    "mme mr mrs ms msgr mt nos op pfc ph pres prof pvt rep reps rev sec sen sens sfc sgt sr st supt vs viz "
    "approx e.g i.e dept eq eqs ref refs ch"
)
# The end where a word follows that begins sentences more often than names.
_MAYBE_LAST = _words(
    "co corp inc ltd bros jr etc llc plc est ave blvd rd hwy jan feb mar apr jun jul aug sep sept oct nov "
    "dec mon tue wed thu fri sat sun a.m p.m ph.d b.a m.a b.sc m.sc b.c a.d p pp vol ed eds trans al"
)
_DATES = _words("jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun")
# What follows an hour: "9 a.m. EST".
_OF_HOURS = _words(
    "est edt cst cdt mst mdt pst pdt gmt utc bst cet cest eastern central mountain pacific mr mrs ms dr prof "
    "monday tuesday wednesday thursday friday saturday sunday january february march april june july august "
    "september october november december"
)
# What a single letter is the name of, not an initial: "vitamin C".
_LETTERED = _words(
    "annex appendix block building category class division drug exhibit gate grade group hall hepatitis "
    "influenza lane level line model option part phase plan platform point room schedule section series size "
    "step team terminal tier type unit variant version vitamin vitamins wing zone"
)
_STARTERS = _words(
    "a all also although an and another any anybody anyone are as at because before both but by can could "
    "did do does during each even everybody everyone everything finally first for from had has have he "
    "her here his how however i if in is it its last later let many may maybe meanwhile more moreover "
    "most my neither never next no nobody none not nothing now of on once one only or other our perhaps "
    "please several she should since so some somebody someone something still such than that the their "
    "then there these they this those though thus to today tomorrow under until was we were what when "
    "where which while who whose why will with would yes yesterday yet you your"
)
# A line that ends on one of these goes on in the next, also where that begins with a capital.
_GOES_ON = _words(
    "a an and as at be been but by for from had has have her his if in into is its nor of on or our than "
    "that the their these this those to was were which who whose will with would your"
)
_CANNOT_END = _words(  # not even a heading
    "a an and as because by cannot every from her his its my neither nobody none nor of or our such than the "
    "their very whose your no not never without"
)
_WIDE = "。！？｡︒"  # no space follows
_MARKS = ".!?…‽⁇⁈⁉؟۔।॥։።፧။។᙮՜՞" + _WIDE
# After a mark: quotes and brackets that close, mark-up, references.
_CLOSERS = (
    r"(?:(?:[\"'”’“‘»›«‹)\]}」』）】〉》*_`~]|[ \u00a0\u202f][»›](?=\s|\Z)"
    rf"|</(?:{INLINE_TAGS})\s*>|<sup{ATTRIBUTES}>[^<>\n]{{1,12}}</sup>)*"
    r"(?:[^\S\r\n]?(?:\[\^?\d{1,3}(?:[ ,;–-]+\d{1,3})*\](?!\()|【[^【】\n]{1,40}】)(?=\W|\Z)"
    r"|\(\d{1,2}\)(?=\s|\Z)|[¹²³⁰⁴-⁹†‡]+)*)"
)
_END = re.compile(
    rf"(?P<marks>[{_MARKS}](?:[{_MARKS}]|[ \u00a0](?=[.…]))*)(?P<closers>{_CLOSERS})"
    r"|(?P<break>(?<![^\S\r\n])[^\S\r\n]*(?:\r\n|[\n\r\x0b\x0c\x85\u2028\u2029])\s*)"
    r"|(?P<item>(?<=\s)(?=[•⁃▪◦●‣]|\(?\d{1,2}\.?\)\s+\w))"
    rf"|(?P<tags>(?:</?(?:{BLOCK_TAGS}){ATTRIBUTES}>\s*)+)",
    re.IGNORECASE,
)
_WORD_BEFORE = re.compile(r"[^\s\"'“”‘’«»()\[\]{}]*\Z")
_LIST_MARK = re.compile(
    r"\s*[•⁃▪◦●‣*_-]*\s*\(?(?:\d{1,2}|[a-zA-Z]|[ivx]{1,4}|[IVX]{1,4})\.?\)?\Z|\s*(?:[•⁃▪◦●‣*-]|#{1,6})\s*\Z"
)
_OPENERS = re.compile(r"[\s\"'“”‘’«»‹›(\[{¿¡「『（—–*_`~-]*")
_CAMEL = re.compile(r"[a-z]{1,3}[A-Z]")  # "eBay", "pH": begins sentences too
_NEW_LINE = (
    re.compile(  # what goes on from no line: marks of lists, headings, quotes, tables, rules, tags, "Name:"
        rf"[•⁃▪◦●‣>|]|[-*+–—]\s|#{{1,6}}\s|\(?(?:\d{{1,3}}|[a-z])\)\s|\d{{1,2}}\.\s+\D|`{{3}}|[-=_*]{{3,}}\s"
        rf"|[^\W\d]\w*:\s|<(?:{BLOCK_TAGS})\b|\[\^?\d{{1,3}}\]:?\s+\S|[¹²³⁰⁴-⁹]+\s",
        re.IGNORECASE,
    )
)
_HEADING = re.compile(r"\s*(?:#{1,6}\s|\||`{3})|\s*(\*\*|__).*\1:?\Z|.*[-=_*]{3,}\Z")
_STOPPED = re.compile(r"(?<!\s\d)(?<!\s\d\d)[.!?…]+[\"'”’»)\]*_]*(?:\s|\Z)|[。！？]")
_PARAGRAPH = re.compile(r"(?:\r\n|[\n\r\x0b\x0c\x85\u2028\u2029])\s*?[\n\r\x0b\x0c\x85\u2028\u2029]")
_OPENS = re.compile(r"<(?!/|[bh]r\b)", re.IGNORECASE)
_WRAPPED = 40  # characters from which a line may have been broken by its width, whatever the others have
_WIDEST = 160  # no line is broken by its width from here on
_LOOK = 120  # characters that are looked at on either side


def split_sentences(text: str) -> Iterator[Span]:
    """Where each sentence of a text begins and ends, without the white space around it.

    Every character that is no white space is in exactly one of them, in order. Sentences end at a mark such
    as ".", "?", "…" or "。" with the quotes and brackets that close after it, and at a line break unless the
    line goes on; not at an abbreviation, an initial, a decimal, the number of a list's item, or where the
    text goes on in lower case (unless all of it is).

    Args:
        text (`str`): Of any length; it is read as its sentences are asked for.
    """
    cased = _has_capitals(text)
    start = 0
    for end, following in _ends(text, cased):
        if span := _stripped(text, start, end):
            yield span
        start = following
    if span := _stripped(text, start, len(text)):
        yield span


def placed(text: str, sentences: Iterable[Any]) -> Iterator[Span]:
    """What any splitter returned, as places.

    Args:
        text (`str`): What was split.
        sentences (`Iterable`): Its sentences in their order: texts, `(start, end)`, or objects with
            `start_char` and `end_char` (spaCy) or `start` and `end` (pysbd with `char_span=True`).

    Raises:
        ValueError: one that is not in the text, or none of these.
    """
    place = 0
    for sentence in sentences:
        if isinstance(sentence, str):
            if not sentence.strip():
                continue
            start = text.find(sentence, place)
            if start < 0 and (sentence := sentence.strip()):
                start = text.find(sentence, place)
            span = (start, start + len(sentence))
        elif hasattr(sentence, "start_char"):
            span = (sentence.start_char, sentence.end_char)
        elif hasattr(sentence, "start"):
            span = (sentence.start, sentence.end)
        else:
            span = tuple(sentence)
        if len(span) != 2 or not place <= span[0] <= span[1] <= len(text):
            raise ValueError(
                f"The splitter's sentence {str(sentence)[:60]!r} is not in the text after character {place}: "
                "it must return the sentences in their order, as they stand in the text, or their places."
            )
        place = span[1]
        if stripped := _stripped(text, *span):
            yield stripped


def _ends(text: str, cased: bool) -> Iterator[Span]:
    """Where sentences end, and where the next may begin."""
    line = begin = 0  # where the current line and sentence begin
    for match in _END.finditer(text):
        found = None
        if match["break"] is not None:
            if _PARAGRAPH.match(match["break"].lstrip(" \t")) or not _goes_on(text, line, match, cased):
                found = match.span()
            line = match.end()
        elif (
            match["tags"] is not None
        ):  # those that close belong to what is before, those that open to the rest
            opening = _OPENS.search(text, *match.span())
            place = opening.start() if opening else match.end()
            found = (place, place) if place > begin else None
            line = match.end()
        elif match["item"] is not None:
            if match.start() > begin and _is_next_item(text, line, match.start()):
                found = match.start(), match.start()
        elif item := _item_before(text, line, match):
            found = (item, item) if item > begin else None
        elif _is_end(text, max(line, begin), match, cased):
            found = match.end(), match.end()
        if found:
            yield found
            begin = found[1]


def _item_before(text: str, line: int, match: re.Match[str]) -> int | None:
    """Where the number begins of a list's item on the same line as what is before: "1. one 2. two"."""
    if (
        match["marks"] != "."
        or match["closers"].strip("*_")
        or not text[match.end() : match.end() + 1].isspace()
    ):
        return None
    before = text[max(line, match.start() - _LOOK) : match.start()]
    number = re.search(r"(?<=\s)(?:[•⁃▪◦●‣]\s*)?[*_]{0,2}(\d{1,2}|[a-z])\Z", before)
    if number is None:
        return None
    last = number[1]
    if last in ("1", "a"):
        return match.start() - len(number[0]) if before[: number.start()].rstrip().endswith(":") else None
    previous = str(int(last) - 1) if last.isdigit() else chr(ord(last) - 1)
    listed = " " + text[max(line, match.start() - 2000) : match.start()]
    at = listed.rfind(f"{previous}.")  # "1. one 2": the place of "1."
    after = listed[at + len(previous) + 1 :].lstrip("*_")
    if at < 1 or listed[at - 1] not in " \t\u00a0(*_•⁃▪◦●‣" or not after[:1].isspace():
        return None
    return match.start() - len(number[0])


def _is_end(text: str, begin: int, match: re.Match[str], cased: bool) -> bool:
    marks, end = match["marks"], match.end()
    if end == len(text):
        return True
    wide = marks[-1] in _WIDE
    after = text[end : end + _LOOK]
    if not after[0].isspace():
        # "…」と" goes on after its quote; "end.The" lost its space
        return (wide and not match["closers"]) or _lost_space(text, match, after)
    following = after[_OPENERS.match(after).end() :]  # type: ignore[union-attr]
    if not following:
        return True
    if wide:
        return True
    if _is_lower(following, cased) or following[0] in ",;:.…":
        return False
    if text[match.start() - 1 : match.start()] == "[" and match["closers"].startswith("]"):
        return False  # "[...]"
    if marks != ".":
        # an omission in the middle of a sentence is followed by lower case, which has been seen to
        return True
    before = text[max(begin, match.start() - _LOOK) : match.start()]
    if not before or before[-1].isspace():  # a stop by itself, as tokenised text has it
        return bool(before.strip())
    if _LIST_MARK.match(before):
        return False
    word = _WORD_BEFORE.search(before).group()  # type: ignore[union-attr]
    return not _is_abbreviation(word, before, following, cased)


def _is_lower(following: str, cased: bool) -> bool:
    """Whether what follows goes on in lower case, which is not the beginning of a sentence."""
    return cased and following[:1].islower() and not _CAMEL.match(following)


def _is_abbreviation(word: str, before: str, following: str, cased: bool) -> bool:
    name, next_word = word.lower(), re.match(r"[\w'’]*", following).group().lower()  # type: ignore[union-attr]
    starts = next_word.split("'")[0].split("’")[0] in _STARTERS
    words = before[: len(before) - len(word)].split()
    previous = words[-1] if words else ""
    if name in _NEVER_LAST:
        return not (name in ("mm", "ms", "sec") and previous[-1:].isdigit())
    if name in ("no", "nos", "p", "pp", "vol", "art", "n°", "nº"):
        return following[0].isdigit()
    if cased and name in ("a.m", "p.m"):
        return next_word in _OF_HOURS or (not starts and (len(words) < 3 or not following[0].isupper()))
    if (
        cased
        and name in _DATES
        and (
            not word[0].isupper()
            or (re.match(r"\d{1,2}(?:st|nd|rd|th)?\Z", previous) and following[0].isalpha())
        )
    ):
        return False
    if name in _MAYBE_LAST or re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", word):  # "U.S", "e.g", "a.m"
        return not starts if cased else True
    if len(word) == 1 and word.isalpha():  # an initial, unless it is "I" at the end or the like: "vitamin C"
        return not starts and previous.lower() not in _LETTERED if cased else word != "i"
    return False


def _lost_space(text: str, match: re.Match[str], after: str) -> bool:
    """Whether a sentence begins right after the mark: "end.The next"; but not "Node.Js" and "U.S.A"."""
    before = text[max(0, match.start() - _LOOK) : match.start()]
    word = _WORD_BEFORE.search(before).group()  # type: ignore[union-attr]
    next_word = re.match(r"[A-Z][a-z]*(?=[\s,'’])", after)
    if next_word is None:
        return False
    likely = next_word.group().lower() in _STARTERS
    return (word.islower() and len(word) > 1) or (likely and word[-1:].isalnum() and len(word) > 1)


def _goes_on(text: str, line: int, match: re.Match[str], cased: bool) -> bool:
    """Whether a line was broken by its width alone: it goes on in the next."""
    before = text[max(line, match.start() - _LOOK) : match.start()]
    after = text[match.end() : match.end() + _LOOK]
    if after.startswith("</"):
        return True
    if not before.strip() or not after or _NEW_LINE.match(after) or _HEADING.match(before):
        return False
    if _LIST_MARK.match(before) and match.start() - line == len(before):
        return True  # "1." by itself
    following = after[_OPENERS.match(after).end() :]  # type: ignore[union-attr]
    lower = _is_lower(following, cased)
    bare = before.rstrip("\"'”’»)]*_`")
    last = bare[-1:]
    if last in _MARKS:
        if last != ".":
            return lower and (last == "…")
        word = _WORD_BEFORE.search(bare[:-1]).group()  # type: ignore[union-attr]
        if not following or not _is_abbreviation(word, bare[:-1], following, cased):
            return False
        return lower or word.lower() in _NEVER_LAST or _is_full(text, line, match)
    if before[-1] in ",–—(\u00ad":
        return True
    if before[-1] in "-\u2010":
        return following[:1].isalnum() and (lower or not before[-2:-1].isspace())
    if before[-1] in ":;":
        return False
    word = re.search(r"[\w'’]*\Z", bare).group()  # type: ignore[union-attr]
    if word not in ("A", "I", "No") and word.lower() in _CANNOT_END:
        return True
    function, wide = word.lower() in _GOES_ON, match.start() - line >= _WRAPPED
    if lower:
        return function or wide or _stops(text, match.end())
    first = re.match(r"[\w'’]*", following).group()  # type: ignore[union-attr]
    if cased and first.lower() in _STARTERS:
        return function and wide
    return function or (_is_full(text, line, match) and _stops(text, match.end()))


def _stops(text: str, place: int) -> bool:
    """Whether a sentence soon ends by a mark in what follows, before the paragraph does."""
    ahead = " " + text[place : place + 3 * _LOOK]
    paragraph = _PARAGRAPH.search(ahead)
    return _STOPPED.search(ahead, 0, paragraph.start() if paragraph else len(ahead)) is not None


def _is_full(text: str, line: int, match: re.Match[str]) -> bool:
    """Whether the first word of the next line did not fit into this one, by the width of the lines around."""
    behind, ahead = text[max(0, line - 3 * _LOOK) : line], text[match.end() : match.end() + 3 * _LOOK]
    width = match.start() - line
    lines = [*behind.split("\n\n")[-1].splitlines()[-3:], *ahead.split("\n\n")[0].splitlines()[:3]]
    widest = max(width, *(len(one.strip()) for one in lines), 0)
    word = re.match(r"\S*", ahead).group()  # type: ignore[union-attr]
    return width < _WIDEST and width + 1 + len(word) > 0.85 * min(widest, _WIDEST)


def _is_next_item(text: str, line: int, place: int) -> bool:
    """Whether an item follows another, or a colon, on the same line: "1) one 2) two", or a bullet."""
    number = re.match(r"\(?(\d{1,2})", text[place : place + 4])
    if number is None:
        return True
    previous = int(number.group(1)) - 1
    listed = text[max(line, place - 2000) : place]
    if previous == 0:
        return listed.rstrip().endswith(":")
    return re.search(rf"(?:^|\s)\(?{previous}\.?\)\s", listed) is not None


def _has_capitals(text: str) -> bool:
    """Whether the text writes capitals at all: without them, lower case begins sentences too."""
    found = re.search(r"[A-ZÀ-ÖØ-ÞΑ-ΩА-Я]", text[:1_000_000])
    return found is not None


def _stripped(text: str, start: int, end: int) -> Span | None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return (start, end) if start < end else None
