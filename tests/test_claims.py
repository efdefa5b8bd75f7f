"""What is a claim and what is none: references are taken off, no sentence that carries a fact is dropped."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modernbert_nli.claims import ABOUT_SOURCE, CLAIM, Part, one_claim, read_parts
from modernbert_nli.sentences import split_sentences

OPENS = "The library opens at nine."


def parts_of(answer: str) -> list[Part]:
    return read_parts(answer, split_sentences(answer))


def claims_of(answer: str) -> list[str]:
    return [part.plain.text for part in parts_of(answer) if part.judged]


@pytest.mark.parametrize(
    "answer",
    [
        "The library opens at nine [1].",
        "The library opens at nine. [1]",
        "The library opens at nine.[1]",
        "The library opens at nine.[1][2]",
        "The library opens at nine [1, 2].",
        "The library opens at nine [12–14].",
        "The library opens at nine [^1].",
        "The library opens at nine (1).",
        "The library opens at nine. (1)",
        "The library opens at nine【4:0†rules.pdf】.",
        "The library opens at nine.【1】",
        "The library opens at nine¹.",
        "The library opens at nine.¹²",
        "The library opens at nine.<sup>1</sup>",
        "The library opens at nine.<sup>[1]</sup>",
        "The library opens at nine†.",
        "The library opens at nine [rules.pdf].",
        "The library opens at nine [rules of the house.docx, p. 3].",
        "The library opens at nine. (Source: rules.pdf, p. 3)",
        "The library opens at nine (source: the rules).",
        "The library opens at nine [Source: the rules].",
        "The library opens at nine (see p. 3).",
        "The library opens at nine (see Section 4.2).",
        "The library opens at nine (p. 12).",
        "The library opens at nine (https://example.org/rules).",
        "The library opens at nine ([1](https://example.org/rules)).",
        "The library opens at nine [1](https://example.org/rules).",
        "The library opens at nine [rules.pdf](https://example.org/rules.pdf).",
        "The library opens at nine [Source 1].",
        "The library opens at nine [doc 2].",
        "The library opens at nine [citation needed].",
        "The library opens at nine (Holt et al., 2019).",
        "1. The library opens at nine.",
        "- The library opens at nine.",
        "> The library opens at nine.",
        "(1) The library opens at nine.",
        "**The library opens at nine.**",
        "The **library** opens at *nine*.",
        "# The library opens at nine.",
        "<p>The library opens at <b>nine</b>.</p>",
        "```\nThe library opens at nine.\n```",
        "The library opens\nat nine.",
        "The libra-\nry opens at nine.",
        "According to the text, The library opens at nine.",
        "The provided document states that The library opens at nine.",
        "Sure! The library opens at nine.",
        "Sure, The library opens at nine.",
        "Please note that The library opens at nine.",
        "Answer: The library opens at nine.",
        "To answer your question, The library opens at nine.",
        "The library opens at nine [[1]].",
        "The library opens at nine.[[1]](https://example.org)",
        "The library opens at nine.^[1]^",
        "The library opens at nine {1}.",
        "The library opens at nine [§4.2].",
        "The library opens at nine [S1].",
        "The library opens at nine [D3, p. 2].",
        "The library opens at nine [a].",
        "The library opens at nine (Doc 1, Doc 3).",
        "The library opens at nine (source 1, page 4).",
        "The library opens at nine [rules.pdf, p. 3; terms.pdf, p. 9].",
        "The library opens at nine ([rules](https://example.org/rules)).",
    ],
)
def test_what_stands_around_a_claim_is_taken_off(answer):
    """References, marks of lists, mark-up, line breaks, openings: in any place."""
    assert claims_of(answer) == [OPENS]


@pytest.mark.parametrize(
    "claim",
    [
        "1984 was written by Orwell.",
        "The hall (built in 1932) is closed.",
        "The hall is closed (for good).",
        "The values lie in [0, 1].",
        "The values lie between [1, 10].",
        "The room has 30 m² and the flat 2 km².",
        "The energy is E=mc².",
        "The rate is 5 mol⁻¹.",
        "The Lakers (98) beat the Bulls (95).",
        "Team A (3) beat team B (2).",
        "The [first] of them is red.",
        "It was written in C# in 2004.",
        "The file config.json (see above all) must exist.",
        "He won (2019) and lost (2020).",
        "The source of income (rent) fell.",
        "Freedom of speech (Article 5) is guarded.",
        "She was born in 1901 (†1960).",
    ],
)
def test_what_is_no_reference_stays(claim):
    """Parenthesised content, intervals, units, years, scores."""
    if "see above" in claim:
        claim = claim.replace(" (see above all)", "")
    assert claims_of(claim) == [claim]


def test_numbers_before_a_reference_stay():
    """A year is none."""
    assert claims_of("1984 (1) was written by Orwell.") == ["1984 was written by Orwell."]
    assert claims_of("It has 12 rooms [3].") == ["It has 12 rooms."]
    assert claims_of("It costs 5 [1]. It was 4 [2].") == ["It costs 5.", "It was 4."]


FACTS = [
    "Sure, the library opens at nine.",
    "Hello Kitty was created in 1974.",
    "Hello Kitty is a cat.",
    "Please note that refunds take 14 days.",
    "Thanks to the new law, taxes fell.",
    "Great Britain is an island.",
    "Good questions were asked by the board.",
    "Let me know is a song by Roisin Murphy.",
    "Hi-fi systems are sold here.",
    "Hey Jude is a song.",
    "Sorry is the hardest word.",
    "Of course he denied it.",
    "Certainly the bridge is old.",
    "Welcome Street is closed.",
    "I hope to see the bridge.",
    "The manager can help you with refunds.",
    "If you have a dog, you pay ten euros.",
    "Contact us within 14 days.",
    "Please contact the landlord before moving.",
    "Let us know two weeks in advance if you move.",
    "Here lies the king.",
    "Here the river is deep.",
    "Yes, dogs are allowed.",
    "No, the library is closed.",
    "No dogs are allowed.",
    "No leaks were found.",
    "Nobody was hurt.",
    "Questions are answered by the clerk.",
    "Sources close to the mayor deny it.",
    "References are required.",
    "Rules apply to everyone.",
    "He asked whether it was open.",
    'He asked "why?" and left.',
    "Prices: 5 euros for adults.",
    "Nine o'clock",
    "12",
    "Berlin",
    "Members may borrow ten books",
    "- bread",
    "The following day it rained.",
    "As an AI company, it employs 300 people and trains models.",
    "Best of all was the soup.",
    "See you is a bar in Bergen.",
    "I am not sure footed, said the goat.",
    "Exactly 300 people came.",
    "Right turns are forbidden.",
    "Perfect numbers are rare.",
    "Enjoy is a magazine.",
    "Understood properly, the rule is simple.",
    "Dear Evan Hansen is a musical.",
    "Have a nice day is an album.",
    "There is no evidence of water on the moon.",
    "The policy does not cover water damage.",
    "The document was signed in 1932.",
    "The text is long.",
    "Did you know that the bridge is red?",
    "Dear prices fell.",
    "Answer machines are sold here.",
    "Good news spread fast.",
    "No information was lost.",
]


@pytest.mark.parametrize("fact", FACTS)
def test_no_fact_is_dropped(fact):
    """Whatever it begins with."""
    (part,) = parts_of(fact)
    assert part.kind == CLAIM
    (other, part) = parts_of(f"{OPENS}\n\n{fact}")
    assert (other.kind, part.kind) == (CLAIM, CLAIM)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *[
            (text, "filler")
            for text in (
                "Hello!",
                "Hi there!",
                "Hello Anna,",
                "Good morning!",
                "Sure!",
                "Sure, I can help.",
                "Sure, I can help you with that!",
                "Of course.",
                "Of course! 😊",
                "Certainly!",
                "Yes.",
                "Great question!",
                "That's a great question.",
                "Thank you for your question.",
                "Thanks for asking!",
                "Thanks!",
                "You're welcome!",
                "I'd be happy to help.",
                "I’m happy to help with that!",
                "Happy to help!",
                "Let me know if you have other questions!",
                "Please let me know if you need anything else.",
                "Feel free to ask if you need more details.",
                "Don't hesitate to reach out for further information.",
                "If you have any other questions, feel free to ask!",
                "If you need more details, just let me know.",
                "I hope this helps!",
                "I hope this answers your question.",
                "I hope that helps, let me know if you need anything else!",
                "I'm sorry, but I can't help with that.",
                "Sorry for the confusion.",
                "I apologize for the inconvenience.",
                "I don't know.",
                "I am not sure.",
                "As an AI language model, I do not have access to your files.",
                "Let me explain.",
                "Let's take a look.",
                "Here is what I found.",
                "Here is the summary.",
                "Have a great day!",
                "Best regards,",
                "No problem, happy to help!",
                "Good news!",
                "Hope that helps!",
                "Happy to clarify further.",
                "If you'd like more details, just let me know!",
                "Dear Ms Holt,",
                "Kind regards, The team",
            )
        ],
        *[
            (text, "lead-in")
            for text in (
                "Here are the rules:",
                "The rules are as follows:",
                "**Here are the rules:**",
                "In short:",
                "The library offers:",
                "Based on the document, here is the answer:",
            )
        ],
        *[
            (text, "question")
            for text in (
                "Is it open?",
                "Would you like to know more?",
                "**Why?**",
                "When does it open? [1]",
                "“Is it open?”",
                "它开了吗？",
            )
        ],
        *[
            (text, "heading")
            for text in ("**Rules**", "## Rules", "## How to return an item", "Rules", "<h2>Rules</h2>")
        ],
        *[
            (text, "reference")
            for text in (
                "(1)",
                "[1]",
                "(Source: rules.pdf)",
                "rules.pdf",
                "https://example.org/a",
                "Source: rules.pdf, p. 3",
            )
        ],
        ("```python\nprint('The library opens.')\n```", "code"),
    ],
)
def test_what_is_no_claim(text, kind):
    """Alone and before a claim; a heading is one only before a claim."""
    first, *rest, last = parts_of(f"{text}\n\n{OPENS}")
    assert {first.kind, *(part.kind for part in rest)} == {kind}
    assert (last.kind, last.plain.text) == (CLAIM, OPENS)
    if kind != "heading":
        assert claims_of(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "The text does not say how long it takes.",
        "The document doesn't mention fees.",
        "The provided text does not specify the price.",
        "The report does not mention costs.",
        "The text never mentions a garden.",
        "There is no information about parking.",
        "There is no mention of a garden in the document.",
        "The document contains no information on fees.",
        "The context does not provide details on fees.",
        "No information about fees is provided.",
        "It is not specified how long it takes.",
        "Fees are not mentioned in the document.",
        "Unfortunately, the document doesn't mention fees.",
        "However, the text does not state when it closes.",
        "I could not find any information about fees in the document.",
        "The source doesn’t explicitly state the price [1].",
        "I cannot determine when the bridge was built.",
        "I'm sorry, I couldn't find that in the documents.",
        "I am sorry, but I could not find it.",
        "The passage is silent on this.",
        "Not mentioned.",
    ],
)
def test_a_statement_about_the_source(text):
    """Is told from a claim about the world."""
    assert [part.kind for part in parts_of(text)] == [ABOUT_SOURCE]


@pytest.mark.parametrize(
    "text",
    [
        "The library opens at nine, but the text does not say when it closes.",
        "The library opens at nine; however, the document does not mention Sundays.",
        "The library opens at nine, although there is no information about Sundays.",
    ],
)
def test_a_clause_about_the_source_is_taken_off(text):
    """What is left is the claim."""
    assert claims_of(text) == [OPENS]


@pytest.mark.parametrize(
    "sources",
    [
        "Sources:\n[1] rules.pdf\n[2] https://example.org/rules",
        "References\n\n1. Handbook of the library\n2. House rules, 2019",
        "**Sources:**\n- rules.pdf\n- The house rules",
        "## References\n[1]: https://example.org/rules",
        "Source: rules.pdf",
        "Sources: [1] rules.pdf",
        "[1] rules.pdf",
        "[^1]: https://example.org/rules",
    ],
)
def test_sources_at_the_end(sources):
    """Are no claims, whatever they are called."""
    assert claims_of(f"{OPENS}\n\n{sources}") == [OPENS]


def test_claims_after_a_list_of_sources():
    """Are claims again."""
    answer = f"Sources:\n[1] rules.pdf\n\n{OPENS}"
    assert claims_of(answer) == [OPENS]


def test_an_item_completes_what_led_in():
    """A fragment alone says nothing; a sentence does, and so does an item after "Here are the rules:"."""
    answer = "The warranty does not cover:\n- water damage\n- scratches\n\nIt is short."
    assert claims_of(answer) == [
        "The warranty does not cover: water damage",
        "The warranty does not cover: scratches",
        "It is short.",
    ]
    assert claims_of("The rules:\n- Dogs are banned.") == ["Dogs are banned."]
    assert claims_of("Here are the rules:\n1. No dogs\n2. No bikes") == ["No dogs", "No bikes"]


def test_an_answer_of_many_kinds():
    """As a chatbot writes them."""
    answer = (
        "Great question! Here is what the handbook says:\n\n"
        "## Opening hours\n\n"
        "1. **The library** opens at nine [1].\n"
        "2. Members may borrow ten books.[2]\n\n"
        "The text does not mention Sundays. Does that help? Let me know if you have more questions!\n\n"
        "Sources:\n[1] rules.pdf\n[2] https://example.org/rules"
    )
    kinds = [part.kind for part in parts_of(answer)]
    assert kinds == [
        *("filler", "lead-in", "heading", "claim", "claim", "about the source", "question", "filler"),
        *("reference",) * 3,
    ]
    assert claims_of(answer)[:2] == [OPENS, "Members may borrow ten books."]


def test_one_claim_as_a_one_claim():
    """Is judged whatever it is, without its marks."""
    assert one_claim("**The library** opens at nine [1].").plain.text == OPENS
    assert one_claim("Hello!").kind == CLAIM
    assert one_claim("[1]").plain.text == "[1]"
    assert one_claim("- It rains. It pours. [2]").plain.text == "It rains. It pours."


PIECES = [
    "Sure! ",
    "[1]",
    "(2)",
    "\n",
    "\n- ",
    "**",
    "Here are the rules:",
    OPENS,
    " ",
    "?",
    "Sources:\n",
    "¹",
    "##",
    "```",
    "a",
]


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join) | st.text(max_size=100))
def test_any_answer(answer):
    """Each part has its place, and each character of a claim too."""
    spans = list(split_sentences(answer))
    parts = read_parts(answer, spans)
    assert [part.span for part in parts] == [span for span in spans if re.search(r"\w", answer[slice(*span)])]
    for part in parts:
        places = part.plain.places
        assert len(places) == len(part.plain.text) + 1
        assert places == sorted(places)
        assert not part.judged or part.plain.text.strip()
