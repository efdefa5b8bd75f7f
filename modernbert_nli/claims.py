"""An answer's sentences told into claims, which are judged, and what is none: greetings, questions, headings.

    [(part.kind, part.plain.text) for part in read_parts(answer, split_sentences(answer))]

General rules, made so that no sentence that carries a fact is dropped: what is no claim has to match as a
whole, so that "Sure, the library opens at nine." is one. What stands around a claim is taken off it: mark-up,
the mark of a list, references such as "[1]", and openings such as "According to the text,".
"""

import re
from bisect import bisect
from collections.abc import Iterable
from dataclasses import dataclass, replace

from .markup import REFERENCE, Plain, Span, plain

CLAIM, ABOUT_SOURCE = "claim", "about the source"


@dataclass(frozen=True)
class Part:
    """A sentence of an answer.

    Attributes:
        span (`tuple[int, int]`): Where it stands.
        kind (`str`): "claim"; "about the source", a claim that the source does not say something; or no
            claim: "filler", "question", "lead-in", "heading", "reference", "code".
        plain (`Plain`): What is left of it when all that is no part of the claim is taken off.
    """

    span: Span
    kind: str
    plain: Plain

    @property
    def judged(self) -> bool:
        return self.kind in (CLAIM, ABOUT_SOURCE)


_NUMBERS = r"\^?[1-9]\d{0,2}(?:\s*[,;–—-]\s*\^?[1-9]\d{0,2})*"
_CITED = rf"{REFERENCE}(?:[,;\s]+{REFERENCE}){{0,6}}"
_REFERENCES = re.compile(
    rf"(?P<brackets>\s*\^?\[{{1,2}}(?:{_NUMBERS}|{_CITED})\]{{1,2}}\^?)|\s*\{{[1-9]\d?\}}"
    r"|\s*\[(?:[A-Z]{1,3}-?\d{1,3}(?:,\s*pp?\.\s*\d+)?|§+\s*[\d.]+|[a-z](?=\](?:[.,;:!?]|\Z)))\]"
    rf"|\s*\((?:{_CITED}|\[[^\[\]()]{{1,80}}\]|[A-Z][\w'’-]+ et al\.,? \d{{4}}[a-z]?"
    rf"|\[{_NUMBERS}\](?:[\s,;]*\[{_NUMBERS}\])*)\)"
    r"|\s*【[^【】]{0,60}[\d†][^【】]{0,60}】"
    r"|(?P<number>\s*\((?:[1-9]|1\d|20)\)(?=[\s.,;:!?)]|\Z))"
    r"|(?P<raised>(?<=[^\W\d])[¹²³⁰⁴-⁹]+(?:[,⁻–][¹²³⁰⁴-⁹]+)*)|(?<=[.,;:!?)\]\"'”’»%])[¹²³⁰⁴-⁹]+"
    r"|(?<=[\w.,;:!?)\]\"'”’»%])[†‡]+(?![\w\s]*\d)",
    re.IGNORECASE,
)
_UNITS = frozenset(["mile", "miles", "foot", "feet", "inch", "yard", "yd", "sec", "min", "acre", "mol"])
_IN_INTERVAL = re.compile(
    r"(?:\b(?:in|between|interval|range|from|of|to|is|are)|[=∈:≤<(])\s*\Z", re.IGNORECASE
)

# Who says nothing: the source under a name that only a source has, or under any.
_WORD = r"(?:texts?|documents?|sources?|passages?|articles?|context|excerpts?|materials?|information)"
_THE = (
    r"(?:the|this|these|that|your|its)\s+(?:(?:above|given|provided|supplied|retrieved|attached|source)\s+)*"
)
_SOURCE = rf"(?:{_THE}{_WORD}(?:\s+(?:provided|given|above|supplied))?)"
_ANY_SOURCE = (
    rf"(?:{_SOURCE}|it|they|{_THE}(?:page|section|paragraph|transcript|file|report|paper|study|letter|e-?mail"
    r"|contract|policy|agreement|manual|handbook|guide))"
)
_NOT = r"\s+(?:\w+ly\s+)?(?:(?:do|does|did)(?:\s+not|n't)|never|nowhere|fails?\s+to)\s+(?:\w+ly\s+)?"
_SAY = (
    r"(?:say|mention|state|specify|indicate|describe|explain|discuss|address|tell|reveal|disclose|clarify"
    r"|elaborate)s?\b"
)
_STATED = (
    r"(?:\w+ly\s+)?(?:mentioned|stated|specified|indicated|given|discussed|provided|described|disclosed)"
)
_NEWS = r"(?:\w+\s+)?(?:mention|information|details?|reference)s?\b"
_SILENT = re.compile(
    rf"{_ANY_SOURCE}{_NOT}{_SAY}"
    rf"|{_SOURCE}{_NOT}(?:provide|include|contain|give|cover|list|offer|answer)\b"
    rf"|{_SOURCE}\s+(?:provides?|includes?|contains?|gives?|says?|has|have|makes?)\s+(?:no|nothing)\b"
    rf"|there\s+(?:is|was|are|were)(?:\s+no|n't\s+any|\s+not\s+any)\s+{_NEWS}"
    rf"|no\s+{_NEWS}[^,;]*\s(?:is|are|was|were)\s+(?:{_STATED}|available|found)\b"
    rf"|it\s+(?:is|was)(?:n't|\s+not)\s+(?:{_STATED}|clear)\s+(?:whether|if|how|when|where|why|what|who|which|that)\b"
    rf"|i\s+(?:(?:could|can|did|do)(?:\s*not|n't)|can't|am\s+unable\s+to|was\s+unable\s+to)\s+(?:find|locate"
    rf"|determine|tell|say|see\s+(?:any\s+)?{_NEWS}|have\s+(?:any\s+)?{_NEWS})"
    rf"|{_ANY_SOURCE}\s+(?:is|are|remains?)\s+silent\b|not\s+{_STATED}\W*\Z"
    rf"|[^,;]*\b(?:is|are|was|were)(?:\s+not|n't)\s+(?:{_STATED}|available|found|included|listed|covered)"
    rf"\s+(?:anywhere\s+)?in\s+{_SOURCE}",
    re.IGNORECASE,
)
_BEFORE = re.compile(r"(?:[\w' ]{1,40},\s+)?(?:(?:but|and|however|unfortunately)\s+)?", re.IGNORECASE)
_CLAUSE = re.compile(
    r"\s*[,;–—]\s*(?:but|although|though|while|however|and),?\s+(?:however,?\s+)?", re.IGNORECASE
)
_DID_YOU_KNOW = re.compile(r"did\s+you\s+(?:also\s+)?know\s+(?:that\s+)?", re.IGNORECASE)
_OPENING = re.compile(
    r"(?:(?:sure|certainly|of course|absolutely|yes|no|well|okay|ok|great|hello|hi|hey|thanks|thank you"
    r"|in summary|in short|to sum up|in conclusion|to answer your question|answer|tl;?dr)"
    r"(?:\s*[,!:–—]+|\s+-)\s+"
    r"|(?:please\s+)?(?:note|be aware|keep in mind|bear in mind)(?:\s+that\s+|\s*:\s+)"
    rf"|(?:according to|based on|as (?:stated|mentioned|described|noted) in|per)\s+{_SOURCE},\s+"
    rf"|{_SOURCE}\s+(?:\w+ly\s+|also\s+)?(?:says?|states?|mentions?|notes?|explains?|indicates?)\s+that\s+)+",
    re.IGNORECASE,
)

# Fillers: one of these or several, and nothing else; none has a digit.
_MORE = (
    r"\b(?:any|other|more|further|additional|specific|anything|else|questions?|help|assistance|information"
    r"|details?|clarification|explanations?|examples?|concerns?|know)\b"
)
_FILLERS = (
    r"(?:hello|hi|hey|greetings|dear|welcome)(?: \w+)?",
    r"good (?:morning|afternoon|evening|day|luck|news)|bye|goodbye|take care|cheers|enjoy|see you(?: soon)?",
    r"sure(?: thing)?|of course|certainly|absolutely|definitely|no problem|okay|ok|all ?right|got it"
    r"|sounds good|understood",
    r"yes|no|yep|nope|exactly|indeed|right|great|perfect|i see|here you go|here it is|my pleasure",
    r"(?:(?:best|kind|warm) (?:regards|wishes)|regards|(?:yours )?sincerely)(?:,(?: \w+){1,4})?",
    r"have an? (?:nice|great|good) \w+",
    r"you(?:'re| are) (?:very |most )?welcome",
    r"(?:many )?(?:thanks|thank you)(?: (?:so|very) much| a lot| again)?"
    r"(?: for (?:your|the|asking|contacting|reaching|sharing|providing|waiting|clarifying)[^,;]{0,80})?",
    r"(?:(?:what|that's|that is|this is) an? )?(?:very )?(?:great|good|excellent|interesting|wonderful|fair)"
    r" (?:question|point|idea|choice|observation)",
    r"(?:i(?:'d| would|'ll| will| can|'m| am)? )?(?:be |also |only )?(?:more than )?"
    r"(?:happy|glad|pleased|delighted|here|able)? ?(?:to )?(?:help|assist|clarify|explain)"
    r"(?: (?:you|out|further|today|anytime|with (?:that|this|it|your \w+)|answer (?:that|this|your \w+)))*",
    r"(?:please |just |so )*(?:let (?:me|us) know|feel free to \w+|(?:don't|do not) hesitate to \w+)"
    rf"(?: (?:me|us|out|anytime|at any time))*"
    rf"(?: (?:if|should|whether|for|in case)\b[^,;]{{0,60}}{_MORE}[^;]{{0,60}})?",
    r"(?:if|should) you(?:'d like| (?:ever )?(?:have|need|want|would like|require))"
    rf"[^;]{{0,40}}{_MORE}[^,;]{{0,30}}"
    r"(?=, (?:please|just|feel free|let me|let us|don't|do not|i'm|i am|i'd)\b)",
    r"(?:i )?hope (?:that|this|it|these|my)\b[^;]{0,40}\b(?:help|helps|helped|useful|clear|clarifies|answers?"
    r"|informative)(?: [^,;]{0,40})?",
    r"(?:i'm |i am |we're |we are )?(?:very |so |really |truly )?sorry(?: (?:for|about) [^,;]{1,40})?",
    r"i apologi[sz]e(?: for [^,;]{1,50})?",
    r"(?:but |however,? |unfortunately,? )?i(?: can't| cannot| could(?:n't| not)|(?: am|'m) unable to)"
    r" (?:help|assist|answer|do)(?: (?:you|with|that|this|it|your|the|question|request))*",
    r"i (?:do not|don't) know(?: the answer)?|i(?:'m| am) not (?:sure|certain)(?: about (?:that|this|it))?",
    r"as an ai(?: (?:language )?model| assistant| chatbot)?, i\b[^;]{0,120}",
    r"let(?:'s| me| us) (?:explain|check|see|take a look|clarify|dive in|start|begin|get started|summari[sz]e"
    r"|(?:look into|break) (?:it|this|that)(?: down)?)(?: (?:this|that|it|for you|now))*",
    r"(?:below|here)(?:'s| is| are) (?:[\w'’-]+ ){0,8}(?:answers?|summary|list|overview|information|details"
    r"|breakdown|explanation|results?|steps|rules|points|facts|found|needed|asked|know)(?: for you)?",
)
_FILLER = re.compile(rf"(?:{'|'.join(_FILLERS)})(?:\s*[,;.!:–—-]+\s*|\s+and\s+|\Z)", re.IGNORECASE)
_SALUTATION = re.compile(r"dear(?: [\w.'-]+){1,5},\Z", re.IGNORECASE)
_VERB = re.compile(
    r"\b(?:is|are|was|were|be|been|has|have|had|do|does|did|can|cannot|could|may|might|must|shall|should|will|would"
    r"|\w+n't)\b",
    re.IGNORECASE,
)
_LISTED = re.compile(
    r"(?:sources?|references?|citations?|bibliography|further reading|footnotes?|works cited|links?)\s*:?\Z",
    re.IGNORECASE,
)
_ENTRY = re.compile(rf"\s*(?:\[\^?\d+\]:?|\(?\d+[.)]|[-*•–¹²³⁰⁴-⁹]|{REFERENCE})", re.IGNORECASE)
_ONLY_REFERENCE = re.compile(
    rf"\W*(?:{REFERENCE}|(?:sources?|references?)\s*:.{{1,120}})\W*\Z", re.IGNORECASE
)
_ITEM = re.compile(r"\s*(?:[-*+•⁃▪◦●‣–]\s|[•⁃▪◦●‣]|\(?(?:\d{1,2}|[a-z])[.)]\s)")
_LOOK = 80  # characters that are looked at around a line
_GENERIC = re.compile(r"\b(?:here|below|follow\w*|these)\b", re.IGNORECASE)
_FENCE = re.compile(r"^[^\S\r\n]*(?:`{3,}|~{3,})[^\S\r\n]*([^\r\n`]*)$", re.MULTILINE)
_TEXT_FENCES = frozenset(["", "text", "txt", "markdown", "md", "plain", "plaintext"])


def read_parts(answer: str, spans: Iterable[Span]) -> list[Part]:
    """The kind of each sentence of an answer, and what is left of those that are claims.

    Args:
        answer (`str`): The answer.
        spans (`Iterable[tuple[int, int]]`): Where its sentences stand; those without a word are left out.
    """
    code = list(_code(answer))
    starts = [start for start, _ in code]
    parts: list[Part] = []
    lead: Plain | None = None  # what the items of a list complete
    for span in spans:
        raw = answer[slice(*span)]
        if not re.search(r"\w", raw):
            continue
        read = plain(answer, span)
        kind, left = _told(read)
        if (row := bisect(starts, span[0])) and span[1] <= code[row - 1][1]:
            kind = "code"
        if kind == "lead-in":
            lead = None if _GENERIC.search(read.text) else left
        elif lead and _ITEM.match(raw) and kind == CLAIM:
            if left.text[-1] not in ".!?。" and not _VERB.search(left.text):
                left = Plain(f"{lead.text} {left.text}", [*lead.places[:-1], lead.places[-1], *left.places])
        else:
            lead = None
        parts.append(Part(span, kind, left))
    return _with_headings(answer, _with_sources(answer, parts))


def one_claim(answer: str) -> Part:
    """A claim as one part, whatever it is: mark-up and references are taken off, unless nothing is left."""
    read = plain(answer)
    kind, left = _told(read)
    if not re.search(r"\w", left.text):
        left = read
    return Part((0, len(answer)), kind if kind == ABOUT_SOURCE else CLAIM, left)


def _told(read: Plain) -> tuple[str, Plain]:
    """What can be told of a sentence by itself, and the claim."""
    left = read.without(_references(read.text))
    cited = _ONLY_REFERENCE.match(left.text)
    if not re.search(r"\w", left.text) or (cited and not _VERB.search(left.text)):
        return "reference", left
    text = left.text.replace("’", "'")
    if text[-1] in ":：" and not re.search(r"\d", text):
        return "lead-in", left
    bare = re.sub(r"^\W+|\W+$", "", text)
    if _is_filler(bare) or _SALUTATION.match(text):
        return "filler", left
    known = _DID_YOU_KNOW.match(text)
    if known and len(text[known.end() :].split()) > 2:
        return CLAIM, left.without([(0, known.end())])
    if text[-1] in "?？؟" or (text[-2:-1] in "?？؟" and text[-1] in "\"'”’»" and not text[0].isalnum()):
        return "question", left
    opening = _OPENING.match(text)
    if opening and len(text[opening.end() :].split()) > 1:
        left = left.without([(0, opening.end())])
        text = text[opening.end() :]
    for clause in _CLAUSE.finditer(text):
        stated = text[: clause.start()]
        if _SILENT.match(text, clause.end()) and len(stated.split()) > 2 and not _is_filler(stated):
            return CLAIM, left.without([(clause.start(), len(text) - (text[-1] in ".!"))])
    before = _BEFORE.match(text)
    if _SILENT.match(text) or (before and _SILENT.match(text, before.end())):
        return ABOUT_SOURCE, left
    return CLAIM, left


def _is_filler(text: str) -> bool:
    """Whether all of it is fillers, one after the other."""
    place = 0
    while place < len(text) and (filler := _FILLER.match(text, place)):
        place = filler.end()
    return place == len(text) and not re.search(r"\d", text)


def _references(text: str) -> list[Span]:
    """Where references stand; "(2)" where such numbers ascend, "²" not after a unit or a short symbol."""
    found = list(_REFERENCES.finditer(text))
    numbers = [int(re.sub(r"\D", "", match["number"])) for match in found if match["number"]]
    ascend = numbers == sorted(set(numbers))
    kept = []
    for match in found:
        before = text[max(0, match.start() - 20) : match.start()]
        if match["number"] and not ascend:
            continue
        if match["brackets"] and _IN_INTERVAL.search(before) and "," in match[0]:
            continue
        if match["raised"]:
            word = re.search(r"\w*\Z", before)[0]  # type: ignore[index]
            if "⁻" in match[0] or ((len(word) < 3 or word.lower() in _UNITS) and match[0] in "²³"):
                continue
        kept.append(match.span())
    return kept


def _code(answer: str) -> Iterable[Span]:
    """Blocks of code in a language that a fence names, with their fences."""
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(answer):
        if opened is None:
            opened = fence
            continue
        if opened[1].strip().lower() not in _TEXT_FENCES:
            yield opened.start(), fence.end()
        opened = None
    if opened and opened[1].strip().lower() not in _TEXT_FENCES:
        yield opened.start(), len(answer)


def _with_sources(answer: str, parts: list[Part]) -> list[Part]:
    """With what follows "Sources:" told as references, as far as it looks like them."""
    listed = False
    found = []
    for part in parts:
        text = part.plain.text
        if _LISTED.match(text):
            listed = True
        elif listed:
            raw = answer[slice(*part.span)]
            listed = part.kind == "reference" or _ENTRY.match(raw) is not None
        found.append(replace(part, kind="reference") if listed else part)
    return found


def _with_headings(answer: str, parts: list[Part]) -> list[Part]:
    """With headings told as such: lines without a verb or a stop, before a claim."""
    found: list[Part] = []
    following: Part | None = None  # the next part that is a claim
    for part in reversed(parts):
        if part.kind == CLAIM and following and _is_heading(answer, part, following):
            part = replace(part, kind="heading")
        elif part.judged:
            following = part
        found.append(part)
    return found[::-1]


def _is_heading(answer: str, part: Part, following: Part) -> bool:
    raw, text = answer[slice(*part.span)].strip(), part.plain.text
    words = text.split()
    if raw[0] == "|":  # above the rule of a table
        return re.match(r"\s*\|?\s*:?-+:?\s*\|", answer[part.span[1] : part.span[1] + _LOOK]) is not None
    if text[-1] in ".!…。！;," or _VERB.search(text):
        return False
    if re.match(r"#{1,6}\s|<h[1-6]\b", raw):
        return True
    titled = all(word[0].isupper() or len(word) < 4 for word in words if word[0].isalpha())
    if re.match(r"(\*\*|__|<(?:b|strong)>).*(\*\*|__|</(?:b|strong)>):?\Z", raw, re.DOTALL):
        return len(words) < 5 or titled
    before = answer[max(0, part.span[0] - _LOOK) : part.span[0]].rstrip(" \t")
    alone = before[-1:] in ("", "\n") and "\n" in answer[part.span[1] : following.span[0]]
    if not alone or _ITEM.match(raw) or len(words) > 4 or re.search(r"\d", text):
        return False
    return text[0].isupper() and following.plain.text[-1] in ".!。"
