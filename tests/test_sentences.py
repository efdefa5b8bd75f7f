"""Sentences are found where readers find them, and no character is lost, whatever the text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentence_cases import KINDS

from modernbert_nli.sentences import placed, split_sentences

CASES = [(kind, text) for kind, texts in KINDS.items() for text in texts]


@pytest.mark.parametrize(("kind", "case"), CASES)
def test_hard_cases(kind, case):
    """Abbreviations, decimals, quotes, lists, line breaks, no final stop, other scripts, mark-up."""
    text = case.replace("|", "")
    expected = [part.strip() for part in case.split("|")]
    assert [text[start:end] for start, end in split_sentences(text)] == expected


PIECES = [*"aB1 .!?。\n\"'()[]*#|:\u00a0…•,-\t\r\x00é", "<p>", "</p>", "[1]", "No\n"]


@given(st.lists(st.sampled_from(PIECES), max_size=200).map("".join) | st.text(max_size=200))
def test_no_character_is_lost(text):
    """Sentences are in order, apart, trimmed, and hold all that is no white space."""
    spans = list(split_sentences(text))
    place = 0
    for start, end in spans:
        assert place <= start < end
        assert not text[place:start].strip()
        assert text[start:end] == text[start:end].strip()
        place = end
    assert not text[place:].strip()


def test_a_splitter_may_give_texts_places_or_spans():
    """What NLTK, our own rules, pysbd and spaCy return: all become places."""

    class Spacy:
        def __init__(self, start, end):
            self.start_char, self.end_char, self.start = start, end, None

    class Pysbd:
        def __init__(self, start, end):
            self.start, self.end = start, end

    text = "It rains.  It pours. "
    expected = [(0, 9), (11, 20)]
    assert list(placed(text, ["It rains. ", " It pours. "])) == expected
    assert list(placed(text, [(0, 11), (11, 21)])) == expected
    assert list(placed(text, [Spacy(0, 9), Spacy(11, 20)])) == expected
    assert list(placed(text, [Pysbd(0, 11), Pysbd(11, 21)])) == expected


@pytest.mark.parametrize("wrong", [["It snows."], [(0, 50)], [(11, 20), (0, 9)], [(1, 2, 3)]])
def test_what_is_no_sentence_of_the_text_is_told(wrong):
    """Named, with what is expected."""
    with pytest.raises(ValueError, match="as they stand in the text, or their places"):
        list(placed("It rains.  It pours.", wrong))
