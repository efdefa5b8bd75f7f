"""What can be known of a pair without heads: what holds word for word, and where an answer has no ground.

    verbatim("It rains. The ferry still runs.", "the ferry still runs")  # True
    level("the ferry still runs") in statements(document)  # for many claims: one look-up each
    veto("The train leaves at 7 a.m.", "The train leaves at 7 p.m.", "entailment", tokenizer)  # QUANTITY

A veto says why a label must not stand, and leaves the pair undecided. It never says another label.
"""

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

Span = tuple[int, int]  # characters: the first, and the one after the last

# All reasons for which a pair is left undecided, beside those of routes.
UNCERTAIN = "too uncertain"
UNREADABLE = "not text that the encoder reads"
SIGNS = "the texts differ in signs that the tokenizer does not know"
QUANTITY = "the texts differ in a number or its unit"
ORDER = "the texts have the same words in another order"
OPPOSITE = "the texts differ in a negation or an opposite"
DOUBLE = "the texts differ in a double negation"
SAME = "the texts differ only in how numbers or dates are written"
CUT = "the premise was cut, and its end was not read"
REASONS = (UNCERTAIN, UNREADABLE, SIGNS, QUANTITY, ORDER, OPPOSITE, DOUBLE, SAME, CUT)

ENTAILMENT, CONTRADICTION = "entailment", "contradiction"

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
    from .sentences import split_sentences

    places = list(split_sentences(text) if spans is None else spans)
    before, quote, listed, certain = 0, 0, False, True
    nexts = [start for start, _ in places[1:]] + [len(text)]
    for (start, end), following in zip(places, nexts, strict=False):
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
        or (not gap.strip("\t ") and "\n" not in gap)
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


def overruled(
    premise: str, hypothesis: str, result: dict[str, Any], threshold: float, tokenizer: Any, told: bool
) -> dict[str, Any]:
    """A result of heads, or what is known without them; no threshold lets through what has a veto.

    Args:
        told (`bool`): Whether the heads tell which text is not read: the tokenizer is then not asked.
    """
    label = result["label"]
    if verbatim(premise, hypothesis):
        probs = {name: float(name == ENTAILMENT) for name in result["probs"]}
        sure = {"label": ENTAILMENT, "confidence": 1.0, "uncertainty": 0.0, "probs": probs}
        abstain = threshold <= 0
        known = {"abstain": abstain, "reason": UNCERTAIN if abstain else None, "rule": "verbatim"}
        return {**result, **sure, **known}
    if result.get("reason") == UNREADABLE:
        return result
    reason = veto(premise, hypothesis, label, tokenizer, told)
    if reason is None and result.get("truncated") and label not in (ENTAILMENT, CONTRADICTION):
        reason = CUT  # what was not read may say it
    return {**result, "abstain": True, "uncertainty": 1.0, "reason": reason} if reason else result


def veto(premise: str, hypothesis: str, label: str, tokenizer: Any, told: bool = False) -> str | None:
    """Why a label that heads found must not stand, one of `REASONS`, or `None`.

    Args:
        premise, hypothesis (`str`): The pair; one that is `verbatim` needs no veto.
        label (`str`): What the heads say.
        tokenizer (`PreTrainedTokenizerBase`): That of the base.
        told (`bool`): As for `overruled`.
    """
    if not told and wordless(premise, hypothesis, tokenizer):
        return UNREADABLE
    if label == ENTAILMENT and excepted(premise, hypothesis):
        return OPPOSITE
    found = difference(premise, hypothesis)
    if label in (ENTAILMENT, CONTRADICTION):
        theirs, ours = unknown(premise, tokenizer), unknown(hypothesis, tokenizer)
        # Signs of the premise alone count where its words are those of the hypothesis: "Refunds: ✗".
        if ours - theirs or (theirs - ours and found == SAME):
            return SIGNS
    alike = found in (SAME, DOUBLE)
    return None if alike == (label == ENTAILMENT) else found


# Text that the tokenizer has words for. Of English texts of 43 sets 0.3 % are held unreadable (WordPiece) and
# 0.7 % (ModernBERT's), of Greek, Russian, Chinese, Japanese, Arabic or random letters all, of German a half.
_BROKEN, _LETTERS_A_PIECE = 0.5, 3.0
_READ = 2000  # characters that tell
_ENGLISH = "The water was cold in the morning and nobody wanted to go there before the sun came up again"
_LETTERS = re.compile(r"[^\W\d_]+")


def readable(text: str, tokenizer: Any) -> bool:
    """Whether the tokenizer has words for a text: most are no broken ones, in pieces of some letters.

    True for any text where it breaks plain English too (tokens of characters or bytes).
    """
    text = text[:_READ]
    words = _LETTERS.findall(text.lower())
    known = sum(map(_vocabulary(tokenizer).__contains__, words))
    if 2 * known >= len(words) > 0 or not _has_words(tokenizer):
        return True
    return not _is_broken(text, tokenizer)


def wordless(premise: str, hypothesis: str, tokenizer: Any) -> bool:
    """Whether one of two texts is not `readable`: a rough guess, of heads that cannot tell by states."""
    return not (readable(premise, tokenizer) and readable(hypothesis, tokenizer))


def _is_broken(text: str, tokenizer: Any) -> bool:
    words = [match.span() for match in _LETTERS.finditer(text)]
    pieces, unknown_pieces, at = [0] * len(words), 0, 0
    tokens = list(_tokens(text, tokenizer))
    for (start, end), is_unknown in tokens:
        unknown_pieces += is_unknown
        while at < len(words) and words[at][1] <= start:
            at += 1
        for row in range(at, len(words)):
            if words[row][0] >= end:
                break
            pieces[row] += 2 if is_unknown else 1
    if not words:
        return 2 * unknown_pieces > len(tokens)
    broken = sum(count != 1 for count in pieces) / len(words)
    letters = sum(end - start for start, end in words) / max(1, sum(pieces))
    return broken > _BROKEN and letters < _LETTERS_A_PIECE


def unknown(text: str, tokenizer: Any) -> frozenset[str]:
    """What stands behind the unknown tokens of a text."""
    if (text.isascii() and not re.search(r"\w{100}", text)) or not tokenizer.is_fast:
        return frozenset()
    return frozenset(text[slice(*place)] for place, is_unknown in _tokens(text, tokenizer) if is_unknown)


def _tokens(text: str, tokenizer: Any) -> Iterator[tuple[Span, bool]]:
    """The place of each token, without white space, and whether it is unknown."""
    found = tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, verbose=False, return_offsets_mapping=True
    )
    for token, (start, end) in zip(found["input_ids"], found["offset_mapping"], strict=True):
        while start < end and text[start].isspace():
            start += 1
        yield (start, end), token == tokenizer.unk_token_id


@lru_cache(maxsize=8)
def _vocabulary(tokenizer: Any) -> frozenset[str]:
    """Words that are one token, without the mark of a space before them."""
    return frozenset(token.lstrip("Ġ▁").lower() for token in tokenizer.get_vocab() if token[:2] != "##")


@lru_cache(maxsize=8)
def _has_words(tokenizer: Any) -> bool:
    return tokenizer.is_fast and not _is_broken(_ENGLISH, tokenizer)


# Numbers, dates and units, and the words by which sentences of the same words mean different things. Of pairs
# of 45 public sets that `difference` tells apart 73 % (`OPPOSITE`) to 87 % (`QUANTITY`) are not entailed.
def _words(text: str) -> list[str]:
    return text.split()


_MONTHS = {name: row for row, name in enumerate(_words("jan feb mar apr may jun jul aug sep oct nov dec"), 1)}
_CALENDAR = {  # "may" and "march" are other words too
    name: f"={name[:3]}"
    for name in _words(
        "monday tuesday wednesday thursday friday saturday sunday january february april june july august "
        "september october november december"
    )
}
_MONTH = (
    r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_DAY_MONTH = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH}", re.IGNORECASE)
_MONTH_DAY = re.compile(rf"\b{_MONTH} (\d{{1,2}})(?:st|nd|rd|th)?\b(?![.:]?\d)", re.IGNORECASE)
_ISO_DAY = re.compile(r"\b(\d{4})-(\d\d)-(\d\d)\b")
_SEPARATOR = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_CURRENCY = re.compile(r"([$€£])\s?(\d[\d.]*)")
_TERM = re.compile(r"\d+@\d+|(?:(?<!\S)-)?\d+(?:[.:]\d+)*|[^\W\d_]+(?:/[^\W\d_]+)?|[%°$€£]")
_TENS = {
    name: 10 * number
    for number, name in enumerate(_words("twenty thirty forty fifty sixty seventy eighty ninety"), 2)
}
_NUMBERS = _TENS | {
    name: number
    for number, name in enumerate(
        _words(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
            "sixteen seventeen eighteen nineteen"
        )
    )
}
_POWERS = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_UNITS = {
    name: _words(names)[0]
    for names in (
        *("mm millimetre millimeter", "cm centimetre centimeter", "m metre meter", "km kilometre kilometer"),
        *("inch", "foot feet ft", "yard yd", "mile mi", "mcg µg μg microgram", "mg milligram", "g gram"),
        *(
            "kg kilogram kilo",
            "lb",
            "oz ounce",
            "t ton tonne",
            "ml mL millilitre milliliter",
            "l L litre liter",
        ),
        *("gallon gal", "ms millisecond", "s sec second", "min minute", "h hr hour", "day", "week", "month"),
        *("year", "% percent", "mW milliwatt", "W watt", "kW kilowatt", "MW megawatt", "GW gigawatt", "kWh"),
        *("MWh", "GWh", "kB KB kilobyte", "MB megabyte", "GB gigabyte", "TB terabyte", "Mb Mbit megabit"),
        *("Gb Gbit gigabit", "bar", "Pa pascal", "kPa", "MPa", "psi", "Hz hertz", "kHz", "MHz", "GHz", "mA"),
        *("A ampere", "mV", "V volt", "kV", "C celsius", "F fahrenheit", "km/h kph", "mph", "am", "pm"),
        *("$ dollar usd", "€ euro eur", "£ pound gbp", "cent"),
    )
    for name in _words(names)
}
_LIGHT = frozenset(_words("a an the is are was were be been being do does did has have had will that there"))
_NEGATIONS = frozenset(_words("not no never none nobody nothing neither nor without hardly"))
_UN = re.compile(
    r"\A(?:un|in|im|ir|il|dis|non)"
)  # _resolved() looks whether the rest is a word of the other text
_SCOPED = _NEGATIONS | {"only", "all"}  # "Not all are" and "All are not" differ by where they stand
_OPPOSITES = [
    frozenset(_words(pair))
    for pair in (
        *("above below", "over under", "before after", "least most", "more less", "more fewer", "up down"),
        *("minimum maximum", "higher lower", "earlier later", "inside outside", "increase decrease"),
        *("first last", "north south", "east west", "left right"),
    )
]
_CRITICAL = _NEGATIONS.union(*_OPPOSITES)
# What a sentence makes an exception of: the first word after these that is no article or preposition.
_EXCEPTION = re.compile(
    r"(?:\b(?:except(?:ing)?(?: for)?|excluding|apart from|aside from|other than|but (?:not|no|never)"
    r"|lack(?:s|ing)?|rather than|instead of|without)|, not) "
    r"(?:(?:an?|the|any|its|their|his|her|in|on|of|for|at|to|by) )*([^\W_][\w'-]*)",
    re.IGNORECASE,
)
_APART = _CRITICAL.union(_LIGHT, _MONTHS, _CALENDAR, _NUMBERS, _POWERS, _UNITS)


def excepted(premise: str, hypothesis: str) -> bool:
    """Whether a hypothesis speaks of what its premise makes an exception of, as if it did not.

    "Parts are covered, but not labour.", "All staff except interns …": what the rest of the premise says of
    others does not hold of these.
    """
    exceptions = _EXCEPTION.findall(premise)
    if not exceptions or _EXCEPTION.search(hypothesis):
        return False
    ours = set(terms(hypothesis))
    if ours & _NEGATIONS:
        return False
    elsewhere = set(terms(_EXCEPTION.sub(" ", premise)))
    return any(term in ours - elsewhere - _LIGHT for name in exceptions for term in terms(name))


def difference(premise: str, hypothesis: str) -> str | None:
    """How a hypothesis differs from the sentence of the premise that has the same words.

    Returns:
        `QUANTITY`, `ORDER` or `OPPOSITE`; `SAME` or `DOUBLE` where it does not in meaning; `None` where there
        is no such sentence, or something is only left out or moved.
    """
    from .sentences import split_sentences

    if _says_more(premise, hypothesis):
        return None
    ours = terms(hypothesis)
    nearest: tuple[int, int] | None = None
    for start, end in split_sentences(premise):
        theirs = terms(premise[start:end])
        heavy = [term for term in _resolved(ours, theirs) if term not in _LIGHT]
        all_heavy = [term for term in _resolved(theirs, ours) if term not in _LIGHT]
        more, less = Counter(heavy) - Counter(all_heavy), Counter(all_heavy) - Counter(heavy)
        size = more.total(), less.total()
        if nearest is None or size < nearest:
            nearest, found = size, (theirs, heavy, all_heavy, more, less)
    if nearest is None:
        return None
    theirs, heavy, all_heavy, more, less = found
    if len(heavy) < 2 or any(not _is_quantity(term) and term not in _CRITICAL for term in more):
        return None
    for kind in (_is_number, _is_unit):
        if any(map(kind, more)) and any(map(kind, less)):
            return QUANTITY
    if any(pair & more.keys() and (pair - more.keys()) & less.keys() for pair in _OPPOSITES):
        return OPPOSITE
    if more.keys() | less.keys() and more.keys() | less.keys() <= _NEGATIONS:
        return OPPOSITE if (more.total() + less.total()) % 2 else DOUBLE
    if more or less:
        return None
    if all_heavy == heavy:
        return SAME if ours == theirs else None
    return None if len(heavy) < 3 or _is_moved(all_heavy, heavy) else ORDER


def _resolved(terms: list[str], others: list[str]) -> Iterator[str]:
    """Terms with "impossible" as "not possible", where the other text has "possible"."""
    for term in terms:
        match = _UN.match(term)
        if match and term not in others and term[match.end() :] in others:
            yield from ("not", term[match.end() :])
        else:
            yield term


def _is_moved(terms: list[str], others: list[str]) -> bool:
    """Whether one part of a sentence moved past another ("In May the bridge opened"), none being negated.

    Two parts that change places around a third, as in "The dog bit the man", mean something else.
    """
    same = [one == other for one, other in zip(terms, others, strict=True)]
    first, last = same.index(False), len(same) - same[::-1].index(False)
    part, other = terms[first:last], others[first:last]
    if not _SCOPED.isdisjoint(part):
        return False
    return any(part[row:] + part[:row] == other for row in range(len(part)))


def _says_more(premise: str, hypothesis: str) -> bool:
    """Whether the hypothesis has a word that the premise has not, at little cost: so of nearly all pairs."""
    if not (premise.isascii() and hypothesis.isascii()):
        return False
    there = premise.lower()
    for word in re.findall(r"[a-z]{3,}", hypothesis.lower()):
        if word in there:
            continue
        stem = word.rstrip("s")
        if not (
            stem in there
            or _UN.sub("", stem, count=1) in there
            or word in _APART
            or stem in _APART
            or re.fullmatch(_MONTH, word)
        ):
            return True
    return False


def terms(text: str) -> list[str]:
    """Words of a sentence, with numbers, dates ("3@5") and units ("=km") as they compare."""
    text = _DAY_MONTH.sub(lambda day: f" {int(day[1])}@{_MONTHS[day[2][:3].lower()]} ", level(text))
    text = _MONTH_DAY.sub(lambda day: f" {int(day[2])}@{_MONTHS[day[1][:3].lower()]} ", text)
    text = _ISO_DAY.sub(lambda day: f" {int(day[3])}@{int(day[2])} {day[1]} ", text)
    text = _CURRENCY.sub(r"\2 \1", _SEPARATOR.sub("", text))
    text = re.sub(r"n't\b", " not", text).replace("cannot", "can not").removeprefix("no, ")
    found: list[str] = []
    for term in _TERM.findall(text):
        last = found[-1] if found else "."
        after = re.fullmatch(r"-?\d+(?:\.\d+)?", last) is not None
        singular = term.removesuffix("s") if len(term) > 3 and not term.endswith("ss") else term
        if after and term in _POWERS:
            found[-1] = f"{float(last) * _POWERS[term]:.15g}"
        elif term in _NUMBERS:
            tens = after and float(last) in _TENS.values() and 0 < _NUMBERS[term] < 10
            found[-1:] = [str(int(last) + _NUMBERS[term])] if tens else [*found[-1:], str(_NUMBERS[term])]
        elif singular in _CALENDAR:
            found.append(_CALENDAR[singular])
        elif "@" in term or ":" in term or term.count(".") > 1:
            found.append(term.removesuffix(":00"))
        elif _is_number(term):
            found.append(f"{float(term):.15g}")
        elif _is_number(last) and "@" not in last and (unit := _UNITS.get(term) or _UNITS.get(singular)):
            found.append(f"={unit}")
        else:
            found.append(singular)
    return found


def _is_number(term: str) -> bool:
    return term[-1].isdecimal()


def _is_unit(term: str) -> bool:
    return term[0] == "="


def _is_quantity(term: str) -> bool:
    return _is_number(term) or _is_unit(term)
