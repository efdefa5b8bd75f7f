"""The evaluation of contestants: each against a computation of its own, and what is written of them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, make_model, rows, write
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cloze import folder as mlm  # noqa: F401
from test_teacher import OURS, PERMUTED, direct, save_teacher
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from modernbert_nli.configuration_modernbert_nli import LABELS
from modernbert_nli.evaluation import predictions as predictions_module
from modernbert_nli.evaluation import speed as speed_module
from modernbert_nli.evaluation import tables
from modernbert_nli.evaluation.command import main
from modernbert_nli.evaluation.contestants import Cloze, contestants, parse_model
from modernbert_nli.evaluation.measure import results_of
from modernbert_nli.evaluation.predictions import Predictions
from modernbert_nli.metrics.selective_prediction.selective_prediction import SelectivePrediction
from modernbert_nli.training.data import NOT_ENTAILMENT, load_pairs
from modernbert_nli.training.sources import KNOWN_SETS, parse_source, to_measure_on

sys.path.insert(0, str(ROOT / "docs" / "render"))

PICTURES = {
    f"{name}.{kind}" for name in ("risk_coverage", "reliability", "scores") for kind in ("png", "svg")
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> list[str]:
    """A three-way file and a two-way one."""
    folder = tmp_path_factory.mktemp("sets")
    two_way = [
        {**row, "label": "entailment" if row["label"] == "entailment" else "non-entailment"}
        for row in rows(50, 2)
    ]
    return [write(folder / "three.jsonl", rows(60, 1)), write(folder / "two.jsonl", two_way)]


@pytest.fixture(scope="module")
def heads(tmp_path_factory, tiny_modernbert) -> list[str]:
    """Two seeds of alignment heads and one checkpoint of the published design, with what training noted."""
    folders = []
    for seed, head_type in ((1, "alignment"), (2, "alignment"), (3, "cls")):
        folder = tmp_path_factory.mktemp(f"seed-{seed}")
        model = make_model(tiny_modernbert, head_type)
        with torch.no_grad():
            torch.manual_seed(seed)
            model.nli_output.weight.normal_()
        model.save_pretrained(folder)
        (folder / "results.json").write_text(json.dumps({"seed": seed, "temperature": 1.5}))
        folders.append(str(folder))
    return folders


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, tiny_bert) -> str:
    return save_teacher(tiny_bert, tmp_path_factory.mktemp("classifier"), PERMUTED)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, heads, classifier, tiny_modernbert, sets) -> dict:
    """Every kind of contestant but the cloze on both sets, in one run."""
    folder = tmp_path_factory.mktemp("evaluation")
    models = [
        f"ours={heads[0]},{heads[1]}?base={tiny_modernbert}",
        f"published={heads[2]}?base={tiny_modernbert}",
    ]
    models += [f"classifier={classifier}", f"ce={classifier}?kind=cross-encoder"]
    argv = ["--models", *models, "--sets", *sets, "--output_dir", str(folder / "out")]
    argv += ["--predictions", str(folder / "predictions"), "--batch_size", "16"]
    assert main(argv) == 0
    return {
        "argv": argv,
        "out": folder / "out",
        **json.loads((folder / "out" / "evaluation.json").read_text()),
    }


def row_of(results: dict, model: str, name: str, encoding: str | None = None) -> dict:
    key = {"model": model, "set": name, "encoding": encoding}
    (row,) = [row for row in results["results"] if key.items() <= row.items()]
    return row


def test_what_is_written(evaluated):
    """The contract that other programs read, and pictures."""
    assert {path.name for path in evaluated["out"].iterdir()} == {
        "evaluation.json",
        "evaluation.md",
        *PICTURES,
    }
    assert evaluated["sets"] == {
        "three": {"pairs": 60, "dataset": None},
        "two": {"pairs": 50, "dataset": None},
    }
    models = evaluated["models"]
    assert {name: model["kind"] for name, model in models.items()} == {
        "ours": "heads",
        "published": "heads",
        "classifier": "sequence-classification",
        "ce": "cross-encoder",
    }
    assert models["ours"]["base"] == {"name": "tester/tiny-base", "revision": None}
    assert (models["ours"]["seeds"], models["published"]["seeds"], models["ce"]["seeds"]) == ([1, 2], [3], [])
    assert [models[name]["fine_tuned"] for name in models] == [False, False, True, True]
    assert models["classifier"]["trained_parameters"] == models["ce"]["trained_parameters"] > 10_000
    assert len(evaluated["results"]) == 2 * (2 + 1 + 1 + 1)
    assert evaluated["speed"] is None
    assert str(evaluated["out"].parent) not in json.dumps(evaluated["command"])
    for row in evaluated["results"]:
        for figure in (row["accuracy"], row["f1_macro"], row["selective"]["aurc"]):
            assert figure["low"] <= figure["mean"] <= figure["high"]
            assert (figure["sd"] is None) == (row["model"] != "ours")
        own = row["selective"]["score"] == "its own"
        assert own == (row["selective"]["coverage"] is not None) == (row["model"] in ("ours", "published"))
        if not own:
            assert row["selective"]["aurc"] == row["selective"]["aurc_max_prob"]
    text = (evaluated["out"] / "evaluation.md").read_text()
    assert "| ours | separate |" in text
    assert f"{100 * row_of(evaluated, 'ce', 'two')['accuracy']['mean']:.1f} [" in text


def test_a_classifier_is_scored_as_by_hand(evaluated, classifier, sets):
    """Its own order of labels, through transformers and through CrossEncoder; neutral is no entailment."""
    for path, name in zip(sets, ("three", "two"), strict=True):
        pairs = load_pairs(path)
        answers = direct(classifier, pairs)[:, OURS].argmax(axis=1)
        right = (answers == 0) == (pairs.labels == 0) if name == "two" else answers == pairs.labels
        for model in ("classifier", "ce"):
            row = row_of(evaluated, model, name)
            assert row["accuracy"]["mean"] == pytest.approx(right.mean())
            assert row["f1_micro"]["mean"] == pytest.approx(right.mean())
        found = row_of(evaluated, "classifier", name)["per_class"]["entailment"]
        both = ((answers == 0) & (pairs.labels == 0)).sum()
        assert found["recall"] == pytest.approx(both / (pairs.labels == 0).sum())
        assert found["precision"] == pytest.approx(both / max(1, (answers == 0).sum()))


def test_heads_are_scored_as_the_pipeline_answers(evaluated, heads, tiny_modernbert, sets):
    """In each encoding, mean and deviation over seeds."""
    from modernbert_nli.loading import load_pipeline

    pairs = load_pairs(sets[0])
    texts = list(zip(pairs.premises, pairs.hypotheses, strict=True))
    for encoding in ("joint", "separate"):
        accuracies, coverages = [], []
        for folder in heads[:2]:
            results = load_pipeline(folder, tiny_modernbert, device="cpu")(texts, encoding=encoding)
            right = [
                result["label"] == LABELS[label] for result, label in zip(results, pairs.labels, strict=True)
            ]
            accuracies.append(np.mean(right))
            coverages.append(np.mean([not result["abstain"] for result in results]))
        row = row_of(evaluated, "ours", "three", encoding)
        assert row["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
        assert row["accuracy"]["sd"] == pytest.approx(np.std(accuracies, ddof=1))
        assert row["selective"]["coverage"]["mean"] == pytest.approx(np.mean(coverages), abs=0.02)


def test_the_published_design_knows_joint_encoding_alone(evaluated):
    assert [row["encoding"] for row in evaluated["results"] if row["model"] == "published"] == ["joint"] * 2


def test_a_second_run_judges_nothing_again(evaluated, monkeypatch, capsys):
    """Results and pictures come out the same from the predictions kept."""
    pictures = {name: (evaluated["out"] / name).read_bytes() for name in PICTURES if name.endswith("svg")}
    monkeypatch.setattr(predictions_module, "_judge", lambda *_: pytest.fail("judged again"))
    assert main(evaluated["argv"]) == 0
    again = json.loads((evaluated["out"] / "evaluation.json").read_text())
    assert again["results"] == evaluated["results"]
    assert {name: (evaluated["out"] / name).read_bytes() for name in pictures} == pictures
    assert "| Model | Encoding | three | two |" in capsys.readouterr().out


def test_an_interruption_keeps_what_is_done(evaluated, tmp_path, monkeypatch, capsys):
    """Sets that were judged are not judged again; the exit status says that there is more to do."""
    kept = tmp_path / "predictions"
    argv = [*evaluated["argv"][:4], *evaluated["argv"][5:]]  # without the cross-encoder
    argv[argv.index("--predictions") + 1] = str(kept)
    judge, calls = predictions_module._judge, []

    def some(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        judge(*args)

    monkeypatch.setattr(predictions_module, "_judge", some)
    assert main(argv) == 130
    assert "The same command continues" in capsys.readouterr().err.replace("the same", "The same")
    assert len(list(kept.iterdir())) == 2
    assert main(argv) == 0
    assert len(calls) == 3 + len(list(kept.iterdir())) - 2


def test_a_masked_language_model_is_a_contestant(mlm, sets):  # noqa: F811
    """Found by its architecture; its logits are the log-probabilities of its answers."""
    (contestant,) = contestants(parse_model(mlm), "cpu")
    assert isinstance(contestant, Cloze)
    pairs = load_pairs(sets[0])
    texts = list(zip(pairs.premises, pairs.hypotheses, strict=True))[:5]
    judged = contestant.judge(texts, None, 4)
    expected = [list(decision["probs"].values()) for decision in contestant.classifier.nli(texts)]
    np.testing.assert_allclose(np.exp(judged.logits), expected, atol=1e-5)
    assert judged.uncertainty is None
    assert contestant.trained_parameters is None


def predictions(count: int, seed: int, two_way: bool = False, threshold: float | None = 0.4) -> Predictions:
    random = np.random.default_rng(seed)
    labels = random.integers(2, size=count) * NOT_ENTAILMENT if two_way else random.integers(3, size=count)
    logits = random.normal(size=(count, 3)) + 2 * np.eye(3)[np.minimum(labels, 2)]
    return Predictions(logits, labels, random.random(count), threshold, None)


@pytest.mark.parametrize("two_way", [False, True])
def test_figures_are_those_of_the_metric(two_way):
    """`metrics/selective_prediction` on the same answers."""
    run = predictions(200, 0, two_way)
    found = results_of([run], draws=20)
    shares = np.exp(run.logits) / np.exp(run.logits).sum(axis=1, keepdims=True)
    answers, labels = run.logits.argmax(axis=1), run.labels
    if two_way:
        shares = np.stack([shares[:, 0], shares[:, 1:].sum(axis=1)], axis=1)
        answers, labels = (answers > 0).astype(int), (labels > 0).astype(int)
    expected = SelectivePrediction().compute(
        predictions=answers.tolist(),
        references=labels.tolist(),
        uncertainty=run.uncertainty.tolist(),
        probabilities=shares.tolist(),
        threshold=0.4,
    )
    assert found["accuracy"]["mean"] == pytest.approx(expected.pop("accuracy"))
    for key, value in expected.items():
        assert found["selective"][key]["mean"] == pytest.approx(value), key
    f1 = []
    for label in np.unique(labels):
        hits = ((answers == label) & (labels == label)).sum()
        f1.append(2 * hits / ((answers == label).sum() + (labels == label).sum()))
    assert found["f1_macro"]["mean"] == pytest.approx(np.mean(f1))
    assert list(found["per_class"]) == (["entailment", "non-entailment"] if two_way else list(LABELS))


def test_intervals_shrink_with_the_pairs_and_are_about_as_wide_as_they_should_be():
    """Of a share p of n: 1.96 sqrt(p (1 - p) / n) to either side."""
    widths = []
    for count in (100, 1600):
        accuracy = results_of([predictions(count, 1)])["accuracy"]
        share = accuracy["mean"]
        expected = 2 * 1.96 * np.sqrt(share * (1 - share) / count)
        widths.append(accuracy["high"] - accuracy["low"])
        assert widths[-1] == pytest.approx(expected, rel=0.2)
    assert widths[1] < widths[0] / 3


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=12))
def test_any_answers_have_figures(cells):
    """All right, all wrong, a class that never comes: nothing is divided by nothing."""
    labels, answers = map(np.array, zip(*cells, strict=True))
    run = Predictions(np.eye(3)[answers] * 3, labels, None, None, None)
    found = results_of([run, run], draws=10)
    assert found["accuracy"]["mean"] == pytest.approx((labels == answers).mean())
    assert found["accuracy"]["sd"] == 0
    assert found["selective"]["coverage"] is None
    json.dumps(found, allow_nan=False)


def test_speed_is_measured_in_a_process_of_its_own(classifier, monkeypatch):
    """Pairs and tokens a second, and the memory of that process."""
    monkeypatch.setattr(speed_module, "BATCH_SIZES", (32,))
    texts = [("It rains.", "The ground is wet."), ("A man eats.", "Somebody eats food.")]
    (row,) = speed_module.speed_of(f"classifier={classifier}", None, texts * 20, "cpu")
    tokenizer = AutoTokenizer.from_pretrained(classifier)
    tokens = sum(len(tokenizer(*pair)["input_ids"]) for pair in texts) / len(texts)
    assert row["tokens_per_second"] == pytest.approx(tokens * row["pairs_per_second"])
    assert row["peak_rss_bytes"] > 50_000_000
    assert (row["batch_size"], row["peak_gpu_bytes"], row["encoding"]) == (32, None, None)
    monkeypatch.setattr(speed_module.sys, "executable", "/bin/false")
    with pytest.raises(ValueError, match=r"could not be measured: exit status 1"):
        speed_module.speed_of(classifier, None, texts, "cpu")


def test_a_file_says_what_it_is_a_part_of(tmp_path):
    """Results name the Hub dataset then, and that it is not all of it."""
    path = write(tmp_path / "half.jsonl", rows(3))
    assert parse_source(path).hub is None
    there = {"config": None, "split": "test", "revision": None}
    expected = {"id": "stanfordnlp/snli", "name": "half, a part of this split", **there}
    assert parse_source(f"{path}?part=snli:test").hub == expected
    with pytest.raises(ValueError, match=r"`part=.*`: a Hub dataset is needed"):
        parse_source(f"{path}?part={path}")
    with pytest.raises(ValueError, match="`part` is for files"):
        parse_source("owner/set?part=snli")


@pytest.mark.parametrize("name", KNOWN_SETS)
def test_a_known_set_means_what_one_measures_on(name):
    """Under its own name, in a split that there is; options and another split stay."""
    source = parse_source(to_measure_on(name))
    assert (source.name, source.split) == (name, KNOWN_SETS[name].measured)
    assert source.split in KNOWN_SETS[name].splits
    assert source.hub["id"] == source.dataset
    assert parse_source(to_measure_on(f"{name}?cap=5&name=mine")).name == "mine"
    split = f"{name}:{KNOWN_SETS[name].splits[0]}"
    assert to_measure_on(split) == split


def test_models_that_stand_in_the_tables_alone(evaluated, tmp_path, capsys):
    """`--tables_only` leaves them out of the pictures, and nothing else."""
    argv = list(evaluated["argv"])
    argv[argv.index("--output_dir") + 1] = str(tmp_path)
    assert main([*argv, "--tables_only", "published", "ce"]) == 0
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["results"] == evaluated["results"]
    sizes = [(folder / "risk_coverage.png").stat().st_size for folder in (tmp_path, evaluated["out"])]
    assert sizes[0] < sizes[1]
    capsys.readouterr()
    assert main([*argv, "--tables_only", "nobody"]) == 2
    assert "`--tables_only nobody` is none of the models" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("models", "complaint"),
    [
        (["{tiny_modernbert}", "x={tiny_modernbert},{tiny_modernbert}?kind=mind"], "the kinds are heads"),
        (["{classifier}?size=2"], "'size=2' is no option of a model"),
        (["=a"], "names no model"),
        (["x={classifier}", "x={classifier}"], "Two models are called 'x'"),
        (["{tiny_bert}"], "names the architectures BertModel. Choose how it is used by `?kind=`"),
        (["{classifier}?labels=entailment,neutral"], "does not order the classes"),
        (["{unnamed}"], "LABEL_0, LABEL_1, LABEL_2, which does not say which is which"),
        (["/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_models_that_cannot_be_evaluated(request, tmp_path, sets, capsys, models, complaint):
    """Are refused in a line, before anything is judged."""
    unnamed = tmp_path / "unnamed"
    unnamed.mkdir()
    names = {"tiny_modernbert": "", "tiny_bert": "", "classifier": ""}
    names = {name: request.getfixturevalue(name) for name in names}
    config = json.loads((Path(names["classifier"]) / "config.json").read_text())
    config = {key: value for key, value in config.items() if key not in ("id2label", "label2id")}
    (unnamed / "config.json").write_text(json.dumps({**config, "num_labels": 3}))
    given_models = [model.format(**names, unnamed=unnamed) for model in models]
    argv = ["--models", *given_models, "--sets", *sets, "--output_dir", str(tmp_path / "out")]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.startswith("evaluate_nli.py: error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_pair_that_does_not_fit_is_named(heads, tiny_modernbert, tmp_path, capsys):
    """With its set."""
    long = {"premise": "x", "hypothesis": "many words " * 300, "label": "neutral"}
    path = write(tmp_path / "long.jsonl", [*rows(5), long])
    argv = ["--models", f"{heads[0]}?base={tiny_modernbert}", "--sets", path]
    argv += ["--output_dir", str(tmp_path / "out"), "--predictions", str(tmp_path / "predictions")]
    assert main(argv) == 2
    assert "long, pair 6: the hypothesis has" in capsys.readouterr().err


def test_a_base_fine_tuned_as_a_whole_is_a_contestant(tiny_bert, tmp_path):
    """What is noted beside its weights says what it is."""
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    AutoModelForSequenceClassification.from_pretrained(tiny_bert, **labels).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path)
    noted = {"base": {"name": "tester/tiny-bert", "revision": None}, "seed": 4, "train": {"train": 249}}
    (tmp_path / "results.json").write_text(json.dumps(noted))
    (contestant,) = contestants(parse_model(f"tuned={tmp_path}"), "cpu")
    assert (contestant.kind, contestant.fine_tuned) == ("sequence-classification", True)
    assert contestant.noted == noted
    assert contestant.base == noted["base"]


def test_the_page_of_results_is_rendered_from_results(evaluated, monkeypatch):
    """docs/results.md has what the files have; where there is none yet, what to run."""
    import readme

    page = (ROOT / "docs" / "results.md").read_text()
    assert readme.rendered(page) == page
    written = evaluated["out"] / "evaluation.json"
    results = json.loads(written.read_text())  # a test above has written it again
    monkeypatch.setattr(readme, "EVALUATION", written)
    found = readme.rendered(page)
    assert tables.quality(results) in found
    assert tables.selective(results) in found
    assert readme.rendered(found) == found
    monkeypatch.setattr(readme, "EVALUATION", evaluated["out"] / "nothing.json")
    assert (
        "Not measured yet: run `python evaluate_nli.py --models checkpoints/quickstart version-0.1="
        in readme.rendered(page)
    )
