"""Routes: the best of all categories, whether it is declined and why, and what is guaranteed of it."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import make_model
from desks import DESKS, GENUINE, JUNK
from hypothesis import given
from hypothesis import strategies as st

from modernbert_nli.calibrating import command as calibrate
from modernbert_nli.calibrating.routes import write as write_entry
from modernbert_nli.categories import NO_CATEGORY, NOTHING, answers_of, as_categories, describe
from modernbert_nli.configuration_modernbert_nli import BACKGROUND, UNFITTED
from modernbert_nli.embedded import CHECKPOINT
from modernbert_nli.published_heads import load_modernbert_nli
from modernbert_nli.routing import JUDGED, CategoryScores, Decision, decide, routes
from modernbert_nli.separate import read
from modernbert_nli.tokenization import PairError

FITTED = {
    "similarity": 13.0,
    "entailment": 0.1,
    "contrast": 0.4,
    "offset": -1.0,
    "slope": 0.25,
    "threshold": 0.8,
}
ANIMALS = {"cats": "This is about cats.", "dogs": "This is about dogs.", "fish": "This is about fish."}
TEXTS = ["the cat sleeps", "my dog runs in the park", "two people talk"]


@pytest.fixture
def separate(tiny_modernbert):
    return make_model(tiny_modernbert, "separate")


@pytest.fixture(scope="module")
def quick(minilm):
    model, _ = load_modernbert_nli(str(CHECKPOINT), base=minilm)
    return model.as_pipeline(device="cpu")


CROWD = [f"matter number {number}" for number in range(JUDGED + 1)]


def one(fits, among, **options):
    (result,) = routes(Decision(torch.tensor([fits]), torch.tensor([among])), "ab", **options)
    return result


def test_the_reason_says_which_of_the_two_it_is():
    """Two that fit alike are too close to call; a best one that does not fit is nothing."""
    close = one([0.9, 0.9], [0.5, 0.5], threshold=0.5, several=False)
    assert (close["category"], close["reason"]) == (None, "too close to call: 'a' or 'b'")
    nothing = one([0.1, 0.05], [0.9, 0.1], threshold=0.5, several=False)
    assert (nothing["category"], nothing["reason"]) == (None, "nothing fits: 'a' comes nearest")
    both = one([0.9, 0.8], [0.5, 0.5], threshold=0.5, several=True)
    assert (both["category"], both["categories"], both["reason"]) == ("a", ["a", "b"], None)
    neither = one([0.1, 0.2], [0.5, 0.5], threshold=0.5, several=True)
    assert (neither["category"], neither["categories"]) == (None, [])
    assert neither["reason"] == "nothing fits: 'b' comes nearest"


@pytest.mark.parametrize(("first", "answered"), [(0.5, False), (0.504, False), (0.506, True), (0.9, True)])
def test_a_route_within_chance_of_the_second_is_declined(first, answered):
    """However well both fit; each for itself, both do. Only a threshold of 1 has one named."""
    fits, among = [0.99, 0.98], [first, 1 - first]
    result = one(fits, among, threshold=0.7, several=False)
    assert (result["category"], result["reason"]) == (
        ("a", None) if answered else (None, "too close to call: 'a' or 'b'")
    )
    assert result["ranking"][0] == ("a", pytest.approx(0.99 * first))
    assert one(fits, among, threshold=1.0, several=False)["category"] == "a"
    assert one(fits, among, threshold=0.7, several=True)["categories"] == ["a", "b"]


def test_a_threshold_itself_declines():
    """Abstention begins at the threshold; a category alone has no second."""
    at = one([0.5, 0.1], [1.0, 0.0], threshold=0.5, several=False)
    assert (at["uncertainty"], at["category"], at["confidence"]) == (0.5, None, None)
    assert one([0.5], [1.0], threshold=0.6, several=False)["category"] == "a"


def test_similarity_counts_as_fitted(separate):
    """With its weight alone the ranking is that of the cosine; examples and names are part of it."""
    separate.config.routing = {"separate": {**FITTED, "entailment": 0.0, "contrast": 0.0}}
    nli = separate.as_pipeline()
    vectors = torch.stack([text.vector for text in read(separate, ["the cat sleeps", *ANIMALS.values()])])
    names = torch.stack([text.vector for text in read(separate, list(ANIMALS))])
    described = describe(vectors[1:], names, [vectors[:0]] * 3)
    expected = dict(zip(ANIMALS, (described @ vectors[0]).tolist(), strict=True))
    ranking = nli.route("the cat sleeps", ANIMALS)["ranking"]
    assert [name for name, _ in ranking] == sorted(expected, key=expected.get, reverse=True)


def test_examples_sharpen(separate):
    """A text that is an example of a category gains probability there, and others are refused."""
    separate.config.routing = {"separate": {**FITTED, "entailment": 0.0, "contrast": 0.0}}
    nli = separate.as_pipeline()
    text = "my dog runs in the park"
    before = dict(nli.route(text, ANIMALS)["ranking"])
    after = dict(nli.route(text, ANIMALS, examples={"fish": [text]})["ranking"])
    assert after["fish"] > before["fish"]
    assert nli.route(text, ANIMALS, examples={})["ranking"] == list(before.items())
    for wrong in ({"birds": [text]}, {"fish": text}, [text]):
        with pytest.raises(ValueError, match=r"maps categories to lists|are a list of texts"):
            nli.route(text, ANIMALS, examples=wrong)


@pytest.mark.parametrize("several", [False, True])
def test_states_instead_of_texts(separate, several):
    """What `encode` and `project_states` made of texts is routed as the texts are."""
    separate.config.routing = {"separate": FITTED}
    nli = separate.as_pipeline()
    expected = nli.route(TEXTS, ANIMALS, several=several)
    raw = separate.encode(TEXTS)
    for states in (raw, separate.project_states(raw)):
        found = nli.route(states, ANIMALS, several=several)
        assert [route["category"] for route in found] == [route["category"] for route in expected]
        for one_route, other in zip(found, expected, strict=True):
            assert one_route["uncertainty"] == pytest.approx(other["uncertainty"], abs=5e-3)


def test_of_many_categories_the_most_similar_are_judged(separate):
    """All are ranked, 32 have scores, and these are what a pair alone has."""
    separate.config.routing = {"separate": FITTED}
    nli = separate.as_pipeline()
    names = [f"{noun} number {number}" for noun in ("cats", "dogs") for number in range(JUDGED)]
    found = nli.route(TEXTS, names, threshold=1.0)
    for text, route in zip(TEXTS, found, strict=True):
        assert sorted(name for name, _ in route["ranking"]) == sorted(names)
        assert len(route["scores"]) == JUDGED
        assert route["category"] == route["ranking"][0][0]
        for name in list(route["scores"])[::10]:
            alone = nli(text, f"This is about {name}.")
            assert route["scores"][name]["probs"] == pytest.approx(alone["probs"], abs=1e-4)
    separate.config.routing = None  # entailment alone decides: then all of them are judged
    assert len(nli.route(TEXTS[0], names)["scores"]) == len(names)


def test_every_text_meets_every_category_as_a_pair_would(separate):
    """Texts and categories of all lengths together: padding and company change nothing."""
    texts = ["ü", *TEXTS, "the dog " * 40]
    categories = {str(number): "is it so " * number + "?" for number in range(6)}
    nli = separate.as_pipeline()
    found = nli.route(texts, categories)
    pairs = [(text, hypothesis) for text in texts for hypothesis in categories.values()]
    alone = iter(nli(pairs))
    for route in found:
        for score in route["scores"].values():
            expected = next(alone)
            assert score["probs"] == pytest.approx(expected["probs"], abs=1e-4)
            assert score["uncertainty"] == pytest.approx(expected["uncertainty"], abs=1e-4)


@pytest.mark.parametrize("heads", ["cls", "alignment"])
def test_heads_that_read_both_texts_together(tiny_modernbert, heads):
    """A joint checkpoint and the published CLS head route by their own pairs."""
    nli = make_model(tiny_modernbert, heads).as_pipeline()
    for text in TEXTS:
        route = nli.route(text, ANIMALS, threshold=1.0)
        scores = {name: nli(text, hypothesis) for name, hypothesis in ANIMALS.items()}
        entailed = {name: score["probs"]["entailment"] for name, score in scores.items()}
        assert route["category"] == max(entailed, key=entailed.get)
        assert route["confidence"] <= max(entailed.values()) + 1e-4
    assert all(route["category"] is None for route in nli.route(TEXTS, ANIMALS, threshold=0.0))


def test_joint_routes_with_similarity(tiny_modernbert):
    """Heads that know both encodings: entailment from pairs, similarity from texts alone."""
    model = make_model(tiny_modernbert, "separate")
    model.config.routing = {"joint": FITTED}
    nli = model.as_pipeline(encoding="joint")
    route = nli.route(TEXTS[0], ANIMALS, threshold=1.0, examples={"fish": ["a fish"]})
    pairs = nli([(TEXTS[0], hypothesis) for hypothesis in ANIMALS.values()])
    assert [score["probs"] for score in route["scores"].values()] == [pair["probs"] for pair in pairs]
    assert route["category"] == route["ranking"][0][0]


def test_a_category_that_abstains_is_not_passed_over(quick):
    """As it was in 85 % of answers and more: one that surely does not fit was named, as sure of *that*."""
    nli = type(quick)(model=quick.model, tokenizer=quick.tokenizer, threshold=0.05, device="cpu")
    categories = {
        "delivery": "This asks where a parcel is.",
        "music": "This asks to play a song.",
        "weather": "This asks about the weather.",
    }
    route = nli.route("Where is my parcel? It should have come on Monday.", categories, threshold=1.0)
    assert route["scores"]["delivery"]["abstain"]
    assert route["category"] == "delivery"


# What belongs to no desk ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DESKS)
def test_short_junk_goes_to_no_desk(quick, name):
    """Of greetings, keyboard mash, digits, signs, closings and unrelated requests one in twenty at most."""
    junk = [text for texts in JUNK.values() for text in texts]
    found = {
        text: route["category"] for text, route in zip(junk, quick.route(junk, DESKS[name]), strict=True)
    }
    routed = {text: category for text, category in found.items() if category}
    assert len(routed) <= 0.05 * len(junk), routed


def test_texts_of_a_desk_go_there(quick):
    """As they did when short junk did too: 91 of 94 were routed, 89 of these rightly."""
    routed = right = 0
    for name, by_category in GENUINE.items():
        rows = [(text, category) for category, texts in by_category.items() for text in texts]
        for route, (_, category) in zip(
            quick.route([text for text, _ in rows], DESKS[name]), rows, strict=True
        ):
            routed += route["category"] is not None
            right += route["category"] == category
    assert routed >= 91
    assert right >= 89


@pytest.mark.parametrize(
    "text", ["?", "!!!", "…", "——", "@#&%", "\u200b.", "✅", "😀😀", "( )", "猫", "ἀρχή", "wqzx jkvp"]
)
@pytest.mark.parametrize("several", [False, True])
def test_what_the_encoder_does_not_read_is_declined_without_heads(quick, monkeypatch, text, several):
    """With a reason, among texts that it reads, and whatever threshold is given."""
    categories = DESKS["hotel"]
    other = "Could we get some fresh towels?"
    expected = quick.route(other, categories, several=several)
    found = quick.route([text, other, text], categories, several=several, threshold=0.5 if several else None)
    assert [route["category"] for route in found] == [None, expected["category"], None]
    assert found[1]["ranking"] == [(name, pytest.approx(value)) for name, value in expected["ranking"]]
    monkeypatch.setattr("modernbert_nli.routing.judge_every", None)
    alone = quick.route(text, categories, threshold=1.0, several=several)
    assert (alone["category"], alone["reason"]) == (None, "not text that the encoder reads")
    assert (alone["confidence"], alone["uncertainty"]) == (None, 1.0)
    assert [name for name, _ in alone["ranking"]] == list(categories)
    assert set(alone) == set(expected)


def test_a_word_that_names_a_category_is_read(quick):
    """However little the encoder knows of it."""
    categories = {"Zyxorb": "This is about the Zyxorb.", "Quvli": "This is about the Quvli."}
    assert quick.route("zyxorb", categories)["reason"] != "not text that the encoder reads"
    assert quick.route("zyxorbs", categories)["reason"] == "not text that the encoder reads"


@pytest.mark.parametrize(
    "categories",
    [
        {"a": "This is about music.", "b": "This is about music."},
        {"music": "This is about music.", "songs": "This is about music."},
        {"a": "This is about music.", "b": "This is about music.", "c": "This is about tax."},
        ["music", "Music"],
        {"x": "It asks for a refund.", "y": "It asks for a refund."},
    ],
)
def test_categories_with_the_same_text_are_too_close_to_call(quick, categories):
    """None of them is better than the other."""
    for text in ("The band played a new song.", "I love jazz and blues."):
        route = quick.route(text, categories)
        assert route["category"] is None
        assert route["reason"].startswith(("too close to call", "nothing fits"))


def test_an_entry_of_version_0_2_still_routes(quick):
    """It has no background: routes are what they were, but for ties and what is not read."""
    entry = dict(quick.model.config.routing["separate"])
    for key in BACKGROUND:
        del entry[key]
    config = quick.model.config.to_dict()
    type(quick.model.config)(**{**config, "routing": {"separate": entry}})
    evidence = CategoryScores(
        torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[0.2, 0.5]])
    )
    old = decide(evidence, entry)
    new = decide(evidence, quick.model.config.routing["separate"])  # without texts of no desk: the same
    assert torch.equal(old.fits, new.fits)
    broken = {**entry, "background": 3.0}
    with pytest.raises(ValueError, match="has both of background, background_offset"):
        type(quick.model.config)(**{**config, "routing": {"separate": broken}})


def test_a_text_that_is_near_what_belongs_to_no_desk_fits_less():
    """But not where that is near a category too, as the weather is to one who tells it."""
    entry = {**FITTED, "background": 30.0, "background_offset": 8.0}
    known = (torch.tensor([[0.0, -1.0]]), torch.tensor([[0.0, -1.0]]), torch.tensor([[0.6, 0.1]]))
    far, near = torch.zeros(1, 80), torch.full((1, 80), 0.6)
    apart, alike = torch.zeros(80, 2), torch.full((80, 2), 0.6)
    fits = [
        float(decide(CategoryScores(*known, anything=anything, near=to), entry).fits.max())
        for anything, to in ((far, apart), (near, apart), (near, alike))
    ]
    assert fits[1] < 0.01 * fits[0]
    assert fits[2] > 0.1 * fits[0]


# The guarantee ----------------------------------------------------------------------------------------------


@pytest.fixture
def labelled(tmp_path):
    """Texts that say their category, one in ten of them that of another."""
    draw = np.random.default_rng(0)
    names = list(ANIMALS)
    rows = []
    for number in range(400):
        name = names[draw.integers(3)]
        said = names[draw.integers(3)] if number % 10 == 0 else name
        rows.append({"text": f"{said} number {number}", "label": name})
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "categories.json").write_text(json.dumps(ANIMALS))
    return tmp_path


def calibrated(folder, base, *more):
    words = ["--routes", folder / "texts.jsonl", "--categories", folder / "categories.json", "--base", base]
    return calibrate.main(list(map(str, ["--model", folder / "checkpoint", *words, *more])))


def test_a_risk_of_pairs_is_looked_up_once_for_all_texts(quick, monkeypatch):
    """It digests all weights and asks the base, and each text with many categories is a batch of its own."""
    calls = []
    monkeypatch.setattr(type(quick), "threshold_for", lambda self, *how: calls.append(how) or 0.5)
    pipe = quick.model.as_pipeline(device="cpu", target_risk=0.1)
    calls.clear()
    routed = pipe.route(["Where is my parcel?", "I like jazz.", "The train is late."], CROWD)
    assert len(routed) == 3
    assert calls == [(0.1, "separate", None)]


def test_a_risk_of_wrong_routes_is_guaranteed(labelled, tiny_modernbert, capsys, monkeypatch):
    """For the categories that were calibrated, of whatever order, and the heads; nothing else changes."""
    model = make_model(tiny_modernbert, "separate")
    model.config.routing = {"separate": FITTED}
    model.save_pretrained(labelled / "checkpoint")
    before = json.loads((labelled / "checkpoint" / "config.json").read_text())
    assert calibrated(labelled, tiny_modernbert, "--target_risk", "0.9") == 0
    out = capsys.readouterr().out
    assert "400 routes" in out
    assert "texts that nothing fits in another share" in out
    assert "premise" not in out
    after = json.loads((labelled / "checkpoint" / "config.json").read_text())
    assert {key for key in after if after[key] != before.get(key)} == {"routing"}
    assert {**after["routing"]["separate"], **FITTED, "calibration": None} == {**FITTED, "calibration": None}

    nli = load_modernbert_nli(str(labelled / "checkpoint"), base=tiny_modernbert)[0].as_pipeline()
    rows = [json.loads(line) for line in (labelled / "texts.jsonl").read_text().splitlines()]
    table = after["routing"]["separate"]["calibration"]["table"]
    targets = [row["target_risk"] for row in table if row["threshold"] is not None]
    for target in targets[-1:]:
        found = nli.route([row["text"] for row in rows], ANIMALS, target_risk=target)
        answered = [
            (a["category"], row["label"]) for a, row in zip(found, rows, strict=True) if a["category"]
        ]
        assert np.mean([name != label for name, label in answered]) <= target
    turned = dict(reversed(ANIMALS.items()))
    with pytest.raises(ValueError, match="3 other categories, hypotheses or examples"):
        nli.route(TEXTS, list(ANIMALS), target_risk=0.1, hypothesis_template="It is on {}.")
    with pytest.raises(ValueError, match="with `several` there may be more than one"):
        nli.route(TEXTS, ANIMALS, target_risk=0.1, several=True)
    assert as_categories(turned).digest() == as_categories(ANIMALS).digest()
    with torch.no_grad():
        nli.model.nli_output.weight.mul_(2)
    with pytest.raises(ValueError, match="calibrated for other heads"):
        nli.route(TEXTS, ANIMALS, target_risk=0.9)


ROW = '{"text": "a cat", "label": "a"}\n'


@pytest.mark.parametrize(
    ("texts", "categories", "complaint"),
    [
        ('{"text": "a"}\n', '["a", "b"]', "row 1: expected"),
        (ROW + '{"label": "a"}\n', '["a", "b"]', "row 2: expected"),
        (ROW + "no row\n", '["a", "b"]', "row 2: expected"),
        (ROW + '\n{"text": null, "label": "a"}\n', '["a", "b"]', "row 2: the text must be a string"),
        (ROW + '{"text": 5, "label": "a"}\n', '["a", "b"]', "row 2: the text must be a string"),
        (ROW + '{"text": " ", "label": "a"}\n', '["a", "b"]', "row 2: the text is empty"),
        (
            ROW + '{"text": "x", "label": "A"}\n',
            '["a", "b"]',
            "row 2: the label 'A' is none of the categories",
        ),
        (ROW + '{"text": "x", "label": ["a"]}\n', '["a", "b"]', "row 2: the label ['a'] is none"),
        (ROW + '{"text": "x", "label": true}\n', '["a", "b"]', "row 2: the label True is none"),
        (ROW + '{"text": "x", "label": 1}\n', '{"0": "no", "2": "two"}', "row 1: the label 'a' is none"),
        ("", '["a", "b"]', "holds no texts"),
        ("[\n" + ROW, '["a", "b"]', "neither an object in each line nor one array"),
        (ROW, "{", "is no JSON file of categories"),
        (ROW, "[]", "maps each category to its hypothesis"),
    ],
)
def test_routes_that_cannot_be_calibrated(tmp_path, tiny_modernbert, capsys, texts, categories, complaint):
    """The file and the row are named, and the checkpoint stays as it was."""
    make_model(tiny_modernbert, "separate").save_pretrained(tmp_path / "checkpoint")
    before = (tmp_path / "checkpoint" / "config.json").read_bytes()
    (tmp_path / "texts.jsonl").write_text(texts)
    (tmp_path / "categories.json").write_text(categories)
    assert calibrated(tmp_path, tiny_modernbert) == 2
    assert complaint in capsys.readouterr().err
    assert (tmp_path / "checkpoint" / "config.json").read_bytes() == before


LABELLED = [
    {"text": "a cat", "label": "cats"},
    {"text": "line one\u2028line two\x85three", "label": "dogs"},
    {"text": "two people", "label": None},
    {"text": "rain", "label": "oos"},
    {"text": "snow", "label": "none"},
]


@pytest.mark.parametrize("kind", ["lines", "array", "csv", "parquet"])
def test_labelled_texts_are_read_as_pairs_are(tmp_path, kind):
    """BOM, separators of lines that JSON may hold, blank lines, and every kind of file."""
    path = tmp_path / {"lines": "a.jsonl", "array": "a.json", "csv": "a.csv", "parquet": "a.parquet"}[kind]
    if kind == "lines":
        lines = [json.dumps(row, ensure_ascii=False) for row in LABELLED]
        path.write_bytes(b"\xef\xbb\xbf" + "\r\n\n   \n".join(lines).encode())
    elif kind == "array":
        path.write_text(json.dumps(LABELLED, indent=1, ensure_ascii=False), encoding="utf-8-sig")
    elif kind == "csv":
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, ["text", "label"])
            writer.writeheader()
            writer.writerows(LABELLED)
    else:
        pq.write_table(pa.Table.from_pylist(LABELLED), path)
    (tmp_path / "categories.json").write_text(json.dumps(ANIMALS), encoding="utf-8-sig")
    texts, labels, categories = calibrate.load_routes(path, tmp_path / "categories.json")
    assert texts == [row["text"] for row in LABELLED]
    answers = answers_of(labels, as_categories(categories))
    assert answers == [0, 1, NOTHING, NOTHING, NOTHING]


@pytest.mark.parametrize(
    ("labels", "categories", "answers"),
    [
        (["cats", None, "oos", "none", ""], ANIMALS, [0, NOTHING, NOTHING, NOTHING, NOTHING]),
        (["none", "oos"], {"none": "It is none.", "cats": "It is cats."}, [0, NOTHING]),
        ([2, np.int64(1)], {1: "one", 2: "two"}, [1, 0]),
        ([np.str_("b")], ["a", np.str_("b")], [1]),
        (["1"], np.array(["0", "1"]), [1]),
    ],
)
def test_labels_name_categories_or_say_that_none_fits(labels, categories, answers):
    """A category that is called so is one."""
    assert answers_of(labels, as_categories(categories)) == answers


@given(st.text(max_size=6) | st.integers() | st.floats() | st.booleans() | st.lists(st.text(), max_size=2))
def test_a_label_that_is_no_category_is_refused(label):
    """Whatever it is: a slip must not count as a text that nothing fits."""
    if label in [*ANIMALS, *NO_CATEGORY]:
        return
    with pytest.raises(PairError, match=r"the label .* is none of the categories") as failed:
        answers_of(["cats", label], as_categories(ANIMALS))
    assert failed.value.row == 1


def test_an_entry_that_cannot_be_meant_is_refused(separate):
    """By the configuration, before anything is routed."""
    for wrong in ({"separate": {}}, {"separate": {**UNFITTED, "threshold": 2}}, {"neither": UNFITTED}, []):
        with pytest.raises(ValueError, match="routing"):
            type(separate.config)(**{**separate.config.to_dict(), "routing": wrong})


def test_what_a_route_was_fitted_to_stands_with_the_results(separate, tmp_path):
    """Not in the configuration, which holds what decides; one of version 0.2, which has it, is still read."""
    separate.save_pretrained(tmp_path)
    (tmp_path / "results.json").write_text(json.dumps({"seed": 1}))
    write_entry(tmp_path, "separate", FITTED, ["banking", "travel"])
    assert type(separate.config).from_pretrained(tmp_path).routing == {"separate": FITTED}
    results = json.loads((tmp_path / "results.json").read_text())
    assert results == {"seed": 1, "routing_data": {"separate": ["banking", "travel"]}}
    write_entry(tmp_path, "separate", {**FITTED, "data": ["banking"]}, ["banking"])
    assert type(separate.config).from_pretrained(tmp_path).routing["separate"]["data"] == ["banking"]
