"""Mark-up is read through, what only looks like it stays, and each character knows its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modernbert_nli.markup import plain

READ = [
    ("The **library** opens at *nine*.", "The library opens at nine."),
    ("__Members__ may ~~not~~ borrow _ten_ `books`.", "Members may not borrow ten books."),
    ("***Both*** and **one *in* another** and *one **in** it*", "Both and one in another and one in it"),
    ("a\n>", "a"),
    ("`a*b*c` and ``x ` y``", "a*b*c and x ` y"),
    ('See [the **rules**](https://example.org/a_(b) "title").', "See the rules."),
    (
        "See <https://example.org/x_y> or <a_b@example.org>.",
        "See https://example.org/x_y or a_b@example.org.",
    ),
    ("It is deep.[1](https://example.org/deep)", "It is deep.[1]"),
    ("<p>It is <b>deep</b>.</p><p class=\"x\">It is <a href='y'>cold</a>.</p>", "It is deep. It is cold."),
    ("one<br>two<br/>three<!-- no -->", "one two three"),
    ("H<sub>2</sub>O, 10<sup>6</sup> m<sup>2</sup>", "H2O, 10⁶ m²"),
    ("R&amp;D&nbsp;costs &#163;5 at the caf&eacute;, a &lt; b", "R&D costs £5 at the café, a < b"),
    ("in\u00advis\u00adi\u200bble\ufeff", "invisible"),
    ("broken\r\nby its   width\u2028alone", "broken by its width alone"),
    ("# Rules", "Rules"),
    ("### 2. Rules ###", "Rules"),
    ("Rules\n=====\nNo dogs.", "Rules No dogs."),
    ("- one", "one"),
    ("* one\n* two", "one two"),
    ("•one", "one"),
    ("1. one\n2. two", "one two"),
    ("(3) one", "one"),
    ("b) one", "one"),
    ("> a quote that\n> goes on", "a quote that goes on"),
    ("> - **one**", "one"),
    ("```\nNo dogs.\n```", "No dogs."),
    ("```text\nNo dogs.\n```", "No dogs."),
    ("这是**重要**的。", "这是重要的。"),
    ("**Note:** no dogs", "Note: no dogs"),
    (r"5 \* 3 and snake\_case cost \$5", "5 * 3 and snake_case cost $5"),
]
HYPHENS = [
    ("the commit-\ntee's report", "the committee's report"),
    ("The Commit-\n  tee", "The Committee"),
    ("inter\u2010\nnational", "international"),
    ("inter\u00ad\nnational", "international"),
    ("a well-\nknown man", "a well-known man"),
    ("twenty-\none", "twenty-one"),
    ("an X-\nray", "an X-ray"),
    ("an e-\nmail", "an e-mail"),
    ("COVID-\n19", "COVID-19"),
    ("a 2-\nyear plan", "a 2-year plan"),
    ("Anglo-\nSaxon", "Anglo-Saxon"),
    ("up-\nto-date", "up-to-date"),
    ("state-of-\nthe-art", "state-of-the-art"),
    ("evidence-\nbased", "evidence-based"),
    ("pre-\nand post-war", "pre- and post-war"),
    ("a word -\nanother", "a word - another"),
]
KEPT = [
    "snake_case_names and __all__x",
    "2 * 3 * 4",
    "5 * 3",
    "2*3*4",
    "x**2 + y**2",
    "f(**kw) and g(**kw)",
    "*args and **kwargs",
    "a < b",
    "x<y and y>z",
    "a <b and c> d",
    "I <3 it",
    "if (a<b && c>d)",
    "#1",
    "C# and F#",
    "#topic of the day",
    "john_m_doe@example.org",
    "https://example.org/_x_/a*b?c=1&d=2#e",
    "R&D and AT&T;",
    "a (*) and b (*)",
    "Prices* and terms*",
    "~5 km, ~10 km",
    "the [first] of them",
    "f[i](x)",
    "1984 was cold.",
    "3.5 million",
    "-5 degrees",
    "+ 5 %",
    "> 5 kg",
    "12. 5. 2019",
    "A. Smith wrote it.",
    "Name: ______",
    "it's `half open",
    "the ` tattoo terrorists ` of tokenised text",
    "pre- and post-war",
    "a - b - c",
    r"C:\new\table",
]


@pytest.mark.parametrize(("text", "expected"), READ + HYPHENS)
def test_mark_up_is_read_through(text, expected):
    """Emphasis, code, links, tags, entities, marks of lines, line breaks, hyphens at a line end."""
    assert plain(text).text == expected


@pytest.mark.parametrize("text", KEPT)
def test_what_only_looks_like_mark_up_stays(text):
    """Names, formulas, comparisons, addresses, signs and numbers."""
    assert plain(text).text == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The length is\n12. The width is 4.", "The length is 12. The width is 4."),
        ("It was found by\nA) nobody", "It was found by A) nobody"),
        ("The list:\n1. one\n2. two", "The list: one two"),
        ("It cost 4\n- 5 euros", "It cost 4 - 5 euros"),
    ],
)
def test_the_mark_of_a_list_begins_a_new_line(text, expected):
    """Not one that goes on from the line before."""
    assert plain(text).text == expected


def test_places_are_those_of_the_whole_text():
    """Of a part too; an entity ends where its sign does."""
    text = "No.\n- **Two** caf&eacute;s.\nNo."
    read = plain(text, (4, text.index("\nNo.")))
    assert read.text == "Two cafés."
    assert [text[place] for place in read.places[:3]] == list("Two")
    assert read.places[-1] == text.index("\nNo.")
    assert text[slice(*read.original(text, 4, 8))] == "caf&eacute;"
    assert text[slice(*read.original(text, 0, 3))] == "Two"


def test_parts_can_be_taken_off():
    """With the white space that is left over; places stay."""
    text = "It is **deep** [1] and *cold* (x)"
    read = plain(text)
    assert read.text == "It is deep [1] and cold (x)"
    found = read.without([(11, 14), (24, 27)])
    assert found.text == "It is deep and cold"
    assert found.places == [*read.places[:11], *read.places[15:24]]
    nothing = read.without([(0, len(read.text))])
    assert (nothing.text, len(nothing.places)) == ("", 1)


ALPHABET = st.sampled_from(
    [*"aB1 *_~`[]()<>#&;!-.:/\\\n>\"'=", "\u00ad", "</p>", "<b>", "&amp;", "http://", "中"]
)


@given(st.lists(ALPHABET, max_size=80).map("".join) | st.text(max_size=120), st.data())
def test_any_text(text, data):
    """Places ascend, lie in the part, and hold the character unless that was replaced."""
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    read = plain(text, (start, end))
    assert len(read.places) == len(read.text) + 1
    assert read.places == sorted(read.places)
    assert all(start <= place <= end for place in read.places)
    assert read.text == " ".join(read.text.split())
    for sign, place in zip(read.text, read.places, strict=False):
        if sign != " " and text[place] not in "&-\u2010" and sign not in "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻":
            assert sign == text[place]


@given(
    st.text(
        st.characters(exclude_characters="*_~`[]<>#&\\-\u2010", exclude_categories=["Cf", "Cs"]), max_size=120
    )
)
def test_plain_text_stays(text):
    """But for white space, and the marks that begin a line."""
    text = "So " + "  ".join(text.split())
    assert plain(text).text == " ".join(text.split())
