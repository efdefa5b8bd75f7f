"""The pipeline: any form of pairs, in order, as they come; decisions; errors that name the pair."""

import itertools
import json

import pytest
import torch
from conftest import PAIRS, make_model, tokenize
from datasets import Dataset, IterableDataset
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, pipeline
from transformers.pipelines.pt_utils import KeyDataset, KeyPairDataset

from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel
from modernbert_nli.tokenization import PairError

BAD = [
    (None, "expected a premise and a hypothesis, got NoneType"),
    ("a lone string", "expected a premise and a hypothesis, got str"),
    (("one", "two", "three"), "expected a premise and a hypothesis, got tuple"),
    ({"premise": "a"}, r"a pair needs the keys 'premise' and 'hypothesis', got \['premise'\]"),
    (("a", None), "the hypothesis must be a string, got NoneType"),
    (("", "b"), "the premise is empty"),
]


@pytest.fixture(scope="module")
def pipe(model):
    return model.as_pipeline()


@pytest.fixture(scope="module")
def expected(pipe) -> list[dict]:
    """`PAIRS`, one by one."""
    return [pipe(premise, hypothesis) for premise, hypothesis in PAIRS]


def assert_same(found, expected) -> None:
    """Equal decisions, with numbers equal up to rounding."""
    found, expected = list(found), list(expected)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one["probs"] == pytest.approx(other["probs"], abs=1e-5)
        assert one["uncertainty"] == pytest.approx(other["uncertainty"], abs=1e-5)
        assert (one["label"], one["abstain"]) == (other["label"], other["abstain"])


def test_decision(pipe, model, batch, expected):
    """A decision is the model's own: the likeliest label, its probability, and whether to abstain."""
    output = model(**batch)
    for row, result in enumerate(expected):
        probs = output.logits[row].softmax(-1).tolist()
        assert set(result) == {"label", "confidence", "abstain", "uncertainty", "probs", "reason"}
        assert list(result["probs"]) == ["entailment", "neutral", "contradiction"]
        assert list(result["probs"].values()) == pytest.approx(probs, abs=1e-5)
        assert result["confidence"] == max(result["probs"].values()) == result["probs"][result["label"]]
        assert result["uncertainty"] == pytest.approx(output.uncertainty[row].item(), abs=1e-5)
        assert result["abstain"] is (result["uncertainty"] >= model.config.abstention_threshold)
    json.dumps(expected)


@pytest.mark.parametrize(
    "form",
    [
        lambda pair: pair,
        list,
        lambda pair: {"premise": pair[0], "hypothesis": pair[1]},
        lambda pair: {"text": pair[0], "text_pair": pair[1], "id": 7},
    ],
    ids=["tuple", "list", "premise and hypothesis", "text and text_pair"],
)
def test_forms(pipe, expected, form):
    """Pairs are tuples, lists or dicts; a list of them gives a list, a generator gives a generator."""
    pairs = [form(pair) for pair in PAIRS]
    found = pipe(pairs)
    assert isinstance(found, list)
    assert_same(found, expected)
    stream = pipe(pair for pair in pairs)
    assert iter(stream) is stream
    assert_same(stream, expected)
    if not isinstance(pairs[0], list):
        assert_same([pipe(pairs[0])], expected[:1])


def test_dataset(pipe, expected):
    """A dataset with columns of pairs is read row by row."""
    rows = [{"premise": premise, "hypothesis": hypothesis, "label": 0} for premise, hypothesis in PAIRS]
    assert_same(pipe(Dataset.from_list(rows)), expected)


def test_nothing(pipe):
    """No pairs give no results."""
    assert pipe([]) == []
    assert list(pipe(iter([]))) == []


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_order(pipe, batch_size):
    """Batches are made by length, but results keep the order of the pairs and equal those of single calls."""
    texts = [
        "The cat sleeps.",
        "a man is eating food .",
        "nobody is outside. " * 4,
        "The dog runs in the park. " * 8,
    ]
    pairs = [(premise, hypothesis) for premise in texts for hypothesis in texts[:3]] * 2
    assert_same(pipe(pairs, batch_size=batch_size), [pipe(*pair) for pair in pairs])


def test_lazy(pipe):
    """Results of a generator appear long before it is exhausted, so that it may be endless."""
    taken = 0

    def endless():
        nonlocal taken
        for pair in itertools.cycle(PAIRS):
            taken += 1
            yield pair

    found = list(itertools.islice(pipe(endless(), batch_size=2), 300))
    assert len(found) == 300
    assert taken <= 300 + 2 * 64
    assert_same(found[297:300], found[:3])


@pytest.mark.parametrize(("threshold", "abstain"), [(0, True), (0.0, True), (1, False), (1.0, False)])
def test_threshold(model, pipe, threshold, abstain):
    """The threshold is given to a call or to the pipeline; a call's is the stronger."""
    assert pipe(*PAIRS[0], threshold=threshold)["abstain"] is abstain
    assert {result["abstain"] for result in pipe(PAIRS, threshold=threshold)} == {abstain}
    other = model.as_pipeline(threshold=threshold)
    assert other(*PAIRS[0])["abstain"] is abstain
    assert other(*PAIRS[0], threshold=1 - threshold)["abstain"] is not abstain


@pytest.mark.parametrize("threshold", [-0.1, 1.1, "high", True, float("nan")])
def test_invalid_threshold(model, pipe, threshold):
    """A threshold is a number from 0 to 1, and all else is refused at once."""
    for call in (
        lambda: pipe(*PAIRS[0], threshold=threshold),
        lambda: model.as_pipeline(threshold=threshold),
    ):
        with pytest.raises(ValueError, match="between 0 and 1"):
            call()


def test_unknown_argument(pipe):
    """A misspelt argument is named, not ignored."""
    with pytest.raises(TypeError, match="treshold"):
        pipe(*PAIRS[0], treshold=0.3)


@pytest.mark.parametrize(("bad", "reason"), BAD, ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize("position", [0, 2, 70])
def test_bad_pair(pipe, bad, reason, position):
    """The position of a bad pair is in the message, also deep in a generator, after earlier results."""
    pairs = list(itertools.islice(itertools.cycle(PAIRS), 80))
    pairs[position] = bad
    with pytest.raises(ValueError, match=f"Pair {position}: {reason}"):
        pipe(pairs, batch_size=1)
    stream = pipe(iter(pairs), batch_size=1)
    early = list(itertools.islice(stream, 64 if position > 64 else 0))
    assert all("label" in result for result in early)
    with pytest.raises(ValueError, match=f"Pair {position}: {reason}"):
        list(stream)


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("One text.",), "One text alone"),
        ((["One text.", "Another."],), "Pair 0: expected a premise and a hypothesis, got str"),
        ((["One text.", "Another."], "A hypothesis."), "goes with a single premise, not with list"),
        ((7,), "not int"),
        ((None,), "not NoneType"),
    ],
)
def test_bad_call(pipe, args, reason):
    """A call that holds no pair says how to give one."""
    with pytest.raises(ValueError, match=f"{reason}.*Give pipe\\(premise, hypothesis\\)|Give pipe.*{reason}"):
        pipe(*args)


CATEGORIES = {
    "food": "somebody eats .",
    7: "This is about sports.",
    "": "nobody is outside",
    "Größe 📦": "a phone",
}


def test_route(pipe):
    """All categories compete before anything is declined; keys of any kind come back as they were."""
    routed = pipe.route(PAIRS[0][0], CATEGORIES, threshold=1.0)
    scores = {name: score["probs"]["entailment"] for name, score in routed["scores"].items()}
    assert list(scores) == list(CATEGORIES)
    assert routed["category"] == max(scores, key=scores.get) == routed["ranking"][0][0]
    assert routed["confidence"] == routed["ranking"][0][1]
    assert routed["uncertainty"] == pytest.approx(1, abs=1e-5)  # random heads find all of them alike
    assert [name for name, _ in routed["ranking"]] == sorted(scores, key=scores.get, reverse=True)
    assert sum(chance for _, chance in routed["ranking"]) == pytest.approx(max(scores.values()), abs=1e-5)
    assert routed["reason"] is None
    assert_same(routed["scores"].values(), pipe([(PAIRS[0][0], text) for text in CATEGORIES.values()]))


def test_an_abstaining_category_is_not_passed_over(pipe):
    """It was: the best category abstained, and one that surely does not fit was named instead."""
    scores = pipe.route(PAIRS[0][0], CATEGORIES)["scores"]
    limit = sorted(score["uncertainty"] for score in scores.values())[1]
    strict = type(pipe)(model=pipe.model, tokenizer=pipe.tokenizer, threshold=limit, device="cpu")
    routed = strict.route(PAIRS[0][0], CATEGORIES, threshold=1.0)
    assert sum(not score["abstain"] for score in routed["scores"].values()) == 1
    entailed = {name: score["probs"]["entailment"] for name, score in routed["scores"].items()}
    assert routed["category"] == max(entailed, key=entailed.get)


def test_route_none(pipe):
    """Where the route is declined there is no category, the reason says why, and the ranking stays."""
    routed = pipe.route(PAIRS[0][0], CATEGORIES, threshold=0.0)
    assert (routed["category"], routed["confidence"]) == (None, None)
    assert routed["reason"].startswith(("nothing fits: ", "too close to call: "))
    assert repr(routed["ranking"][0][0]) in routed["reason"]
    assert len(routed["scores"]) == len(routed["ranking"]) == len(CATEGORIES)


def test_one_category_and_ties(pipe):
    """One category is as probable as it is entailed; of two alike the first, at half of that."""
    text, hypothesis = PAIRS[0]
    one = pipe.route(text, {"it": hypothesis}, threshold=1.0)
    entailed = one["scores"]["it"]["probs"]["entailment"]
    assert one["confidence"] == pytest.approx(entailed, abs=1e-5)
    two = pipe.route(text, {"a": hypothesis, "b": hypothesis}, threshold=1.0)
    assert two["category"] == "a"
    assert two["confidence"] == pytest.approx(entailed / 2, abs=1e-4)
    several = pipe.route(text, {"a": hypothesis, "b": hypothesis}, threshold=1.0, several=True)
    assert several["categories"] == ["a", "b"]
    assert several["confidence"] == pytest.approx(entailed, abs=1e-4)


def test_names_with_a_template(pipe):
    """Plain names are what a mapping to the filled-in template is."""
    named = pipe.route(PAIRS[0][0], ["food", "sports"], hypothesis_template="It is about {}.")
    mapped = pipe.route(PAIRS[0][0], {name: f"It is about {name}." for name in ("food", "sports")})
    assert named == mapped
    with pytest.raises(ValueError, match="needs a place for the name"):
        pipe.route(PAIRS[0][0], ["food"], hypothesis_template="It is about food.")
    with pytest.raises(ValueError, match="'food' is there twice"):
        pipe.route(PAIRS[0][0], ["food", "food"])
    with pytest.raises(ValueError, match="count by similarity"):
        pipe.route(PAIRS[0][0], ["food"], examples={"food": ["a man eats"]})


def test_no_risk_is_guaranteed_without_a_calibration_of_routes(pipe):
    """What is guaranteed of pairs says nothing of the best of many."""
    with pytest.raises(ValueError, match="no such guarantee covers the best of several categories"):
        pipe.route(PAIRS[0][0], CATEGORIES, target_risk=0.1)


@pytest.mark.parametrize("categories", [{}, [], None, "food"])
def test_route_without_categories(pipe, categories):
    """Categories without hypotheses are refused, with an example."""
    with pytest.raises(ValueError, match="maps each category to its hypothesis"):
        pipe.route("A text.", categories)


def test_route_bad_hypothesis(pipe):
    """A category without a text as its hypothesis is refused."""
    with pytest.raises(ValueError, match="Pair 1: the hypothesis is empty"):
        pipe.route("A text.", {"one": "This is one.", "two": " "})


@pytest.mark.parametrize("label", ["entailment", "neutral", "contradiction"])
def test_validate_fact(tiny_modernbert, label):
    """A claim is supported, contradicted, neither, or uncertain, never two of them."""
    model = make_model(tiny_modernbert)
    with torch.no_grad():
        model.nli_output.weight.zero_()
        model.nli_output.bias.copy_(torch.tensor([5.0 * (name == label) for name in model.config.label2id]))
    pipe = model.as_pipeline()
    decided = pipe.validate_fact(*PAIRS[0], threshold=1.0)
    assert {key: decided[key] for key in ("supported", "contradicted", "uncertain")} == {
        "supported": label == "entailment",
        "contradicted": label == "contradiction",
        "uncertain": False,
    }
    if label == "entailment":  # what speaks against it weighs nothing
        assert decided["confidence"] == pytest.approx(pipe(*PAIRS[0])["confidence"], abs=1e-4)
    assert 0.5 < decided["confidence"] <= 1
    assert decided["evidence"][0]["text"] == PAIRS[0][0]
    undecided = pipe.validate_fact(*PAIRS[0], threshold=0.0)
    assert [undecided[key] for key in ("supported", "contradicted", "uncertain")] == [False, False, True]


def test_bfloat16(checkpoint, tiny_modernbert, expected):
    """An encoder in bfloat16 gives nearly the same probabilities, which still sum to one."""
    how = {"base_model_name_or_path": tiny_modernbert, "dtype": torch.bfloat16}
    found = ModernBertNliModel.from_pretrained(checkpoint, **how).as_pipeline()(PAIRS)
    for one, other in zip(found, expected, strict=True):
        assert one["probs"] == pytest.approx(other["probs"], abs=0.05)
        assert sum(one["probs"].values()) == pytest.approx(1, abs=1e-6)


def test_save_and_reload(checkpoint, tiny_modernbert, pipe, expected, tmp_path):
    """A pipeline that was saved opens again, as a pipeline and as a model, and decides as before."""
    base = {"base_model_name_or_path": tiny_modernbert}
    first = pipeline(model=checkpoint, trust_remote_code=True, model_kwargs=base)
    assert_same(first(PAIRS), expected)
    for step, saver in (("from the object", pipe), ("from the folder", first)):
        saver.save_pretrained(tmp_path / step)
        again = pipeline(model=str(tmp_path / step), trust_remote_code=True, model_kwargs=base, batch_size=2)
        assert_same(again(PAIRS), expected)
        again.save_pretrained(tmp_path / step / "again")
        config = (tmp_path / step / "again" / "config.json").read_text()
        assert json.loads(config)["custom_pipelines"]["nli-abstention"]["pt"] == ["AutoModel"]


def test_what_came_before_a_failure_is_answered(model):
    """A generator that breaks, or a bad pair in the middle: the answers before it are not lost."""

    def breaks():
        yield from PAIRS
        raise RuntimeError("the source is gone")

    nli = model.as_pipeline()
    for source, error in ((breaks(), RuntimeError), (iter([*PAIRS, ("", "x"), PAIRS[0]]), PairError)):
        answers = nli(source, batch_size=2)
        assert [next(answers)["label"] for _ in PAIRS] == [nli(*pair)["label"] for pair in PAIRS]
        with pytest.raises(error):
            next(answers)


def test_map_style_datasets(pipe, expected):
    """Those of text-classification: a length and items by number, without an iterator."""
    rows = Dataset.from_list([{"premise": premise, "hypothesis": other} for premise, other in PAIRS])
    pairs = Dataset.from_list(
        [{"pair": {"premise": premise, "hypothesis": other}} for premise, other in PAIRS]
    )

    class Plain:
        def __len__(self) -> int:
            return len(PAIRS)

        def __getitem__(self, row: int) -> tuple[str, str]:
            return PAIRS[row]

    for dataset in (KeyPairDataset(rows, "premise", "hypothesis"), KeyDataset(pairs, "pair"), Plain()):
        answers = pipe(dataset)
        assert next(answers)["label"] == expected[0]["label"]
        assert_same([expected[0], *answers], expected)
    texts = pipe.route(KeyDataset(rows, "premise"), {"sports": "this is about sports"})
    assert len(texts) == len(PAIRS)


def test_trainer_predicts_logits_first(model):
    """Trainer's predictions are logits; the token states are not gathered over the whole set."""
    rows = [dict(model.tokenizer(*pair), labels=0) for pair in PAIRS]
    arguments = TrainingArguments(output_dir="unused", use_cpu=True, report_to="none", label_names=["labels"])
    trainer = Trainer(model, arguments, data_collator=DataCollatorWithPadding(model.tokenizer))
    logits = trainer.predict(rows).predictions[0]
    with torch.no_grad():
        expected = model(**tokenize(model), mode="nli")
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-5, rtol=0)
    as_tuple = model(**tokenize(model), return_dict=False)
    assert torch.equal(as_tuple[1], model(**tokenize(model)).logits)


@pytest.mark.parametrize(
    "kind", [lambda ds: KeyDataset(ds, "text"), lambda ds: KeyPairDataset(ds, "text", "pair")]
)
def test_a_streamed_dataset_behind_keys_is_refused_in_a_sentence(pipe, kind):
    """What transformers wraps has no length then; the streamed dataset itself, as a generator, is judged."""
    rows = [{"text": premise, "pair": hypothesis} for premise, hypothesis in PAIRS]
    streamed = IterableDataset.from_generator(lambda: iter(rows))
    with pytest.raises(ValueError, match=r"This Key\w*Dataset has no length.*streamed.*Give a generator"):
        pipe(kind(streamed))
    with pytest.raises(ValueError, match="Give a generator"):
        pipe.route(kind(streamed), ["music", "sport"])
    found = list(pipe((row["text"], row["pair"]) for row in streamed))
    assert [result["label"] for result in found] == [pipe(*pair)["label"] for pair in PAIRS]
