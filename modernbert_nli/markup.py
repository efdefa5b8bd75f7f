"""Text with inline mark-up to plain text, each character with its place in the text as given.

    plain("The **library** opens at 9&nbsp;a.m.").text == "The library opens at 9 a.m."

Read through are Markdown's emphasis, code and links, HTML tags and entities, marks at the beginning of a
line, line breaks, and words hyphenated at a line end. What only looks like mark-up stays:
`snake_case_names`, `2 * 3 * 4`, `x<y and y>z`, `#1`, `C#`. Time is linear in the length of the text.
"""

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Span = tuple[int, int]
Edit = tuple[int, int, str]  # the characters from the first place to before the second become a text

_BREAK = r"(?:\r\n|[\n\r\x0b\x0c\x85\u2028\u2029])"
BLOCK_TAGS = (
    "address|article|aside|blockquote|body|br|caption|center|dd|details|div|dl|dt|figcaption|figure|footer|"
    "form|h[1-6]|head|header|hr|html|li|main|nav|ol|option|p|pre|section|summary|table|tbody|td|tfoot|th|"
    "thead|title|tr|ul"
)
INLINE_TAGS = (
    "a|abbr|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|img|ins|kbd|label|mark|q|s|samp|small|span|strike|"
    "strong|sub|sup|time|tt|u|var|wbr"
)
# Without an attribute's "=", "a <b and c> d" is no tag.
ATTRIBUTES = r"(?:\s+[A-Za-z_:@][\w:.-]*\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>=]+))*\s*/?"
# What stands in the brackets of a reference: a file, an address, "Source: …", a page, "see …".
REFERENCE = (
    r"(?:(?:sources?|refs?\.?|references?|citations?)\s*:[^\[\]()]{1,100}|citation needed|sources?"
    r"|(?:see|cf\.)\s+(?:also\s+)?(?:p|pp|pages?|sections?|sec|chapters?|ch|fig|figures?|tables?|appendix|sources?"
    r"|doc|documents?|notes?|above|below)\b[^\[\]()]{0,40}"
    r"|(?:pp?|pages?|docs?|documents?|sources?|chunks?|passages?|contexts?|citations?|footnotes?|refs?|references?)"
    r"\.?\s*#?\d[\d,;\s–-]{0,30}"
    r"|[^\s\[\]()][^\[\]()\n]{0,60}\.(?:pdf|docx?|txt|md|html?|xlsx?|pptx?|rtf|odt|epub)\b"
    r"(?:[\s,;:#]+(?:pp?|pages?|sections?|§|chunks?|lines?)\.?\s*[\d.–-]{1,12})?"
    r"|(?:https?://|www\.)[^\s\[\]()]{1,2000})"
)
_LABEL = re.compile(rf"[\W\d_]*\Z|{REFERENCE}\Z", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")
_TOKEN = re.compile(
    r"(?P<url>\bhttps?://[^\s<>*\]`]+)"
    rf"|<sup{ATTRIBUTES}>(?P<raised>[\d+\-−]{{1,6}})</sup>"
    rf"|</?(?:(?P<block>{BLOCK_TAGS})|(?P<tag>{INLINE_TAGS})){ATTRIBUTES}>"
    r"|(?P<comment><!--[^<>]*-->)"
    r"|<(?P<address>(?:https?://|mailto:|[^\s<>@/]{1,64}@)[^\s<>]+)>"
    rf"|(?P<entity>{_ENTITY.pattern})"
    r"|(?P<escape>\\[*_#$~\[\]])"
    r"|(?P<open>!?\[)"
    r"|(?P<close>\](?P<link>\((?=[^()\s\[\]]*[/.#:@])[^()\s\[\]]*(?:\([^()\s\[\]]*\)[^()\s\[\]]*)?"
    r"(?:\s+(?:\"[^\"\n]*\"|'[^'\n]*'))?\))?)"
    r"|(?P<run>\*+|_+|~~)"
    rf"|(?P<hyphen>(?<=[^\W_])[-\u2010\u00ad][^\S\r\n]*{_BREAK}[^\S\r\n]*(?=[^\W_]))"
    r"|(?P<unseen>[\u00ad\u200b\u200e\u200f\u2060\ufeff])"
    r"|(?P<space>\s+)",
    re.IGNORECASE,
)
_CODE = re.compile(r"`+")
_LINE = re.compile(rf"[^\S\r\n]*([^\r\n\x0b\x0c\x85\u2028\u2029]*)(?:{_BREAK}|\Z)")
_NO_TEXT = re.compile(
    r"(?:`{3,}|~{3,})[^`]*\Z|(?:[-=_*]\s*){3,}\Z"
)  # a fence, a rule, what underlines a heading
_QUOTED = re.compile(r"(?:>(?!=|\s*\d)\s*)+")
_LINE_MARK = re.compile(
    r"(?:(?:[•⁃▪◦●‣·]\s*|(?:[-*]|[+–—](?!\s*\d)|#{1,6}|\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{2,4})\)"
    r"|\d{1,3}\.(?!\s*\d+\.))\s+)(?=\S)){1,2}"
)
_RAISED = str.maketrans("0123456789+-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻")
_PARAGRAPH = re.compile(rf"{_BREAK}\s*?{_BREAK}")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words beside which a hyphen at a line end stays: before it, and after it. All others are joined.
_BEFORE = _words(
    "all built cross ex far first full half high ill left long low mid near non off on one open over part "
    "post pre right second self semi short single so third twice up well two three four five six seven "
    "eight nine ten twenty thirty forty fifty sixty seventy eighty ninety"
)
_AFTER = _words(
    "aged based bound born built day driven fold free friendly known led level like made minded old only "
    "owned related round scale sized specific style term type wide year"
)
_SUSPENDED = _words("and or to")  # "pre-⏎and post-war"


@dataclass(frozen=True)
class Plain:
    """Plain text and its places.

    Attributes:
        text (`str`): What is encoded; white space is single spaces, none around it.
        places (`list[int]`): Character `i` of `text` stands at `places[i]` in the original, ascending; one
            more entry is where the last one ends.
    """

    text: str
    places: list[int]

    def without(self, spans: Iterable[Span]) -> "Plain":
        """Without some stretches of `text`, in order and apart, and white space that is left over."""
        kept: list[int] = []
        at = 0
        for start, end in (*spans, (len(self.text), len(self.text))):
            for row in range(at, start):
                if self.text[row] != " " or (kept and self.text[kept[-1]] != " "):
                    kept.append(row)
            at = max(at, end)
        if kept and self.text[kept[-1]] == " ":
            kept.pop()
        places = [self.places[row] for row in kept] + [self.places[kept[-1] + 1 if kept else -1]]
        return Plain("".join(self.text[row] for row in kept), places)

    def original(self, text: str, start: int, end: int) -> Span:
        """Where the characters from `start` to before `end` stand in the text that `plain` was given."""
        if end <= start:
            return self.places[start], self.places[start]
        last = self.places[end - 1]
        entity = _ENTITY.match(text, last)
        return self.places[start], entity.end() if entity else last + 1


def plain(text: str, span: Span | None = None) -> Plain:
    """Read a text, or a part of it, through its mark-up.

    Words that a line end hyphenates are joined ("commit-⏎tee" is "committee"). The hyphen stays, without the
    line break, beside a capital, a digit, a single letter or another hyphen, and where the word before or
    after it is one that compounds are made of ("well-⏎known").

    Args:
        text (`str`): Any text.
        span (`tuple[int, int]`, *optional*): The part that is read, such as a sentence, its beginning as that
            of a line; places are those in `text`.
    """
    start, end = span or (0, len(text))
    part = text[start:end]
    kept: list[str] = []
    places: list[int] = []
    at = stop = 0  # `stop`: where the last character that is kept ends
    edits = sorted([*_line_marks(part), *_inline(part)], key=lambda edit: (edit[0], -edit[1]))
    for first, last, new in [*edits, (len(part), len(part), "")]:
        if first < at:  # inside of what has been taken off
            continue
        if first > at:
            kept += part[at:first]
            places += range(start + at, start + first)
            stop = first
        if new != " " or (kept and kept[-1] != " "):
            kept += new
            places += [start + first] * len(new)
            stop = last if new.strip() else stop
        at = last
    if kept and kept[-1] == " ":
        kept.pop()
        places.pop()
    return Plain("".join(kept), [*places, start + stop])


def _line_marks(part: str) -> Iterator[Edit]:
    """Marks of lists, headings and quotes, and lines without text.

    A mark of a list counts on the first line, and after a line that ended or had one: "at⏎12. The" has none.
    """
    fresh = True
    for line in _LINE.finditer(part):
        shown = line[1].rstrip()
        first = line.start(1)
        if not shown or _NO_TEXT.match(shown):
            if shown:
                yield first, first + len(shown), ""
            fresh = True
            continue
        at = quote.end() if (quote := _QUOTED.match(shown)) else 0
        mark = _LINE_MARK.match(shown, at) if fresh or shown[at : at + 1] == "#" else None
        at = mark.end() if mark else at
        if at:
            yield first, first + at, ""
        if mark and "#" in mark[0] and (closing := re.search(r"(?<=\s)#+\Z", shown[at:])):
            yield first + at + closing.start(), first + len(shown), ""
        fresh = mark is not None or shown[-1] in ".!?…:;。！？>|"


def _inline(part: str) -> Iterator[Edit]:
    """Everything else that is taken off or replaced."""
    runs: dict[str, list[list[int]]] = {"*": [], "_": [], "~": []}  # what may open emphasis: start, end
    brackets: list[re.Match[str]] = []
    for match in _tokens(part):
        start, end = match.span()
        kind = match.lastgroup
        if match.re is not _TOKEN:  # around code
            yield start, end, ""
        elif kind == "space":
            yield start, end, " "
            if _PARAGRAPH.search(match[0]):
                brackets.clear()
                for stack in runs.values():
                    stack.clear()
        elif kind == "run":
            yield from _emphasis(part, match, runs)
        elif kind == "raised":
            yield start, match.start("raised"), ""
            for place, sign in enumerate(match["raised"], match.start("raised")):
                yield place, place + 1, sign.translate(_RAISED)
            yield match.end("raised"), end, ""
        elif kind == "address":
            yield start, start + 1, ""
            yield end - 1, end, ""
        elif kind == "entity":
            if (sign := html.unescape(match[0])) != match[0]:
                yield start, end, "" if sign == "\u00ad" else " " if sign.isspace() else sign
        elif kind == "escape":
            yield start, start + 1, ""
        elif kind == "hyphen":
            yield start, end, _hyphen(part, start, end)
        elif kind == "open":
            brackets.append(match)
        elif match["close"]:
            opening = brackets.pop() if brackets else None
            if opening and match["link"]:
                # "[1](…)", "[rules.pdf](…)" and what parentheses hold are references, whose brackets stay
                marks = _LABEL.match(part, opening.end(), start) is not None or (
                    part[opening.start() - 1 : opening.start()] + part[end : end + 1] == "()"
                )
                if not marks:
                    yield *opening.span(), ""
                yield start + marks, end, ""
        elif kind != "url":
            yield start, end, " " if kind == "block" else ""


def _tokens(part: str) -> Iterator[re.Match[str]]:
    """What may be mark-up, none inside of code; the signs around code are matches of `_CODE`."""
    ticks = list(_CODE.finditer(part))
    closing: dict[int, int] = {}  # by length, the next run of ticks
    after: list[int | None] = [None] * len(ticks)
    for row in range(len(ticks) - 1, -1, -1):
        length = len(ticks[row][0])
        after[row] = closing.get(length)
        closing[length] = row
    at = row = 0
    while row < len(ticks):
        other = after[row]
        # "` so '" is a quotation of tokenised text
        if (
            other is None
            or part[ticks[row].end()].isspace()
            or part[ticks[other].start() - 1].isspace()
            or _PARAGRAPH.search(part, ticks[row].end(), ticks[other].start())
        ):
            row += 1
            continue
        yield from _TOKEN.finditer(part, at, ticks[row].start())
        yield ticks[row]
        inside = _TOKEN.finditer(part, ticks[row].end(), ticks[other].start())
        yield from (match for match in inside if match.lastgroup == "space")
        yield ticks[other]
        at, row = ticks[other].end(), other + 1
    yield from _TOKEN.finditer(part, at)


def _emphasis(part: str, match: re.Match[str], runs: dict[str, list[list[int]]]) -> Iterator[Edit]:
    """The marks of what this run closes, or none: then it may open something."""
    start, end = match.span()
    sign = match[0][0]
    before, after = part[start - 1 : start], part[end : end + 1]
    stack = runs[sign]
    if before.strip() and not _in_word(after):
        while start < end and stack:
            opening = stack[-1]
            length = min(end - start, opening[1] - opening[0])
            yield opening[1] - length, opening[1], ""
            yield start, start + length, ""
            start += length
            opening[1] -= length
            if opening[0] == opening[1]:
                stack.pop()
            for other in runs.values():  # what was opened inside stays open for good
                while other and other[-1][0] > opening[0]:
                    other.pop()
    if start < end and after.strip() and after not in ")]}.,;:!?" and not _in_word(before):
        stack.append([start, end])


def _in_word(sign: str) -> bool:
    """Whether emphasis may not begin after it or end before it; scripts without spaces have it anywhere."""
    return sign.isalnum() and sign < "\u2e80"


def _hyphen(part: str, start: int, end: int) -> str:
    """What becomes of a hyphen and the line break after it."""
    before = re.search(r"[\w-]*\Z", part[max(0, start - 40) : start])[0]  # type: ignore[index]
    after = re.match(r"\w*-?", part[end : end + 40])[0]  # type: ignore[index]
    if part[start] == "\u00ad":
        return ""
    if after in _SUSPENDED:
        return "- "
    joined = (
        len(before) > 1
        and before.isalpha()
        and len(after) > 1
        and after.isalpha()
        and after.islower()
        and before.lower() not in _BEFORE
        and after not in _AFTER
    )
    return "" if joined else "-"
