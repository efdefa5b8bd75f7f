"""Sentences are found where readers find them, and no character is lost, whatever the text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modernbert_nli.sentences import placed, split_sentences

# Each a text with "|" where a sentence ends, of the kinds that the golden rules of Pragmatic Segmenter and
# pySBD (both MIT) list, in words of our own.
CASES = [
    "The tide is high.| We wait for the ferry.",
    "Is it far?| Not very!| Come along.",
    "Wait!!| Who is there?!| Nobody, it seems.",
    "Dr. Osei met Mrs. Lind at St. Mary's.| They spoke for an hour.",
    "The letter is by J. K. Marsh.| It is short.",
    "See Fig. 3 and p. 12 for details.| The rest is on pp. 14 ff. of the report.",
    "He has a Ph.D. in physics.| She works at Acme Inc. in Ohio.",
    "They sold it to Brown & Co. last year.| The price was low.",
    "They sold it to Brown & Co.| It was cheap.",
    "She lived in the U.S. for ten years.| He works for the U.S. Senate.",
    "She lives in the U.S.| She likes it there.",
    "The train left at 5 p.m. sharp.| Nobody was late.",
    "It opened on Jan. 5, 1999, in Oslo.| It closed soon.",
    "It cost $3.50.| Prices rose by 2.5 per cent.",
    "Version 2.0.1 is out.| Get it at https://example.org/a.b/index.html.| It is free.",
    "Write to a.b@example.org.| We will answer.",
    'She said, "It is done." and left.',
    'She said, "It is done."| She left.',
    "He asked (was it a joke?) whether we would come.",
    "He hesitated ... and went on.| Then he stopped.…| The end came.",
    "First, e.g. apples; second, i.e. pears, etc. are sold here.",
    "1. Open the box.| 2. Take out the lamp.",
    "1) Open the box| 2) Take out the lamp",
    "• Bread\n|• Milk",
    "Shopping list\n|bread\n|milk\n|A heading without a stop\n\n|The text below it.",
    "The letter was wrapped by its width, which is why a line of it\ngoes on here.| It ends there.",
    "A line as long as this one may also end on the\nName of something.",
    "the whole text is in lower case .| it has been tokenised .| nobody knows why .",
    "no final stop",
    "It ended.|The next began without a space.",
    "Node.js and Asp.Net are names.",
    "它在1932年开放。|桥是灰色的！|你知道吗？",
    "彼は「もう終わった。」と言った。|私は帰った。",
    "هل وصل القطار؟| نعم، وصل.",
    "यह एक पुल है।| यह पुराना है।",
    "¿Está abierto?| ¡Sí!| Entre, por favor.",
    "[...] The text began earlier.| It goes on.",
]


@pytest.mark.parametrize("case", CASES)
def test_hard_cases(case):
    """Abbreviations, decimals, quotes, lists, line breaks, no final stop, other scripts."""
    text = case.replace("|", "")
    expected = [part.strip() for part in case.split("|")]
    assert [text[start:end] for start, end in split_sentences(text)] == expected


@given(
    st.text(alphabet=st.sampled_from("aB1 .!?。\n\"'()\u00a0…•,-\t\r\x00é"), max_size=200)
    | st.text(max_size=200)
)
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
