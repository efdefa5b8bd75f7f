"""What the page says, without a browser: every outcome, every odd input."""

import ast
import re
from html import unescape

import pytest
from conftest import PACKAGE, ROOT, make_model
from hypothesis import given, settings
from hypothesis import strategies as st

from modernbert_nli.guards import QUANTITY, SIGNS, UNREADABLE
from modernbert_nli.loading import load_pipeline
from modernbert_nli.page import examples
from modernbert_nli.page.about import about
from modernbert_nli.page.answers import check_answer, choose_category, judge_pair, parse_categories
from modernbert_nli.page.documents import checked, document, summary
from modernbert_nli.page.drawing import quote, scale, share
from modernbert_nli.page.guarantee import choice, limit, percent
from modernbert_nli.page.offline import POLICY, Offline


@pytest.fixture(scope="module")
def quick():
    """The pipeline that `make app` serves."""
    return load_pipeline()


@pytest.fixture(scope="module")
def plain(tiny_bert):
    """A pipeline without a calibration, with a window of 128 tokens, that only knows joint encoding."""
    return make_model(tiny_bert).as_pipeline()


def heading(html: str) -> str:
    return re.search(r"<h2>(.*?)</h2>", html)[1]


# The examples, on the checkpoint of the repository --------------------------------------------------------


PAIRS = {  # by name of an example
    "It follows": "Entailment",
    "It is contradicted": "Contradiction",
    "It is not said": "Neutral",
    "It abstains": "No answer",
    "It errs": "Contradiction",
}


@pytest.mark.parametrize("example", examples.PAIRS, ids=lambda example: example.name)
def test_the_example_pairs_come_out_as_their_names_say(quick, example):
    """As the page begins: at the risk that abstains where the checkpoint does."""
    assert list(PAIRS) == [one.name for one in examples.PAIRS]
    expected = PAIRS[example.name]
    html = judge_pair(quick, *example[1:], choice(quick).start)
    assert heading(html) == expected
    assert ("abstains: it is too unsure" in html) == (expected == "No answer")
    assert html.count("<tr") == 3
    assert 'role="img" aria-label="Uncertainty' in html


@pytest.mark.parametrize(
    ("premise", "hypothesis", "said"),
    [
        ("The bus leaves at 7 a.m.", "The bus leaves at 7 p.m.", "The model abstains: " + QUANTITY),
        ("Wi-Fi: ✅", "Wi-Fi: ❌", "The model abstains: " + SIGNS),
        ("猫在睡觉。", "狗在睡觉。", "The model abstains: " + UNREADABLE),
        ("It rained. The fee is paid.", "The fee is paid.", "The premise says so word for word."),
    ],
)
def test_a_pair_says_what_is_known_without_heads(quick, premise, hypothesis, said):
    """At whatever risk."""
    for risk in (choice(quick).start, None):
        html = judge_pair(quick, premise, hypothesis, risk)
        assert said in html
        assert heading(html) == ("No answer" if "abstains" in said else "Entailment")


def test_the_wrong_example_is_not_given_at_a_lower_risk(quick):
    """What the risk is for: Maria did know."""
    pair = next(example for example in examples.PAIRS if example.name == "It errs")
    assert heading(judge_pair(quick, *pair[1:], 0.1)) == "Contradiction"
    assert heading(judge_pair(quick, *pair[1:], 0.05)) == "No answer"


def test_the_example_routes_show_each_outcome(quick):
    """A category that fits, none that does, and names instead of hypotheses; the ranking is always there."""
    risk = choice(quick).start
    fits, none, names = (choose_category(quick, *example[1:], risk) for example in examples.ROUTES)
    assert heading(fits) == "damage"
    assert "<q>Something is broken.</q> fits the text best." in fits
    assert heading(none) == "No category"
    assert "The model declines: nothing fits" in none
    assert heading(names) == "refund"
    for html, count in ((fits, 4), (none, 4), (names, 3)):
        assert html.count("<tr") == count


def test_the_pairs_of_make_demo_are_decided(quick):
    """That which it judges, and that which it suggests."""
    makefile = (ROOT / "Makefile").read_text()
    judged = re.search(r"^PREMISE \?= (.*)\nHYPOTHESIS \?= (.*)$", makefile, re.MULTILINE).groups()
    suggested = re.search(r'make demo PREMISE="(.*?)" HYPOTHESIS="(.*?)"\'$', makefile, re.MULTILINE).groups()
    found = [quick(*pair) for pair in (judged, suggested)]
    assert [(one["label"], one["abstain"]) for one in found] == [
        ("entailment", False),
        ("contradiction", False),
    ]


FACTS = {  # by name of an example: the answer's verdict, and those of its sentences
    "Of each kind": ("Contradicted", ["entailment", "contradiction", "neutral"]),
    "It is supported": ("Supported", ["entailment", "entailment"]),
    "It is contradicted": ("Contradicted", ["contradiction"]),
    "It is not said": ("Not supported", ["neutral"]),
}


def test_the_example_answers_come_out_as_their_names_say(quick):
    """A verdict for each sentence, a link for each, and what it leads to; the document is there in full."""
    assert list(FACTS) == [example.name for example in examples.FACTS]
    for example in examples.FACTS:
        html = check_answer(quick, *example[1:], choice(quick).start)
        assert (heading(html), re.findall('<li class="(.*?)"', html)) == FACTS[example.name]
        sentences = example.first.count(".")
        assert html.count("<li class=") == sentences
        for number in range(1, sentences + 1):
            assert html.count(f'href="#evidence-{number}"') == html.count(f'id="evidence-{number}"') == 1
        shown = re.search(r'<div class="document".*?>(.*)</div>', html, re.DOTALL)[1]
        assert unescape(re.sub(r"<[^>]+>", "", shown)) == example.second
        assert f"All {len(example.second):,} characters of the document were read" in html


def test_a_claim_that_no_passage_speaks_of_has_no_mark(quick):
    """Of a table without the cell that a claim names, nothing is shown as its evidence."""
    table = "| Place | Sat | Sun |\n|---|---|---|\n| Harbour | closed | closed |\n| Market | 09:00 | |\n"
    html = check_answer(quick, "The market is open on Sun.", table, choice(quick).start)
    assert heading(html) == "Not supported"
    assert "<mark" not in html


def test_evidence_of_several_sentences_may_overlap():
    """Each keeps its own mark, and words that lack support are underlined where they are."""
    answer, text = "It <is> red. It is big.", "0123456789"
    rest = {"abstain": False, "confidence": 0.8}
    first = {"verdict": "contradicted", "evidence": [{"start": 0, "end": 6}], "start": 0, "end": 12}
    second = {"verdict": "supported", "evidence": [{"start": 3, "end": 10}], "start": 13, "end": 23}
    spans = [{"start": 8, "end": 11, "text": "red"}]
    sentences = [{**first, **rest, "unsupported": spans}, {**second, **rest, "unsupported": []}]
    html = document(text, sentences)
    assert re.findall(r'<mark class="([^"]+)">(\d+)</mark>', html) == [
        ("of-1", "012"),
        ("of-1 of-2", "345"),
        ("of-2", "6789"),
    ]
    html = checked(answer, sentences)
    assert 'It &lt;is&gt; <u title="not found in the document">red</u>.' in html
    assert summary(sentences) == "Of 2 claims, 1 is supported, 1 is contradicted."


# The risk ------------------------------------------------------------------------------------------------


def test_a_risk_says_what_it_costs_as_the_checkpoint_stores_it(quick):
    """Threshold and coverage are the stored ones, and the page begins where the checkpoint abstains."""
    entry = quick.model.config.calibration[quick.encoding]
    offered = choice(quick)
    assert (offered.lowest, offered.highest) == (
        entry["table"][0]["target_risk"],
        entry["table"][-1]["target_risk"],
    )
    assert limit(quick, offered.start).threshold == pytest.approx(quick.threshold)
    for row in entry["table"]:
        if row["threshold"] is None:
            continue
        said = limit(quick, row["target_risk"])
        assert said.threshold == row["threshold"]
        assert f"At most {percent(row['target_risk'])} of the answers" in said.guarantee
        assert f"about {row['coverage']:.0%} of pairs" in said.guarantee
        assert "not for other kinds of text" in said.detail


def test_a_risk_between_two_keeps_the_stricter_guarantee(quick):
    """And says so."""
    assert limit(quick, 0.12).threshold == limit(quick, 0.1).threshold
    assert limit(quick, 0.12).guarantee.startswith(
        "Nothing was measured for 12%; the next stricter guarantee: At"
    )


def test_a_risk_that_cannot_be_guaranteed_is_told_by_the_pipeline(quick):
    """Its own sentence beside the choice; in the place of an answer, what to do."""
    with pytest.raises(ValueError, match=r"A risk of 1\.0% cannot be guaranteed") as caught:
        quick.threshold_for(0.01, like="calibration")
    with pytest.raises(ValueError, match=re.escape(str(caught.value))):
        limit(quick, 0.01)
    html = judge_pair(quick, "It rains.", "The ground is wet.", 0.01)
    assert "Nothing is answered at a risk of 1%" in html
    assert "<h2>" not in html


def test_without_a_calibration_nothing_is_guaranteed(plain):
    """There is no choice, the checkpoint's own threshold counts, and a sentence says so."""
    assert choice(plain) is None
    said = limit(plain, None)
    assert said.threshold == plain.threshold
    assert "is not calibrated for joint encoding" in said.guarantee
    assert f"<b>{plain.threshold:.2f}</b>" in judge_pair(plain, "the cat sleeps", "nobody is outside", None)


def test_nothing_is_guaranteed_where_no_target_could_be(quick, monkeypatch):
    """A calibration of nulls offers no choice either."""
    entry = dict(quick.model.config.calibration[quick.encoding])
    entry["table"] = [{"target_risk": 0.1, "threshold": None, "coverage": None, "risk": None}]
    monkeypatch.setattr(quick.model.config, "calibration", {quick.encoding: entry})
    assert choice(quick) is None
    assert limit(quick, None).guarantee.startswith("None of the risks")


def test_text_of_a_kind_never_seen_is_guaranteed_where_it_can_be(quick, monkeypatch):
    """Else the guarantee for pairs like calibration's is offered, which says what it is for."""
    entry = dict(quick.model.config.calibration[quick.encoding])
    row = {"target_risk": 0.2, "threshold": 0.125, "coverage": 0.25, "risk": 0.1}
    entry["domains"] = {"table": [row], "delta": 0.1, "n": 20}
    monkeypatch.setattr(quick.model.config, "calibration", {quick.encoding: entry})
    assert choice(quick) == (0.2, 0.2, 0.2)
    said = limit(quick, 0.2)
    assert said.threshold == 0.125
    assert (
        "wrong, also in a kind of text that the model has never seen, and about 25% of pairs"
        in said.guarantee
    )
    assert "for 90% of kinds of text, by 20 of them" in said.detail
    entry["domains"] = {"table": [{**row, "threshold": None}], "delta": 0.1, "n": 20}
    assert choice(quick).lowest == entry["table"][0]["target_risk"]
    assert "not for other kinds of text" in limit(quick, 0.1).detail


# Odd input -----------------------------------------------------------------------------------------------

ALL = (judge_pair, choose_category, check_answer)


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize("texts", [("", ""), ("  \n", "x"), ("x", " \n\n "), (None, None)])
def test_an_empty_field_is_named(quick, function, texts):
    """Which one, in a sentence that a screen reader says at once."""
    html = function(quick, *texts, 0.1)
    assert re.search(
        r'role="alert"><p>(The (premise|hypothesis|text|answer|document) is empty|There is no)', html
    )


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize("place", [0, 1])
def test_enormous_input_is_refused_with_its_size(quick, function, place):
    """A novel in one field costs nobody else the page."""
    texts = ["It rains.", "It rains."]
    texts[place] = "word " * 200_000
    assert re.search(
        r"The [\w ]+ has [\d,]{7,9} characters, but this page takes up to 100,000",
        function(quick, *texts, 0.1),
    )


def test_a_text_beyond_the_window_is_judged_and_the_page_says_what_was_left_out(quick, plain):
    """For a premise and a text, also where both texts share the window; of a document all is read."""
    long = "The museum is closed on Mondays. " + "It is a large museum. " * 200
    html = judge_pair(quick, long, "The museum is open on Mondays.", 0.1)
    assert re.search(r"The premise has 1,2\d\d tokens, of which the encoder reads 512 at once", html)
    assert heading(html)
    assert "The text has 1,2" in choose_category(quick, long, "museum", 0.1)
    html = check_answer(quick, "The museum is open on Mondays.", long, 0.1)
    assert f"All {len(long.strip()):,} characters of the document were read" in html
    shared = judge_pair(plain, "the cat sleeps . " * 60, "nobody is outside", None)
    assert re.search(r"of which the encoder reads 124 at once", shared)


def test_a_hypothesis_beyond_the_window_is_refused(quick):
    """It is never cut."""
    html = judge_pair(quick, "It rains.", "It is wet. " * 300, 0.1)
    assert "the encoder reads 512 at once and a hypothesis is never cut" in html
    assert 'role="alert"' in html


def test_two_hundred_categories_are_ranked(quick):
    """The best are seen, the rest can be opened, and none is lost."""
    lines = "\n".join(f"category {number}: This is about {number} dogs." for number in range(200))
    html = choose_category(quick, "Two dogs run.", lines, 0.2)
    assert sorted(set(re.findall(r'scope="row">category (\d+)<', html)), key=int) == [
        str(n) for n in range(200)
    ]
    assert html.count("<details>") >= 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a: one\nb: two\na: three", "“a” is there twice, again in line 3"),
        (": a sentence", "Line 1 of the categories has no name"),
        ("\n".join(map(str, range(501))), "There are 501 categories, but this page takes up to 500"),
    ],
)
def test_categories_that_cannot_be_read_are_told(quick, lines, message):
    """The line is named."""
    assert message in choose_category(quick, "It rains.", lines, 0.1)


def test_a_category_may_be_a_mere_name(quick):
    """It then stands for a sentence, and may hold further colons."""
    assert parse_categories("music\n\n news : At 9:30, as ever. ") == {
        "music": "This is about music.",
        "news": "At 9:30, as ever.",
    }


def test_a_document_is_encoded_once(quick, monkeypatch):
    """Whatever else is asked of it; the claim alone is new."""
    seen = []
    run = quick.model.encoder_states
    monkeypatch.setattr(
        quick.model, "encoder_states", lambda *args: seen.append(len(args[0]["input_ids"])) or run(*args)
    )
    quick.texts.clear()
    text = "The tower fell in 1900.\n\nThe tower stands.\n\nThe tower fell in 1900."
    check_answer(quick, "The tower is gone.", text, 0.1)
    check_answer(quick, "There was a tower.", text, 0.1)
    assert sum(seen) == 4  # two different sentences and two answers


def test_what_is_typed_is_never_markup(quick):
    """In a hypothesis, a category's name, a document."""
    evil = '<img src=x onerror="alert(1)"> & </script>'
    for html in (
        judge_pair(quick, evil, evil, 0.2),
        choose_category(quick, evil, f"{evil}\nother", 0.2),
        check_answer(quick, evil, f"{evil}\n\n{evil}", 0.2),
    ):
        assert "<img" not in html
        assert "</script>" not in html
        assert "&lt;img" in html


def test_what_cannot_be_explained_is_logged_and_still_a_sentence(quick, monkeypatch, caplog):
    """An error of the machine, such as no memory left."""

    class Broken:
        def __getattr__(self, name):
            raise RuntimeError("no memory left")

    html = judge_pair(Broken(), "It rains.", "The ground is wet.", 0.1)
    assert "This could not be judged" in html
    assert "no memory left" not in html
    assert "no memory left" in caplog.text


@settings(max_examples=30, deadline=None)
@given(first=st.text(max_size=60), second=st.text(max_size=60))
def test_any_text_gets_an_answer_or_a_sentence(quick, first, second):
    """In every tab, and what is there can be sent to a browser."""
    for function in ALL:
        html = function(quick, first, second, 0.2)
        assert html.startswith(('<article class="answer', '<div class="answer problem"'))
        html.encode()
        assert "now in its log" not in html


# Pieces --------------------------------------------------------------------------------------------------


def test_shares_are_never_rounded_to_certainty():
    """0% and 100% are for what is exactly so."""
    assert [share(value) for value in (0, 1e-9, 0.004, 0.5, 0.996, 1)] == [
        "0%",
        "under 1%",
        "under 1%",
        "50%",
        "over 99%",
        "100%",
    ]


@given(uncertainty=st.floats(0, 1), threshold=st.floats(0, 1))
def test_the_scale_says_what_it_draws(uncertainty, threshold):
    """Above or below, as the pipeline decides; labels stay on the scale."""
    html = scale(uncertainty, threshold)
    assert ("not below" in html) == (uncertainty >= threshold)
    places = [float(value) for value in re.findall(r"(?:left|right):([\d.]+)%", html)]
    assert all(0 <= place <= 100 for place in places)


def test_a_long_text_is_quoted_by_its_beginning():
    """On one line."""
    assert quote("a  b\nc") == "a b c"
    assert quote("word " * 100) == ("word " * 100)[:159].rstrip() + "…"


def test_the_picture_is_shown_where_there_is_one(quick, tmp_path):
    """As part of the page, with words for those who do not see it; else nothing is missing."""
    picture = tmp_path / "risk_coverage.svg"
    assert "<img" not in about(quick, picture)
    assert "sentence-transformers/all-MiniLM-L6-v2" in about(quick, picture)
    picture.write_text("<svg/>")
    assert re.search(
        r'<img alt="Curves: .+" src="data:image/svg\+xml;base64,PHN2Zy8\+">', about(quick, picture)
    )


def test_every_answer_of_the_server_forbids_other_hosts():
    """Also errors and files; the application's own headers stay."""
    import asyncio

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
        await send({"type": "http.response.body", "body": b"page"})

    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Offline(app)({"type": "http"}, None, send))
    assert sent[0]["headers"] == [(b"x-own", b"1"), (b"content-security-policy", POLICY.encode())]
    assert sent[1]["body"] == b"page"
    assert "http" not in POLICY


def imports(source: str) -> set[str]:
    """The modules that a source imports, by their first name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
    return names


def test_gradio_is_imported_by_the_page_alone():
    """It is an extra: nothing else needs it."""
    sources = [
        path
        for path in ROOT.rglob("*.py")
        if not {".venv", "build", "tests"} & set(path.relative_to(ROOT).parts)
    ]
    found = [path for path in sources if "gradio" in imports(path.read_text())]
    assert found == [PACKAGE / "page" / "view.py"]
