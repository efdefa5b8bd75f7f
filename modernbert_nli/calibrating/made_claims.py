"""Claims made of others by a program: false ones, by one change to a true one, the same every time.

false_claims("It opened on 3 May 2019.", others)  # {"number": "It opened on 3 May 2018.", …}
"""

import hashlib
import re
from collections.abc import Sequence


def _words(text: str) -> list[str]:
    return text.split()


_MONTHS = _words(
    "january february march april may june july august september october november december "
    "monday tuesday wednesday thursday friday saturday sunday"
)
_NUMBERS = _words("two three four five six seven eight nine ten eleven twelve")
_PAIRS = (
    *(
        "first last",
        "more less",
        "most least",
        "before after",
        "won lost",
        "increased decreased",
        "rose fell",
    ),
    *("higher lower", "older younger", "largest smallest", "always never", "north south", "east west"),
    *("opened closed", "began ended", "start end", "male female", "best worst", "early late", "large small"),
    *("all none", "many few"),
)
_OPPOSITES = {one: other for pair in _PAIRS for one, other in (_words(pair), _words(pair)[::-1])}
_AUXILIARY = re.compile(
    r"\b(is|are|was|were|has|have|had|can|could|will|would|should|does|did|do|may|might|must)\b(?!n['’]t)",
    re.I,
)
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+(?: [A-Z][a-z]+)*")


def draw(text: str, count: int) -> int:
    """A number below `count` that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % count


def false_claims(claim: str, others: Sequence[str]) -> dict[str, str]:
    """By kind of change, the claim so changed; only the kinds that its words allow.

    Args:
        claim (`str`): A true one.
        others (`Sequence[str]`): Claims whose names may take the place of its names.
    """
    made = {
        "number": _number(claim),
        "date": _listed(claim, _MONTHS),
        "negation": _negation(claim),
        "word": _opposite(claim),
        "name": _name(claim, others),
    }
    return {kind: text for kind, text in made.items() if text is not None and text != claim}


def _number(claim: str) -> str | None:
    digits = list(re.finditer(r"(?<![\w.,])\d[\d,]*(?:\.\d+)?(?![\w])", claim))
    if not digits:
        return _listed(claim, _NUMBERS)
    match = digits[draw(claim, len(digits))]
    text, way = match[0], draw(claim + "way", 3)
    if way == 0 and text.replace(",", "").isdigit() and not 1000 <= int(text.replace(",", "")) <= 2100:
        changed = text + "0" if "," not in text else text.replace(",", "") + "0"
    else:
        place = max(at for at, one in enumerate(text) if one.isdigit()) if way == 1 else 0
        one = str((int(text[place]) + 1 + draw(claim + "digit", 8)) % 10)
        changed = text[:place] + (one if one != "0" or place else "9") + text[place + 1 :]
    return claim[: match.start()] + changed + claim[match.end() :]


def _listed(claim: str, words: Sequence[str]) -> str | None:
    found = [m for m in re.finditer(r"\w+", claim) if m[0].lower() in words and (m[0] != "may")]
    if not found:
        return None
    match = found[draw(claim, len(found))]
    same = [word for word in words if (words.index(word) < 12) == (words.index(match[0].lower()) < 12)]
    same.remove(match[0].lower())
    other = same[draw(claim + "other", len(same))]
    other = other.capitalize() if match[0][0].isupper() else other
    return claim[: match.start()] + other + claim[match.end() :]


def _negation(claim: str) -> str | None:
    if negated := re.search(r"\b(\w+)( not\b|n['’]t\b)", claim):
        stem = {"ca": "can", "wo": "will"}.get(negated[1].lower(), negated[1])
        return claim[: negated.start()] + stem + claim[negated.end() :]
    match = _AUXILIARY.search(claim)
    return claim[: match.end()] + " not" + claim[match.end() :] if match and match.start() else None


def _opposite(claim: str) -> str | None:
    for match in re.finditer(r"\w+", claim):
        if match[0] in _OPPOSITES:
            return claim[: match.start()] + _OPPOSITES[match[0]] + claim[match.end() :]
    return None


def _name(claim: str, others: Sequence[str]) -> str | None:
    names = list(_NAME.finditer(claim))
    pool = sorted({m[0] for other in others for m in _NAME.finditer(other)} - {m[0] for m in names})
    pool = [name for name in pool if name not in claim]
    if not names or not pool:
        return None
    match = names[draw(claim, len(names))]
    alike = [name for name in pool if name.count(" ") == match[0].count(" ")] or pool
    return claim[: match.start()] + alike[draw(claim + "name", len(alike))] + claim[match.end() :]
