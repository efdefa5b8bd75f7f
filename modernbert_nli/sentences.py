"""Text to sentences, as places of characters: rules alone, for any language that ends sentences by a mark.

    [text[start:end] for start, end in split_sentences(text)]

A careful guess, not a parser: no model, no list of a language's words but the English abbreviations below.
Whoever has a better splitter for their text, such as pysbd or spaCy, gives it as `splitter=` where texts are
split: any callable from a text to its sentences, as texts or as pairs of places (`placed`).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Span = tuple[int, int]
Splitter = Callable[[str], Iterable[Any]]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Followed by what they belong to, such as a name or a number: never the end.
_NEVER_LAST = _words(
    "adj adm adv asst bldg brig capt cf cmdr col cpl dr drs ens esp fig figs fr gen gov hon lt maj messrs mm "
    "mme mr mrs ms msgr mt nos op pfc ph pres prof pvt rep reps rev sec sen sens sfc sgt sr st supt vs viz "
    "approx e.g i.e al dept eq eqs ref refs ch"
)
# The end where a word follows that begins sentences more often than names.
_MAYBE_LAST = _words(
    "co corp inc ltd bros jr etc llc plc est ave blvd rd hwy jan feb mar apr jun jul aug sep sept oct nov "
    "dec mon tue wed thu fri sat sun a.m p.m ph.d b.a m.a b.sc m.sc b.c a.d no p pp vol ed eds trans"
)
_STARTERS = _words(
    "a all also although an and another any are as at because before both but by can could did do does "
    "during each even finally first for from had has have he her here his how however i if in is it its "
    "last later let many may maybe meanwhile more moreover most my next no not now of on once one only "
    "or other our perhaps please several she should since so some still such than that the their then "
    "there these they this those though thus to today tomorrow under until was we were what when where "
    "which while who whose why will with would yes yesterday yet you your"
)
# A line that ends on one of these goes on in the next.
_GOES_ON = _words(
    "a an and as at be been but by for from had has have her his if in into is its nor of on or our than "
    "that the their these this those to was were which who whose will with would your"
)
_CLOSERS = "\"'”’»›)\\]}」』）】〉》"
_WIDE = "。！？｡︒"  # no space follows
_MARKS = ".!?…‽⁇⁈⁉؟۔।॥։።፧။។᙮՜՞" + _WIDE
_END = re.compile(
    rf"(?P<marks>[{_MARKS}](?:[{_MARKS}]|[ \u00a0](?=[.…]))*)(?P<closers>[{_CLOSERS}]*)"
    r"|(?P<break>[^\S\r\n]*(?:\r\n|[\n\r\x0b\x0c\x85\u2028\u2029])\s*)"
    r"|(?P<item>(?<=\s)(?=[•⁃▪◦●‣]|\(?\d{1,2}\.?\)\s+\w))"
)
_WORD_BEFORE = re.compile(r"[^\s\"'“”‘’«»()\[\]{}]*\Z")
_LIST_MARK = re.compile(r"\s*[•⁃▪◦●‣*-]?\s*\(?(?:\d{1,2}|[a-zA-Z]|[ivx]{1,4}|[IVX]{1,4})\.?\)?\Z")
_OPENERS = re.compile(r"[\s\"'“”‘’«»‹›(\[{¿¡「『（—–-]*")
_WRAPPED = 40  # characters from which a line may have been broken by its width
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
            if match["break"].count("\n") > 1 or not _goes_on(text, max(line, begin), match, cased):
                found = match.span()
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
    """Where the number begins of a list's item on the same line as the one before it: "1. one 2. two"."""
    if match["marks"] != "." or match["closers"] or not text[match.end() : match.end() + 1].isspace():
        return None
    before = text[max(line, match.start() - _LOOK) : match.start()]
    number = re.search(r"(?<=\s)(?:[•⁃▪◦●‣]\s*)?(\d{1,2}|[b-z])\Z", before)
    if number is None:
        return None
    last = number[1]
    previous = str(int(last) - 1) if last.isdigit() else chr(ord(last) - 1)
    listed = text[max(line, match.start() - 2000) : match.start()]
    if not re.search(rf"(?:^|\s|[•⁃▪◦●‣])\(?{previous}\.\s", listed):
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
    goes_on = following[0].islower() if cased else False
    if goes_on or following[0] in ",;:.…":
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


def _is_abbreviation(word: str, before: str, following: str, cased: bool) -> bool:
    name, next_word = word.lower(), re.match(r"[\w'’]*", following).group().lower()  # type: ignore[union-attr]
    starts = next_word.split("'")[0].split("’")[0] in _STARTERS
    if name in _NEVER_LAST:
        return True
    if name in ("no", "nos", "p", "pp", "vol", "fig", "ch", "art", "n°", "nº"):
        return following[0].isdigit()
    if name in _MAYBE_LAST or re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", word):  # "U.S", "e.g", "a.m"
        return not starts if cased else True
    if len(word) == 1 and word.isalpha():  # an initial, unless it is "I" at the end or the like: "vitamin C"
        return not starts if cased else word != "i"
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


def _goes_on(text: str, begin: int, match: re.Match[str], cased: bool) -> bool:
    """Whether a line was broken by its width alone."""
    before, after = (
        text[max(begin, match.start() - _LOOK) : match.start()],
        text[match.end() : match.end() + 1],
    )
    last = before[-1:]
    if not last or not after or last in _MARKS + _CLOSERS.replace("\\", "") + ":;":
        return False
    if last in ",-–—(":
        return last != "-" or after.islower()
    words = before.split()
    if cased and after.islower():
        return len(before) >= _WRAPPED or match["break"][0] in " \t"
    return len(before) >= _WRAPPED and words[-1].lower() in _GOES_ON


def _is_next_item(text: str, line: int, place: int) -> bool:
    """Whether an item follows another on the same line: "1) one 2) two", or a bullet."""
    number = re.match(r"\(?(\d{1,2})", text[place : place + 4])
    if number is None:
        return True
    previous = int(number.group(1)) - 1
    return re.search(rf"(?:^|\s)\(?{previous}\.?\)\s", text[max(line, place - 2000) : place]) is not None


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
