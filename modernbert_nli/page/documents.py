"""An answer against a document, as HTML: each sentence with its verdict, and the evidence in its place.

A sentence is a link to its evidence; the style sheet marks what the link leads to, so no script is needed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from .drawing import share

TONES = {
    "supported": "entailment",
    "contradicted": "contradiction",
    "not supported": "neutral",
    "uncertain": "abstained",
    "no claim": "abstained",
}
_COUNTED = {
    "supported": ("is supported", "are supported"),
    "contradicted": ("is contradicted", "are contradicted"),
    "not supported": ("is not supported", "are not supported"),
    "uncertain": ("is uncertain", "are uncertain"),
}


def summary(sentences: Sequence[Mapping[str, Any]]) -> str:
    """How many claims have which verdict."""
    said = Counter(sentence["verdict"] for sentence in _claims(sentences))
    total = said.total()
    if not total:
        return "There is no claim in the answer that could be checked."
    parts = [f"{said[key]} {words[said[key] > 1]}" for key, words in _COUNTED.items() if said[key]]
    return f"Of {total} claim{'s' * (total > 1)}, {', '.join(parts)}."


def checked(answer: str, sentences: Sequence[Mapping[str, Any]]) -> str:
    """The claims of an answer, each with its verdict and a link to its evidence."""
    rows = "".join(
        f'<li class="{TONES[one["verdict"]]}"><p class="said"><b>{one["verdict"]}</b>{_sure(one)}</p>'
        f'<p><a href="#evidence-{number}">{_underlined(answer, one)}</a></p></li>'
        for number, one in enumerate(_claims(sentences), 1)
    )
    return f'<ol class="sources">{rows}</ol>'


def document(text: str, sentences: Sequence[Mapping[str, Any]]) -> str:
    """The document, with a mark for the best passage of each claim that has one, also where they overlap."""
    best = {number: one["evidence"][0] for number, one in enumerate(_claims(sentences), 1) if one["evidence"]}
    places = {number: (one["start"], one["end"]) for number, one in best.items()}
    bounds = sorted({0, len(text), *(bound for place in places.values() for bound in place)})
    parts = []
    for start, end in pairwise(bounds):
        anchors = "".join(
            f'<span class="anchor" id="evidence-{number}"></span>'
            for number, place in places.items()
            if place[0] == start
        )
        names = " ".join(
            f"of-{number}" for number, place in places.items() if place[0] <= start and end <= place[1]
        )
        words = escape(text[start:end])
        parts.append(f'{anchors}<mark class="{names}">{words}</mark>' if names else f"{anchors}{words}")
    chosen = ",".join(f".document:has(#evidence-{number}:target) .of-{number}" for number in places)
    marked = f"{chosen}{{background-color:var(--found);color:var(--on-found)}}" if chosen else ""
    return (
        f"<style>{marked}</style>"
        "<h3>The document, with the evidence; a sentence above leads to its own</h3>"
        f'<div class="document" tabindex="0" role="region" aria-label="The document">{"".join(parts)}</div>'
    )


def _claims(sentences: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [one for one in sentences if one["verdict"] is not None]


def _sure(sentence: Mapping[str, Any]) -> str:
    return "" if sentence["abstain"] else f" <span>{share(sentence['confidence'])}</span>"


def _underlined(answer: str, sentence: Mapping[str, Any]) -> str:
    """A sentence with its unsupported words underlined."""
    parts, at = [], sentence["start"]
    for span in sentence["unsupported"]:
        words = escape(answer[span["start"] : span["end"]])
        parts += [escape(answer[at : span["start"]]), f'<u title="not found in the document">{words}</u>']
        at = span["end"]
    return "".join([*parts, escape(answer[at : sentence["end"]])])
