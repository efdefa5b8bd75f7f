"""The page that computes in the browser: Python's decisions, on the visitor's machine, with nothing sent."""

import json
import random
import re
import shutil
import threading
import unicodedata
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, rows
from looks import FAINT, LOOKS
from visiting import SLOW

pytest.importorskip("playwright.sync_api", reason="Playwright is missing: make test-browser")
pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

import onnx
from playwright.sync_api import expect

from modernbert_nli.exporting.graphs import export_graph, graphs_of
from modernbert_nli.exporting.quantize import quantize
from modernbert_nli.loading import load_pipeline, stored_config
from modernbert_nli.page import examples
from modernbert_nli.passages import token_places
from modernbert_nli.publishing import static
from modernbert_nli.sentences import split_sentences
from modernbert_nli.tokenization import encode_texts

pytest_plugins = ["visiting"]
pytestmark = pytest.mark.browser
expect.set_options(timeout=SLOW)

SCREENSHOTS = ROOT / "build" / "screenshots"  # of every run, to be looked at
TABS = ("A pair", "Route", "Check facts")
LICENCE = re.sub(r"\s*\n\s*", " ", (ROOT / "LICENSE").read_text())
CALIBRATION = "model/onnx/int8.json"
CLOSE = 1e-3  # of probabilities: float32 adds up in another order there

ODD = [
    "[SEP] [CLS]",
    "A man [SEP] sleeps. [MASK] [PAD]",
    "é\u0301 ‮ ﷽",
    "\x00\x07 x",
    "a",
    " . ",
    "?!",
    "🏳️‍🌈" * 9,
    "İ ß ﬁ Ǆ",
    "\t x \n",
    "猫在垫子上睡觉。",
    "犬が走る。",
    "고양이가 잔다.",
    "ΑΣ. Ο ΣΊΣΥΦΟΣ ΚΟΙΜΆΤΑΙ.",
    "U.S.A. $3.50 don't can't",
    "𝔘𝔫𝔦 𠀀 ａｂｃ",
    "x" * 120 + " y",
    "\u2028 line\u200b\u00adsoft ##ing ing",
    "١٢٣ १२३ ²³",
    "The dog runs. " * 150,
]


def judged_pairs() -> list[tuple[str, str]]:
    """200 pairs: of templates, a licence, the page's examples and odd texts; one is beyond the window."""
    draw = random.Random(0)
    sentences = [LICENCE[slice(*span)] for span in split_sentences(LICENCE) if span[1] - span[0] < 200]
    pairs = [(row["premise"], row["hypothesis"]) for row in rows(40)]
    for first in (draw.choice(sentences) for _ in range(70)):
        part = " ".join(first.split()[: draw.randint(2, 12)])
        pairs.append((first, draw.choice([part, draw.choice(sentences)])))
    texts = [text for example in examples.PAIRS for text in example[1:]]
    pairs += [(first, second) for first in texts for second in texts][:49]
    pairs += [(first, draw.choice(texts)) for first in ODD[:-1]]
    pairs += [(draw.choice([*ODD[:-1], *texts]), second) for second in ODD[:-1]]
    pairs += [(ODD[-1], "A dog runs."), ("A dog runs.", "A dog runs."), ("A dog runs.", "No dog runs.")]
    return pairs


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """The quick start checkpoint with the two graphs that the page runs, as export.py writes them."""
    folder = tmp_path_factory.mktemp("exported")
    model = load_pipeline(device="cpu").model
    model.save_pretrained(folder)
    graphs, place = graphs_of(model.eval()), folder / "onnx"
    place.mkdir()
    for kind in ("encoder", "heads"):
        export_graph(model, kind, graphs[kind], place / f"{kind}.onnx")
    quantize(place / "encoder.onnx", place / "encoder_int8.onnx")
    (place / "encoder.onnx").unlink()
    return folder


@pytest.fixture(scope="module")
def portable(exported, tmp_path_factory) -> Any:
    """Python's pipeline on these graphs, computing as they do wherever a processor has no 8-bit kernel."""
    folder = Path(shutil.copytree(exported, tmp_path_factory.mktemp("portable") / "exported"))
    graph = onnx.load(folder / "onnx/encoder_int8.onnx")
    levels = [
        entry for node in graph.graph.node for entry in node.attribute if entry.name == "accuracy_level"
    ]
    assert levels
    for entry in levels:
        entry.i = 1  # activations stay float32
    onnx.save_model(graph, folder / "onnx/encoder_int8.onnx")
    return load_pipeline(str(folder), device="cpu", backend="onnx-int8")


@pytest.fixture(scope="module")
def site(exported, tmp_path_factory) -> Path:
    """The folder of the page."""
    try:
        static.vendored()
    except OSError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("site")
    static.write_static(folder, exported, "tester/nli")
    return folder


@pytest.fixture(scope="module")
def serving() -> Iterator[Callable[..., str]]:
    """Serves a folder, as any static server does, and returns its address."""
    servers = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    def start(folder: Path, handler: type[SimpleHTTPRequestHandler] = Quiet) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    start.quiet = Quiet  # type: ignore[attr-defined]
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def web(site, serving) -> str:
    """The address of the page."""
    return serving(site)


@pytest.fixture(scope="module")
def asked(browser, web) -> Iterator[Callable[..., Any]]:
    """Calls a function of one of the page's modules in a browser, with its model first where it takes one."""
    page = browser.new_page()
    page.set_default_timeout(SLOW)
    page.goto(web)
    page.locator(".answer:visible h2").wait_for()

    def call(module: str, function: str, *args: Any, model: bool = True) -> Any:
        code = """async ([module, name, takesModel, args]) => {
            const { model } = await import(`${location.origin}/page.js`);
            const found = (await import(`${location.origin}/${module}.js`))[name];
            return takesModel ? found(model, ...args) : args[0].map(one => found(one));
        }"""
        return page.evaluate(code, [module, function, model, list(args)])

    call.page = page  # type: ignore[attr-defined]
    yield call
    page.close()


def test_200_pairs_are_decided_as_python_decides(asked, portable, exported):
    """Label, confidence, abstention, truncation: all of them; with this processor's 8-bit kernel 99 %."""
    pairs = judged_pairs()
    assert len(set(pairs)) > 190
    assert len(pairs) == 200
    found, expected = asked("judge", "judgePairs", pairs), portable(pairs)
    for pair, ours, theirs in zip(pairs, found, expected, strict=True):
        assert (ours["label"], ours["abstain"]) == (theirs["label"], theirs["abstain"]), pair
        assert ours["confidence"] == pytest.approx(theirs["confidence"], abs=CLOSE), pair
        assert ours["uncertainty"] == pytest.approx(theirs["uncertainty"], abs=CLOSE), pair
        assert ours["truncated"] == theirs.get("truncated", False), pair
        assert (ours["reason"], ours.get("rule")) == (theirs["reason"], theirs.get("rule")), pair
    assert {one["label"] for one in found} == {"entailment", "neutral", "contradiction"}
    assert {one["abstain"] for one in found} == {True, False}
    native = load_pipeline(str(exported), device="cpu", backend="onnx-int8")(pairs)
    same = [
        (ours["label"], ours["abstain"]) == (theirs["label"], theirs["abstain"])
        for ours, theirs in zip(found, native, strict=True)
    ]
    assert sum(same) >= 198


def test_routes_are_those_of_python(asked, portable):
    """Category, confidence, reason and ranking; with names alone, and more categories than are judged."""
    lines = [
        dict(line.split(": ") for line in one.second.split("\n") if ": " in line) for one in examples.ROUTES
    ]
    questions = [(example.first, lines[0]) for example in examples.ROUTES]
    questions.append(
        ("[SEP] 🎷 jazz, please", {"refund_request": "Money back.", "PlayMusic": "Music is wanted."})
    )
    questions.append(
        ("Two dogs run.", {f"kind {number}": f"There are {number} dogs." for number in range(40)})
    )
    questions.append(("It is broken.", {"damage": "Something is broken."}))
    code = """async ([text, categories]) => {
        const { model } = await import(`${location.origin}/page.js`);
        const { route } = await import(`${location.origin}/route.js`);
        return route(model, text, new Map(Object.entries(categories)));
    }"""
    questions += [(text, lines[0]) for text in ("hi", "asdfgh", "12345", "🎷")]
    declined = 0
    for text, categories in questions:
        found, expected = asked.page.evaluate(code, [text, categories]), portable.route(text, categories)
        assert found["category"] == expected["category"], text
        assert found["uncertainty"] == pytest.approx(expected["uncertainty"], abs=CLOSE)
        assert [name for name, _ in found["ranking"]][:3] == [name for name, _ in expected["ranking"]][:3]
        values = [value for _, value in expected["ranking"]]
        assert [value for _, value in found["ranking"]] == pytest.approx(values, abs=CLOSE)
        reason = expected["reason"] and re.sub(r"'([^']*)'", r"“\1”", expected["reason"])
        assert found["reason"] == reason
        declined += reason is not None
    assert 4 < declined < len(questions)


TABLE = """\
# Hours 😀

| Place | Sat | Sun |
|---|---|---|
| Harbour | closed | closed |
| Market | 09:00 | – |
"""


def test_answers_are_checked_as_python_checks_them(asked, portable):
    """Kinds, verdicts, reasons, evidence and unsupported words, in short and long documents, odd ones too."""
    questions = [(example.first, example.second) for example in examples.FACTS]
    questions.append(("You may sell it. 🎷 The licence is [SEP] void. 猫。", LICENCE[:3000]))
    questions.append(
        ("The dog runs. U.S. dogs sleep", "The dog runs, " * 150 + "and sleeps.\n\n1. one 2. two")
    )
    questions += [
        ("Sure! 😀 The harbour is **closed** on Saturday [1]. Is it? The market opens at 9.", TABLE),
        ("The museum is open on Mondays.", "The museum is open on Mondays. The museum is closed on Mondays."),
        ("The source does not say who built it. It is ❌.", "It is ✅. It was built in 1932."),
        ("Hello!", "It rains."),
    ]
    met, reasons = set(), set()
    for answer, document in questions:
        found, expected = asked("check", "check", answer, document), portable.check(answer, document)
        assert (found["verdict"], found["reason"]) == (expected["verdict"], expected["reason"])
        assert found["confidence"] == pytest.approx(expected["confidence"], abs=CLOSE)
        for ours, theirs in zip(found["sentences"], expected["sentences"], strict=True):
            met.add(theirs["verdict"])
            reasons.add(theirs.get("reason"))
            for key in ("text", "kind", "claim", "verdict", "reason", "conflict", "rule"):
                assert ours.get(key) == theirs.get(key), (theirs["text"], key)
            for key in ("confidence", "uncertainty", "support"):
                assert ours[key] == pytest.approx(theirs[key], abs=CLOSE), (ours["text"], key)
            assert [one["text"] for one in ours["evidence"]] == [one["text"] for one in theirs["evidence"]]
            assert [one["text"] for one in ours["unsupported"]] == [
                one["text"] for one in theirs["unsupported"]
            ]
    assert len(met) >= 4
    assert len(reasons) >= 3


def test_tokens_are_those_of_python(asked, portable):
    """Of odd texts, and of texts made of characters of all kinds; special tokens typed in them are text."""
    draw = random.Random(0)
    ranges = [(1, 0x7F), (0xA0, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF), (0x3041, 0x30FF), (0x4E00, 0x9FFF)]
    made = [
        "".join(chr(draw.randint(*draw.choice(ranges))) for _ in range(draw.randint(1, 20)))
        for _ in range(400)
    ]
    texts = [text for text in [*ODD, *made] if not text.isspace() and "\u0378" not in text]
    code = """async texts => {
        const { model } = await import(`${location.origin}/page.js`);
        return texts.map(text => model.tokens.ids(text));
    }"""
    expected = encode_texts(portable.tokenizer, texts, 10**6, cut=False)
    for text, found, ids in zip(texts, asked.page.evaluate(code, texts), expected, strict=True):
        assert found == ids, text


def test_tokens_stand_where_python_says(asked, portable):
    """Of each word which tokens are in it, also beside what the tokenizer does not know."""
    texts = [pair[0][:400] for pair in judged_pairs()[::4]]
    texts += [text for text in ODD[:-1] if "[SEP]" not in text]
    # After what the tokenizer takes apart or away, its own places shift.
    texts = [text for text in texts if "\u00ad" not in text and unicodedata.is_normalized("NFKD", text)]
    code = """async texts => {
        const { model } = await import(`${location.origin}/page.js`);
        return texts.map(text => JSON.parse(model.tokens.read(text)).places);
    }"""
    for text, found in zip(texts, asked.page.evaluate(code, texts), strict=True):
        units = [len(text[:place].encode("utf-16-le")) // 2 for place in range(len(text) + 1)]
        expected = token_places(portable.tokenizer, text)
        assert len(found) == len(expected), text
        for word in re.finditer(r"\w+|[^\w\s]", text):
            if unicodedata.category(word[0][0])[0] in "MC":  # which the tokenizer takes away
                continue
            start, end = units[word.start()], units[word.end()]
            ours = [row for row, (a, b) in enumerate(found) if a < end and b > start]
            theirs = [row for row, (a, b) in enumerate(expected) if a < word.end() and b > word.start()]
            assert ours == theirs, (text, word[0])


# The page ------------------------------------------------------------------------------------------------


def answer(page):
    """The answer that is seen."""
    return page.locator(".answer:visible:not(.working)")


def verdict(page, text):
    expect(answer(page).get_by_role("heading", level=2)).to_have_text(text)


def test_every_tab_is_legible_and_fits(visit, web):
    """In light, dark and on a phone: enough contrast, no sideways scrolling, pictures to be looked at."""
    page = visit(web)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for look, options in LOOKS.items():
        page.emulate_media(color_scheme=options["color_scheme"])
        page.set_viewport_size(options["viewport"])
        for number, tab in enumerate(TABS):
            page.get_by_role("tab", name=tab).click()
            answer(page).get_by_role("heading", level=2).wait_for()
            page.screenshot(path=SCREENSHOTS / f"web-{look}-{number + 1}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") <= options["viewport"]["width"]
            assert page.evaluate(FAINT) == []


def test_it_is_used_by_keyboard_offline_and_sends_nothing(visit, web):
    """Once loaded it needs no network; and where there is one, the page may not use it."""
    page = visit(web)
    other = web.replace("127.0.0.1", "localhost")
    refused = "address => fetch(address).then(() => false, () => true)"
    assert page.evaluate(refused, other)
    sent = []
    page.on("request", lambda request: sent.append(request.url))
    page.context.set_offline(True)
    page.get_by_role("tab", name="A pair").focus()
    met = []
    for _ in range(4):
        page.keyboard.press("Tab")
        met.append(page.evaluate("(e => (e.labels?.[0] ?? e).innerText)(document.activeElement)"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert [name.split(":")[0] for name in met] == ["Premise", "Hypothesis", "Judge", "It follows"]
    page.get_by_label("Premise").fill("A man sleeps.")
    page.get_by_label("Hypothesis").fill("A man is awake.")
    page.keyboard.press("Enter")
    verdict(page, "Contradiction")
    page.get_by_role("tab", name="A pair").focus()
    page.keyboard.press("ArrowRight")
    verdict(page, "damage")
    page.keyboard.press("ArrowRight")
    link = answer(page).get_by_role("link", name="Repairs began in June.")
    link.focus()
    page.keyboard.press("Enter")
    expect(answer(page).locator("mark.found").last).to_contain_text("Repairs began in March.")
    assert sent == []


def test_what_cannot_be_judged_is_a_sentence_and_markup_stays_text(visit, web):
    """Empty, beyond the window, categories that are there twice; nothing that is typed is run."""
    page = visit(web)
    evil = '<img src=x onerror="document.title=1">'

    def ask(tab: str, button: str, first: str, second: str) -> None:
        page.get_by_role("tab", name=tab).click()
        for field, text in zip(page.locator("textarea:visible").all(), (first, second), strict=True):
            field.fill(text)
        page.get_by_role("button", name=button, exact=True).click()

    ask("A pair", "Judge", "", "It rains.")
    expect(page.get_by_role("alert")).to_have_text("The field “premise” is empty: write something into it.")
    ask("A pair", "Judge", "It rains.", "It is wet. " * 300)
    expect(page.get_by_role("alert")).to_contain_text("but the encoder reads 512 at once")
    ask("A pair", "Judge", "word " * 200_000, "It rains.")
    expect(page.get_by_role("alert")).to_contain_text("but this page takes up to 100,000")
    ask("A pair", "Judge", ODD[-1], evil)
    expect(answer(page).locator("q")).to_have_text(evil)
    expect(answer(page).locator(".note")).to_contain_text("longer than the 512 tokens")
    ask("Route", "Route", evil, f"{evil}\na: one\na: two")
    expect(page.get_by_role("alert")).to_contain_text("“a” is there twice, again in line 3")
    ask("Check facts", "Check", evil, evil)
    expect(answer(page).locator(".document")).to_have_text(evil)
    expect(page.locator("article img")).to_have_count(0)
    assert page.title() == "ModernBERT-NLI"


def test_a_progress_bar_shows_how_far_the_model_is(browser, site, serving):
    """Stopped in the middle of a file it stands in between; nothing can be asked until it is done.

    With the headers of the Space, so that WebAssembly has as many threads as it is given there.
    """
    go_on = threading.Event()

    class Halting(serving.quiet):
        def end_headers(self) -> None:
            for name, value in static.HEADERS.items():
                self.send_header(name, value)
            super().end_headers()

        def copyfile(self, source: Any, outputfile: Any) -> None:
            if self.path.endswith("encoder_int8.onnx"):
                shutil.copyfileobj(_Part(source, 10_000_000), outputfile)
                go_on.wait()
            shutil.copyfileobj(source, outputfile)

    page = browser.new_page()
    page.set_default_timeout(SLOW)
    try:
        page.goto(serving(site, Halting))
        bar = page.get_by_role("progressbar", name="Loading the model")
        expect(page.locator("#loaded")).to_contain_text(re.compile(r"^2\d\.\d of 44\.\d MB"))
        page.screenshot(path=SCREENSHOTS / "web-loading.png", full_page=True)
        assert 0.4 < bar.evaluate("e => e.value") < 0.8
        expect(page.get_by_role("button", name="Judge")).to_be_disabled()
        go_on.set()
        verdict(page, "Entailment")
        expect(bar).to_be_hidden()
        assert page.evaluate("crossOriginIsolated")
    finally:
        go_on.set()
        page.close()


class _Part:
    """The first so many bytes of a file."""

    def __init__(self, source: Any, size: int):
        self.source, self.left = source, size

    def read(self, size: int) -> bytes:
        data = self.source.read(min(size, self.left))
        self.left -= len(data)
        return data


def test_what_int8_guarantees_can_be_chosen(browser, web, exported, site):
    """Its own threshold and table, not those of float32: a lower risk, and the answer is not given."""
    config = stored_config(exported)
    guarantee = {"calibration": config["calibration"], "abstention_threshold": 0.3}
    index = json.loads((site / "index.json").read_text())
    text = json.dumps(guarantee)
    index["files"][CALIBRATION] = len(text)
    page = browser.new_page()
    page.set_default_timeout(SLOW)
    page.route("**/index.json", lambda route: route.fulfill(json=index))
    page.route(f"**/{CALIBRATION}", lambda route: route.fulfill(body=text, content_type="application/json"))
    page.goto(web)
    page.get_by_role("button", name="It errs").click()
    verdict(page, "Contradiction")
    expect(page.locator("#guarantee")).to_contain_text("of the answers given are wrong")
    page.get_by_label("Wrong answers that you accept").select_option("5%")
    verdict(page, "No answer")
    expect(page.locator("#guarantee")).to_contain_text("At most 5% of the answers given are wrong")
    page.close()


def _answered(status: int, body: str, route: Any) -> None:
    route.fulfill(status=status, body=body)


def test_a_model_that_cannot_be_loaded_is_a_sentence(browser, web):
    """A file that is missing, or cut off."""
    for status, body in ((404, ""), (200, "{}")):
        page = browser.new_page()
        page.set_default_timeout(SLOW)
        page.route("**/model/config.json", partial(_answered, status, body))
        page.goto(web)
        expect(page.get_by_role("alert")).to_contain_text("The model could not be loaded: model/config.json")
        page.close()
