"""training/word_order.py: pairs whose words do not tell their label."""

import json
import random
from collections import Counter

from modernbert_nli.training.word_order import CONSTRUCTIONS, lines, pairs


def test_neither_words_nor_construction_tell_the_label():
    """Half is entailed, and no hypothesis has words that its premise lacks."""
    found = pairs(2200)
    assert len(set(found)) == len(found) == 2200
    assert 0.48 < sum(entailed for *_, entailed in found) / len(found) < 0.52
    for premise, hypothesis, _ in found:
        new = Counter(_words(hypothesis)) - Counter(_words(premise))
        assert not new or set(new) <= {"was", "by"}, (premise, hypothesis)


def test_every_construction_is_balanced():
    """So that what introduces a clause, say, is no sign of a label."""
    for construction in CONSTRUCTIONS:
        labels = Counter(entailed for *_, entailed in construction(random.Random(1)))
        assert labels[True] == labels[False], construction.__name__


def test_lines_are_a_two_way_set_and_the_same_each_time():
    """As `train.py` reads it."""
    rows = [json.loads(line) for line in lines(100).splitlines()]
    assert {row["label"] for row in rows} == {"entailment", "non-entailment"}
    assert lines(100) == lines(100) != lines(100, seed=1)


def _words(sentence: str) -> list[str]:
    return sentence.lower().rstrip(".").replace(",", "").split()
