"""What the page asks of Python, as JSON: places are those of JavaScript, in units of UTF-16."""

import json
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from modernbert_nli.sentences import split_sentences


def sentences(text: str) -> list[list[int]]:
    """Where each sentence of a text begins and ends."""
    return _in_units(text, split_sentences(text))


def answer(name: str, values: str) -> str:
    """Call a function of this module by its name."""
    return json.dumps(globals()[name](*json.loads(values)))


def _in_units(text: str, spans: Iterable[Sequence[int]]) -> Any:
    """Places of characters as places of units: a character beyond U+FFFF has two."""
    if not text or max(text) <= "\uffff":
        return [list(span) for span in spans]
    units = [0, *accumulate(1 + (sign > "\uffff") for sign in text)]
    return [[units[place] for place in span] for span in spans]
