"""What needs no heads: a hypothesis that the premise says word for word.

verbatim("It rains. The ferry still runs.", "the ferry still runs")  # True
level("the ferry still runs") in statements(document)  # for many claims: one look-up each
"""

import html
import re
import unicodedata
from collections.abc import Iterable

from .sentences import Span, split_sentences

# Beside NFKC: what is written in several ways, and what is not seen at all.
_SAME = str.maketrans(
    dict.fromkeys("‘’‚‛′`´", "'")
    | dict.fromkeys("“”„‟″«»", '"')
    | dict.fromkeys("‐‑‒–—―−", "-")
    | dict.fromkeys("\u00ad\u200b\u2060\ufeff\ufe0e\ufe0f")
    | {"。": ".", "｡": ".", "…": "..."}
)
_KEPT = ("<super>", "<sub>", "<fraction>")  # by NFKC 10² would be 102, and 1½ be 11/2
_NO_LETTERS = dict.fromkeys(place for place in range(128) if not chr(place).isalnum())
_LIST_MARK = re.compile(r"(?:[•⁃▪◦●‣*+-]|\(?\d{1,2}[.)]|\([a-z]\))\s+(?=[^\W\d])")
# Case tells units apart (mW, MW), and abbreviations from words (US, us).
_CASED = re.compile(r"(?P<unit>(?<=\d)\s?[^\W\d_]{1,3}\b)|(?P<capitals>\b(?:[A-Z]\.?){2,}(?!\w))|\w+")
_CLOCK = re.compile(r"(?<=\d)\s?([ap])\.?\s?m\b\.?", re.IGNORECASE)
_BEFORE_MARK = re.compile(r"\s+(?=[,;:.!?%)](?!\d))")
_QUOTED = re.compile(
    r"(?<!\d)\"[^\"]*\"?|“[^”]*”?|«[^»]*»?|„[^“”]*[“”]?|(?<![\w'’])['‘](?=\w)[^'‘’]*[.!?,]['’]"
)
_ENDED = re.compile(r"[.!?…‽。！？｡؟।॥።։][\"'”’»)\]]*\Z")
_BLANK = re.compile(r"\n\s*\n|\u2029")


def level(text: str) -> str:
    """A sentence as sentences compare: Unicode, entities, case, white space, quotes and stops levelled.

    Empty for a text that is nothing but these.
    """
    text = html.unescape(text)
    if not text.isascii():
        normal = unicodedata.normalize("NFC", text.translate(_SAME))
        text = "".join(
            one if unicodedata.decomposition(one).startswith(_KEPT) else unicodedata.normalize("NFKC", one)
            for one in normal
        )
    text = " ".join(text.translate(_SAME).split())
    text = _CLOCK.sub(r" \1m", _LIST_MARK.sub("", text, count=1) if _LIST_MARK.match(text) else text)
    shouted = not any(one.islower() for one in text)

    def folded(word: re.Match[str]) -> str:
        kept = word["unit"] or (word["capitals"] and not shouted)
        return word[0] if kept and word[0].strip().lower() not in ("am", "pm") else word[0].casefold()

    return _BEFORE_MARK.sub("", _CASED.sub(folded, text)).rstrip(".! ")


def is_question(levelled: str) -> bool:
    """Whether a levelled text asks, and so states nothing."""
    return levelled.rstrip("\"')]»”’ .!").endswith(("?", "؟", "‽"))


def statements(text: str, spans: Iterable[Span] | None = None) -> dict[str, Span]:
    """The sentences that a text states as its own: each levelled, and where it stands first.

    Left out are questions, what stands inside quotes or is listed after a colon, and what a line break alone
    cuts off: "No⏎leaks were found." does not state its second line.

    Args:
        text (`str`): A document.
        spans (`Iterable[Span]`, *optional*): Its sentences; by default as `split_sentences` finds them.
    """
    found: dict[str, Span] = {}
    quotes = [match.span() for match in _QUOTED.finditer(text)]
    places = list(split_sentences(text) if spans is None else spans)
    before, quote, listed, certain = 0, 0, False, True
    for (start, end), (following, _) in zip(places, [*places[1:], (len(text), 0)], strict=True):
        while quote < len(quotes) and quotes[quote][1] <= start:
            quote += 1
        quoted = quote < len(quotes) and quotes[quote][0] < start
        item = _LIST_MARK.match(text, start) is not None
        if text[:before].endswith(":"):
            listed = before > 0
        elif not item and _BLANK.search(text, before, start):
            listed = False
        begins, certain = certain, _is_boundary(text, end, following)
        if begins and certain and not quoted and not listed:
            levelled = level(text[start:end])
            if levelled and not is_question(levelled):
                found.setdefault(levelled, (start, end))
        before = end
    return found


def _is_boundary(text: str, end: int, following: int) -> bool:
    """Whether one sentence certainly ends at a place and another begins where the following one does."""
    gap = text[end:following]
    return (
        following >= len(text)
        or _ENDED.search(text, max(0, end - 8), end) is not None
        or _BLANK.search(gap) is not None
        or _LIST_MARK.match(text, following) is not None
        or (not gap.strip("\t ")
        and "\n" not in gap)
    )


def _letters(text: str) -> str:
    return text.lower().translate(_NO_LETTERS)


def verbatim(premise: str, hypothesis: str) -> bool:
    """Whether the hypothesis is all of the premise or one of its sentences, but for what `level` levels.

    A question is never, nor is a part of a sentence: see `statements`.
    """
    plain = premise.isascii() and hypothesis.isascii() and "&" not in premise + hypothesis
    if plain and _letters(_LIST_MARK.sub("", hypothesis.lstrip(), count=1)) not in _letters(premise):
        return False  # as nearly all pairs, for a few microseconds
    said, whole = level(hypothesis), level(premise)
    if not said or is_question(said):
        return False
    return said == whole or (said in whole and said in statements(premise))
