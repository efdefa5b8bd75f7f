"""What is known of a pair without heads: what holds word for word, and what leaves it undecided."""

from functools import cache

import pytest
from conftest import PAIRS, make_model
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

import modernbert_nli
from modernbert_nli.guards import (
    CUT,
    DOUBLE,
    OPPOSITE,
    ORDER,
    QUANTITY,
    REASONS,
    SAME,
    SIGNS,
    UNCERTAIN,
    UNREADABLE,
    difference,
    excepted,
    is_question,
    level,
    overruled,
    readable,
    statements,
    unknown,
    verbatim,
    veto,
)

LABELS = ("entailment", "neutral", "contradiction")


@pytest.fixture(scope="module")
def tokenizer(minilm):
    return AutoTokenizer.from_pretrained(minilm)


@pytest.fixture(scope="module")
def byte_level(tiny_modernbert):
    """A tokenizer that breaks English words too."""
    return AutoTokenizer.from_pretrained(tiny_modernbert)


@pytest.fixture(scope="module")
def quick():
    return modernbert_nli.load(device="cpu")


# Word for word


WHOLE = [
    ("The kiosk sells stamps. It closes at six.", "The kiosk sells stamps."),
    ("The kiosk sells stamps. It closes at six.", "it closes at six"),
    ("THE KIOSK SELLS STAMPS.", "The kiosk sells stamps!"),
    ("The kiosk   sells\u00a0stamps.", "The kiosk sells stamps."),
    ("Ｔｈｅ ｋｉｏｓｋ sells stamps.", "The kiosk sells stamps."),
    ("The oﬃce is on the ﬁrst ﬂoor.", "The office is on the first floor."),
    ("Marks &amp; Miller opened in May.", "Marks & Miller opened in May."),
    ("It is caf&eacute; time.", "It is café time."),
    ("It is cafe\u0301 time.", "It is café time."),
    ("“We won,” she said.", '"We won," she said.'),
    ("It’s a co‑op — and small.", "It's a co-op - and small."),
    ("The of\u00adfice is small.", "The office is small."),
    ("Doors open at 9 a.m. sharp.", "Doors open at 9 AM sharp."),
    ("The US signed. Canada did not.", "the US signed"),
    ("It uses 5 MW. It is loud.", "It uses 5 MW"),
    ("- The kiosk sells stamps.\n- It closes at six.", "The kiosk sells stamps."),
    ("The rules are these:\n- no dogs\n\nThe kiosk sells stamps.", "The kiosk sells stamps."),
    ("猫が寝ている。犬が走る。", "犬が走る"),
    ("Is it open? The kiosk sells stamps.", "The kiosk sells stamps."),
    ("The kiosk sells stamps. It closes at six.", "The kiosk sells stamps. It closes at six."),
    ("✅", "✅"),
]
NOT_WHOLE = [
    ("Nobody said tickets are free.", "Tickets are free."),
    ("The lift works not at all.", "The lift works"),
    ("It is false that the lift works.", "The lift works."),
    ("If the lift works, we go up.", "The lift works."),
    ("Is the lift working?", "Is the lift working?"),
    ("The lift works?", "The lift works."),
    ("The lift works.", "The lift works?"),
    ("She wrote: “It rained. The lift works. All is well.”", "The lift works."),
    ('"It rained. The lift works. All is well," she wrote.', "The lift works."),
    ("'It rained. The lift works.' That is a lie.", "The lift works."),
    ("Common mistakes:\n- The lift works.\n- The shop is open.", "The lift works."),
    ("What is not true:\n\nThe lift works.", "The lift works."),
    ("No\ndamage was found.", "Damage was found."),
    ("The lift works\nnot on Sundays.", "The lift works"),
    ("The virus reached the US.", "The virus reached us."),
    ("IT is expensive, they say.", "It is expensive, they say."),
    ("The file has 5 Mb.", "The file has 5 mb."),
    ("It draws 5 mW.", "It draws 5 MW."),
    ("It is 10² metres.", "It is 102 metres."),
    ("It takes 1½ hours.", "It takes 11/2 hours."),
    ("It is -5 degrees.", "It is 5 degrees."),
    ("The lift works.", "..."),
    ("...", "!!!"),
]


@pytest.mark.parametrize(("premise", "hypothesis"), WHOLE)
def test_a_whole_sentence_is_verbatim(premise, hypothesis):
    assert verbatim(premise, hypothesis)


@pytest.mark.parametrize(("premise", "hypothesis"), NOT_WHOLE)
def test_a_part_a_quote_or_a_question_is_not(premise, hypothesis):
    assert not verbatim(premise, hypothesis)


@given(st.text(min_size=1))
def test_any_text_states_itself_unless_it_asks(text):
    assert verbatim(text, text) == (bool(level(text)) and not is_question(level(text)))


@given(
    st.lists(st.sampled_from(["The lift works. ", "It rains. ", "Who knows? ", "“No.” ", "\n"]), max_size=8)
)
def test_statements_stand_where_they_are_said_to(parts):
    text = "".join(parts)
    for levelled, (start, end) in statements(text).items():
        assert level(text[start:end]) == levelled
        assert verbatim(text, text[start:end])


def test_ready_sentences_are_taken():
    text = "It rains. The lift works."
    assert list(statements(text, [(0, 9), (10, 25)])) == ["it rains", "the lift works"]


# Quantities, order, negation


DIFFERENT = [
    (QUANTITY, "The bus leaves at 8 a.m.", "The bus leaves at 8 p.m."),
    (QUANTITY, "The trail is 9 km long.", "The trail is 9 miles long."),
    (QUANTITY, "Take 20 mg daily.", "Take 20 g daily."),
    (QUANTITY, "It holds 3 MB.", "It holds 3 Mb."),
    (QUANTITY, "The lake is 40 metres deep.", "The lake is 14 metres deep."),
    (QUANTITY, "It costs $15.", "It costs €15."),
    (QUANTITY, "Its budget is 12,000 euros.", "Its budget is 1,200 euros."),
    (QUANTITY, "Twelve people came.", "Two people came."),
    (QUANTITY, "We met on 7 June 2020.", "We met on 6 July 2020."),
    (QUANTITY, "It was -5 °C outside.", "It was 5 °C outside."),
    (QUANTITY, "It rained. The shop in Bergen opens at 9:30 on weekdays.", "The shop opens at 8:30."),
    (ORDER, "The goat chased the boy.", "The boy chased the goat."),
    (ORDER, "She sang before she danced.", "She danced before she sang."),
    (ORDER, "The train from Oslo to Bergen is full.", "The train from Bergen to Oslo is full."),
    (ORDER, "Iron is heavier than wood.", "Wood is heavier than iron."),
    (ORDER, "Not all of the birds fly.", "All of the birds not fly."),
    (OPPOSITE, "Keep it below 4 bar.", "Keep it above 4 bar."),
    (OPPOSITE, "At least 30 came.", "At most 30 came."),
    (OPPOSITE, "The lift is working.", "The lift is not working."),
    (OPPOSITE, "No leaks were found.", "Leaks were found."),
    (OPPOSITE, "The lift isn't working.", "The lift is working."),
    (OPPOSITE, "Rest after the meal.", "Rest before the meal."),
    (OPPOSITE, "It is unsafe to swim here.", "It is safe to swim here."),
    (OPPOSITE, "The rule is popular here.", "The rule is unpopular here."),
]
EQUAL = [
    ("The sum is 2,500 euros.", "The sum is 2500 euros."),
    ("We met on 7 June 2020.", "We met on June 7, 2020."),
    ("We met on 7th of June 2020.", "We met on 7 June 2020."),
    ("We met on 2020-06-07.", "We met on 7 June 2020."),
    ("Twelve people came.", "12 people came."),
    ("Twenty-one people came.", "21 people came."),
    ("It costs $15.", "It costs 15 dollars."),
    ("It is 5 km away.", "It is 5 kilometres away."),
    ("It has 3 million users.", "It has 3,000,000 users."),
    ("It opens at 7:00 a.m. daily.", "It opens at 7 am daily."),
    ("It takes 1.50 litres.", "It takes 1.5 l."),
]
APART = [
    ("The goat chased the boy.", "The boy was chased by the goat."),
    ("In 1950 the dam opened.", "The dam opened in 1950."),
    ("A girl at a wedding holds flowers.", "A girl holds flowers at a wedding."),
    ("Two men are walking.", "Some people are outside."),
    ("The lift is not out of order at all.", "The lift can be used."),
    ("Nobody doubts that it works well.", "It works well."),
    ("Paper is 2 euros, ink is 9 euros.", "Paper is 2 euros."),
    ("The man with no hat is walking the dog.", "The man is walking the dog."),
]


@pytest.mark.parametrize(("reason", "premise", "hypothesis"), DIFFERENT)
def test_what_differs_is_not_entailed(tokenizer, reason, premise, hypothesis):
    """And what the heads say otherwise stands."""
    assert difference(premise, hypothesis) == reason
    assert [veto(premise, hypothesis, label, tokenizer) for label in LABELS] == [reason, None, None]


@pytest.mark.parametrize(
    ("premise", "hypothesis"),
    [
        ("It is not impossible to win.", "It is possible to win."),
        ("Snow is common in May.", "Snow is not uncommon in May."),
        ("The road isn't unsafe at night.", "The road is safe at night."),
        ("Nobody was not at home.", "Was at home."),
    ],
)
def test_a_double_negation_contradicts_nothing(tokenizer, premise, hypothesis):
    assert [veto(premise, hypothesis, label, tokenizer) for label in LABELS] == [None, DOUBLE, DOUBLE]


@pytest.mark.parametrize(("premise", "hypothesis"), EQUAL)
def test_what_is_only_written_otherwise_is_entailed_or_undecided(tokenizer, premise, hypothesis):
    assert difference(premise, hypothesis) == SAME
    assert [veto(premise, hypothesis, label, tokenizer) for label in LABELS] == [None, SAME, SAME]


@pytest.mark.parametrize(("premise", "hypothesis"), [*APART, *PAIRS])
def test_other_pairs_are_left_to_the_heads(tokenizer, premise, hypothesis):
    assert {veto(premise, hypothesis, label, tokenizer) for label in LABELS} == {None}


# What the tokenizer does not know


@pytest.mark.parametrize(
    ("premise", "hypothesis"),
    [
        ("Wi-Fi: ✅", "Wi-Fi: ❌"),
        ("The pump is 🟢 today.", "The pump is 🔴 today."),
        ("The vote: 👍", "The vote: 👎"),
        ("The flight to 🇫🇷 is on time.", "The flight to 🇪🇸 is on time."),
        ("Breakfast is included ❌", "Breakfast is included"),
        ("The pump is running.", "The pump is running ⚠ now."),
    ],
)
def test_unknown_signs_are_not_equal(tokenizer, premise, hypothesis):
    assert [veto(premise, hypothesis, label, tokenizer) for label in LABELS[::2]] == [SIGNS, SIGNS]


@pytest.mark.parametrize(
    ("premise", "hypothesis"),
    [
        ("The pump is 🟢 today.", "The pump 🟢 runs."),
        ("We had a great day 😀 and saw the new bridge.", "They saw a bridge."),
        ("Die Straße – “so”.", "A street."),
    ],
)
def test_equal_ones_and_those_of_the_premise_alone_are_none_of_it(tokenizer, premise, hypothesis):
    assert veto(premise, hypothesis, "entailment", tokenizer) != SIGNS


@pytest.mark.parametrize(
    "text",
    [
        "我在图书馆看书。",
        "猫がソファで寝ている。",
        "Кошка спит на диване, а собака лает.",
        "Η γάτα κοιμάται στον καναπέ.",
        "القطة نائمة على الأريكة",
        "Der Hausmeister schließt abends die Kellertür zweimal ab.",
        "Kot śpi na kanapie, a pies szczeka w ogrodzie.",
        "wqx plfgh zzrt kjhgf",
        "dGhlIHF1aWNrIGJyb3duIGZveCBqdW1wcyBvdmVy",
        "✅ ✅ ❌",
    ],
)
def test_what_is_no_english_is_not_read(tokenizer, text):
    assert not readable(text, tokenizer)
    result = {"label": "neutral", "probs": {}, "reason": None, "uncertainty": 0.0, "abstain": False}
    for pair in ((text, "The cat sleeps."), ("The cat sleeps.", text)):
        assert {veto(*pair, label, tokenizer) for label in LABELS} == {UNREADABLE}
        assert overruled(*pair, result, 0.5, tokenizer, told=False)["reason"] == UNREADABLE
        assert overruled(*pair, result, 0.5, tokenizer, told=True) == result  # whose heads read it


@pytest.mark.parametrize(
    "text",
    [
        "The Galaxy S24 Ultra weighs 232 g.",
        "41, 38, 52, 60, 71",
        "Hydroxychloroquine did not reduce mortality in hospitalised patients.",
        "Mr Szczepański lives in Kraków.",
        "NASA and ESA launched it.",
        "ok",
        "$3.4bn",
        "Bus 7B stops at Llanfairpwllgwyngyll.",
        "Call +44 20 7946 0958.",
        "gonna b late lol",
    ],
)
def test_names_and_numbers_are_read(tokenizer, text):
    assert readable(text, tokenizer)


def test_a_tokenizer_of_bytes_tells_nothing(byte_level):
    """It breaks English as it breaks anything, and has no unknown tokens."""
    assert readable("wqx plfgh zzrt", byte_level)
    assert not unknown("Wi-Fi: ✅", byte_level)
    assert veto("Wi-Fi: ✅", "Wi-Fi: ❌", "entailment", byte_level) is None


@cache
def _tokenizer():
    return modernbert_nli.load(device="cpu").tokenizer


@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from(LABELS))
def test_no_text_is_an_error(premise, hypothesis, label):
    assert veto(premise, hypothesis, label, _tokenizer()) in (None, *REASONS)


_ALPHABET = st.sampled_from("0123456789.,:-@/½²٣$€%° \nabkmst'\"“”«»()!?…") | st.sampled_from(
    ["may ", "3 May ", "1st ", "twenty ", "million ", " not ", "n't ", "a.m. ", "&amp;", "- "]
)


@given(st.lists(_ALPHABET, max_size=25), st.lists(_ALPHABET, max_size=25))
def test_no_number_is_an_error(premise, hypothesis):
    one, other = "".join(premise), "".join(hypothesis)
    assert difference(one, other) in (None, *REASONS)
    verbatim(one, other)


# In results


@pytest.mark.parametrize("encoding", ["joint", "separate"])
@pytest.mark.parametrize("batch_size", [1, 32])
def test_a_text_entails_itself(quick, encoding, batch_size):
    """In any batch, among others, whatever heads say; these are the heads' own as before."""
    numbers = "The gauge read " + ", ".join(map(str, range(40, 64))) + " on those days."
    texts = [numbers, "The fee does not cover the room.", "Sales fell 8.5% to £2.1 million last year."]
    pairs = [
        pair for text in texts for pair in ((text, text), (f"It rained. {text} All left.", text), PAIRS[0])
    ]
    results = quick(pairs, encoding=encoding, batch_size=batch_size)
    for result, pair in zip(results, pairs, strict=True):
        if pair == PAIRS[0]:
            assert "rule" not in result
            continue
        assert (result["label"], result["confidence"], result["uncertainty"]) == ("entailment", 1.0, 0.0)
        assert (result["rule"], result["abstain"], result["reason"]) == ("verbatim", False, None)
        assert result["probs"] == {"entailment": 1.0, "neutral": 0.0, "contradiction": 0.0}
    assert quick(*pairs[0], threshold=0.0)["reason"] == UNCERTAIN


def test_a_veto_holds_at_any_threshold(quick):
    """It shows as an uncertainty of 1, so that whoever compares it with a threshold sees it too."""
    pair = ("The bus leaves at 7 a.m.", "The bus leaves at 7 p.m.")
    (alone,) = quick._stream([pair], 1, {}, {}, {"threshold": 1.0}, guarded=False)
    assert (alone["label"], alone["abstain"], alone["reason"]) == ("entailment", False, None)
    for threshold in (0.0, 0.3, 1.0):
        result = quick(*pair, threshold=threshold)
        assert (result["abstain"], result["uncertainty"], result["reason"]) == (True, 1.0, QUANTITY)
        assert result["probs"] == pytest.approx(alone["probs"], abs=1e-5)


def test_every_abstention_has_a_reason(quick):
    results = quick(
        [*PAIRS, ("Wi-Fi: ✅", "Wi-Fi: ❌"), ("qwx plfgh", "zrt vbnm kjh"), ("It rains.", "It is big.")]
    )
    for result in results:
        assert (result["reason"] in REASONS) if result["abstain"] else (result["reason"] is None)
    assert [result["reason"] for result in results[-3:-1]] == [SIGNS, UNREADABLE]


@pytest.mark.parametrize("label", LABELS)
def test_a_cut_premise_may_say_what_was_not_read(tiny_modernbert, label):
    """What follows from a part follows from the whole; that a part says nothing means nothing."""
    model = make_model(tiny_modernbert)
    model.nli_output.weight.data.zero_()
    model.nli_output.bias.data = 5.0 * (model.nli_output.bias.new_tensor([name == label for name in LABELS]))
    long, short = model.as_pipeline()(
        [("The dog runs. " * 300, "It is wet."), ("The dog runs.", "It is wet.")], threshold=1.0
    )
    assert long["truncated"]
    assert long["reason"] == (CUT if label == "neutral" else None)
    assert (short["label"], short["reason"]) == (label, None)


def test_routes_know_nothing_of_it(quick):
    """A category's hypothesis is no claim, and both encodings say what the heads say."""
    text, known = "This is about music.", {"music": "This is about music.", "sport": "This is about sport."}
    for encoding in ("joint", "separate"):
        pipe = quick.model.as_pipeline(encoding=encoding)
        assert all("rule" not in score for score in pipe.route(text, known)["scores"].values())


def test_calibration_and_evaluation_see_what_users_get(quick):
    """What no threshold lets through has an uncertainty of 1, so that a guarantee covers the rules."""
    from modernbert_nli.calibrating import command as calibrate

    pairs = {
        "premises": ["The bus leaves at 7 a.m.", "The fee is paid."],
        "hypotheses": ["The bus leaves at 7 p.m.", "The fee is paid."],
        "labels": ["contradiction", "entailment"],
    }
    for judged in calibrate.judge(quick, pairs).values():
        assert judged.uncertainty.tolist() == [1.0, 0.0]
        assert judged.errors.tolist() == [True, False]


@pytest.mark.parametrize(
    ("premise", "hypothesis", "expected"),
    [
        ("The warranty covers parts but not labour.", "The warranty covers labour.", True),
        ("The warranty covers parts but not labour.", "The warranty covers parts.", False),
        ("The warranty covers parts but not labour.", "The warranty does not cover labour.", False),
        ("All staff except interns get a bonus.", "Interns get a bonus.", True),
        ("All staff except interns get a bonus.", "Staff get a bonus.", False),
        ("The museum is open daily except on Mondays.", "The museum is open on Monday.", True),
        ("We take cards, not cheques.", "We take cheques.", True),
        ("The hotel has a pool but lacks a gym.", "The hotel has a gym.", True),
        ("It comes with a case rather than a strap.", "It comes with a strap.", True),
        ("Dogs may come in, apart from the kitchen. Cats love the kitchen.", "Cats love the kitchen.", False),
        ("A man without a hat sits on the bench.", "A man sits on the bench.", False),
        ("You can pay without an account.", "You can pay without an account.", False),
    ],
)
def test_what_is_excepted_is_not_entailed(premise, hypothesis, expected):
    """By what the sentence says of the others."""
    assert excepted(premise, hypothesis) is expected


def test_an_exception_leaves_entailment_undecided(quick):
    """Whatever the heads say; another label they may give."""
    result = quick("All staff except interns get a bonus.", "Interns get a bonus.", threshold=1.0)
    assert result["label"] != "entailment" or (result["abstain"] and result["reason"] == OPPOSITE)
