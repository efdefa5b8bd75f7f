"""The page: its metadata and its body, from results files alone, with a gap for whatever is missing."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import make_model
from evaluations import PNG, calibration, evaluation, result, spread, training_results
from huggingface_hub import ModelCard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from modernbert_nli.calibrating.over_domains import domain_guarantee
from modernbert_nli.loading import stored_config
from modernbert_nli.publishing.card import Evaluation, Page, render, training_data
from modernbert_nli.training.sources import KNOWN_SETS

BASE = {"name": "tester/tiny-base", "revision": "a" * 40}
EXAMPLES = [
    {
        "premise": 'It\'s "cold".',
        "hypothesis": "The ground is wet.",
        "decision": {
            "label": "neutral",
            "confidence": 0.51234,
            "abstain": True,
            "uncertainty": 0.44444,
            "probs": {"entailment": 0.25, "neutral": 0.51234, "contradiction": 0.23766},
        },
    }
]


@pytest.fixture(scope="module")
def folder(tiny_modernbert, tmp_path_factory) -> Path:
    """What will be published, with all that the page needs."""
    folder = tmp_path_factory.mktemp("publish")
    model = make_model(tiny_modernbert, "separate")
    model.config.base_model_revision = BASE["revision"]
    model.set_calibration(calibration(), 0.25)
    model.save_pretrained(folder)
    (folder / "results.json").write_text(json.dumps(training_results(BASE)))
    (folder / "risk_coverage.png").write_bytes(PNG)
    return folder


def page(folder: Path, results: dict | None, revision: str = "v1") -> Page:
    measured = (
        None if results is None else Evaluation(results, "ours" if "ours" in results["models"] else None)
    )
    return render(folder, "tester/nli", revision, measured, EXAMPLES)


def rows(text: str, heading: str) -> list[list[str]]:
    """Cells of the table that begins with a heading, without its rule."""
    lines = text[text.index(f"| {heading}") :].split("\n\n")[0].splitlines()
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if "---" not in line
    ]


def test_metadata(folder):
    """What the Hub reads: base and relation, task, licence, language, data, metrics, tags, results."""
    found = page(folder, evaluation(BASE))
    assert found.gaps == []
    data = ModelCard(found.text).data
    assert (data.base_model, data["base_model_relation"]) == (BASE["name"], "adapter")
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-classification")
    assert (data.license, data.language) == ("apache-2.0", ["en"])
    assert (data.datasets, data.metrics) == (["stanfordnlp/snli"], ["accuracy", "f1"])
    assert {"custom_code", "nli", "selective-prediction", "abstention"} <= set(data.tags)
    assert data["widget"][0]["output"][1] == {"label": "neutral", "score": 0.512}

    figures = {entry.metric_type: entry for entry in data.eval_results}
    assert {name: entry.metric_value for name, entry in figures.items()} == {
        "accuracy": 0.81,
        "f1": 0.8,
        "coverage": 0.5,
        "selective_accuracy": 0.5,
        "aurc": 0.5,
    }
    entry = figures["accuracy"]
    place = (entry.dataset_type, entry.dataset_config, entry.dataset_split, entry.dataset_revision)
    assert place == ("stanfordnlp/snli", "plain_text", "test", "c" * 40)


def test_the_body_keeps_its_order(folder):
    """The snippet first, then picture, peers, guarantee, modes, data, reproduction, code, citation."""
    text = page(folder, evaluation(BASE), "0123abc").text
    places = [
        text.index(part)
        for part in (
            'pipeline(model="tester/nli", revision="0123abc", trust_remote_code=True)',
            "](risk_coverage.png)",
            "| **this model**",
            "## The guarantee, and its limits",
            "## Four modes",
            "## Training data and licences",
            "## How to reproduce",
            "## What `trust_remote_code` runs",
            "## Citation",
        )
    ]
    assert places == sorted(places)
    assert "missing" not in text
    assert "{{" not in text.replace("{{tester}}", "")
    assert "YOUR" not in text
    assert "'uncertainty': 0.444" in text


def test_the_model_has_its_honest_place(folder):
    """Sorted by accuracy, whoever is ahead; a model that lacks a set is not compared by the others' mean."""
    table = rows(page(folder, evaluation(BASE)).text, "Model |")
    assert [row[0] for row in table[1:]] == [
        "tuned",
        "**this model**, joint",
        "**this model**, separate",
        "others, joint",
    ]
    assert [row[1] for row in table[1:]] == ["yes", "no", "no", "no"]
    assert table[2][2:] == ["12,345", "82.0% (80.0 to 84.0)", "62.0% (60.0 to 64.0)"]
    assert table[4][-1] == "–"


def test_coverage_stands_beside_accuracy(folder):
    """From results.json, one run or several; what was never answered has no selective accuracy."""
    table = rows(page(folder, evaluation(BASE)).text, "Set |")
    assert table[1] == ["hans", "500", "separate", "50.0%", "50.0%", "–", "0.5000", "0.5000"]


def test_a_checkpoint_that_abstains_by_its_largest_probability_says_so(folder, tmp_path):
    """And none says so that has learnt more than that."""
    said = "by which this\ncheckpoint abstains"
    assert said not in page(folder, evaluation(BASE)).text
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "abstention_weight": 0.0}))
    assert said in page(tmp_path, evaluation(BASE)).text


def test_the_guarantee_is_that_of_the_configuration(folder):
    """Every row of the calibration, those that cannot be guaranteed among them."""
    text = page(folder, evaluation(BASE)).text
    table = rows(text, "Target risk |")[1:]
    entry = calibration()["separate"]["table"]
    assert len(table) == len(entry)
    for cells, row in zip(table, entry, strict=True):
        assert cells[0] == f"{row['target_risk']:.1%}"
        assert cells[1] == ("cannot be guaranteed" if row["threshold"] is None else f"{row['threshold']:.3f}")
    assert any(row["threshold"] is None for row in entry)
    assert "with probability 90% over the draw of the 4,000 held-out pairs" in text


def test_kinds_of_text_and_groups_are_shown(folder, tmp_path):
    """Each domain and each group as the configuration has it; where no row is kept the card says so."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = stored_config(folder)
    draw = np.random.default_rng(0)
    uncertainty = [draw.uniform(0, 0.5, 300) for _ in range(12)]
    domains = {f"kind {number}": (draw.random(300) < 0.5 * u, u) for number, u in enumerate(uncertainty)}
    found, entry = domain_guarantee(domains), config["calibration"]["separate"]
    entry["domains"], entry["groups"] = found, {"snli": {"n": 900, "table": entry["table"]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    text = page(tmp_path, evaluation(BASE)).text
    first = rows(text, "Target risk | Abstains from an uncertainty of | Coverage, mean")[1:]
    assert [cells[0] for cells in first] == [f"{row['target_risk']:.1%}" for row in found["table"]]
    kept = [(cells, row) for cells, row in zip(first, found["table"], strict=True) if row["threshold"]]
    assert kept
    for cells, row in kept:
        keys = ("coverage", "risk", "worst_risk", "broken")
        shown = ["–" if row[key] is None else f"{row[key]:.1%}" for key in keys]
        assert cells[1:] == [f"{row['threshold']:.3f}", *shown]
    each = rows(text, "Kind of text |")[1:]
    assert [cells[:2] for cells in each] == [[name, "300"] for name in domains]
    (group,) = rows(text, "Group |")[1:]
    by_target = {row["target_risk"]: row["coverage"] for row in entry["table"]}
    assert by_target[0.05] is None
    coverages = [f"{by_target[target]:.1%}" for target in (0.1, 0.2)]
    assert group == ["snli", "900", "cannot be guaranteed", *coverages]
    example = kept[len(kept) // 2][1]["target_risk"]
    assert f"`nli(pairs, target_risk={example})` abstains" in text
    assert 'like="calibration")`:' in text
    assert "arXiv:1809.07441" in text

    found["table"] = [{**row, **dict.fromkeys(list(row)[1:])} for row in found["table"]]
    found["at"] = None
    (tmp_path / "config.json").write_text(json.dumps(config))
    text = page(tmp_path, evaluation(BASE)).text
    assert "no risk can be guaranteed" in text
    assert "| Kind of text |" not in text


def spoilt(**changes) -> dict:
    return {**evaluation(BASE), **changes}


@pytest.mark.parametrize(
    ("remove", "results", "gap"),
    [
        ("risk_coverage.png", evaluation(BASE), "the risk-coverage picture"),
        ("results.json", evaluation(BASE), "accuracy with coverage"),
        (None, None, "the table beside fully fine-tuned models"),
        (
            None,
            spoilt(results=[result("ours", "snli_test", 0.8, "separate")]),
            "a fully fine-tuned model in the table",
        ),
        (
            None,
            spoilt(
                models={"tuned": evaluation(BASE)["models"]["tuned"]},
                results=[result("tuned", "snli_test", 0.9)],
            ),
            "this model in the table",
        ),
        (None, spoilt(sets={"snli_test": {"pairs": 1, "dataset": None}}, results=[]), "the model-index"),
    ],
)
def test_gaps_are_seen(folder, tmp_path, remove, results, gap):
    """A missing picture, file, peer or place leaves a mark on the page and in the list."""
    for path in folder.iterdir():
        if path.name != remove:
            (tmp_path / path.name).symlink_to(path)
    found = page(tmp_path, results)
    assert any(gap in entry for entry in found.gaps)
    assert all(f"**missing: {entry}**" in found.text for entry in found.gaps if "model-index" not in entry)
    ModelCard(found.text)


def test_a_checkpoint_that_guarantees_nothing(folder, tmp_path):
    """An uncalibrated one is a gap, not an empty table."""
    for path in folder.iterdir():
        if path.name != "calibration.json":
            (tmp_path / path.name).symlink_to(path)
    assert any("not calibrated" in gap for gap in page(tmp_path, evaluation(BASE)).gaps)


def test_a_guarantee_of_other_heads_is_not_published(folder, tmp_path):
    """It is a gap, which says why."""
    for path in folder.iterdir():
        if path.name != "model.safetensors":
            (tmp_path / path.name).symlink_to(path)
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "nli_output.bias": weights["nli_output.bias"] + 1}, tmp_path / "model.safetensors")
    own, others = page(folder, evaluation(BASE)), page(tmp_path, evaluation(BASE))
    assert "target_risk" in own.text
    assert not any("other heads" in gap for gap in own.gaps)
    assert any(
        "the guarantee of a risk: its calibration was made for other heads" in gap for gap in others.gaps
    )
    assert "target risk" not in others.text.lower()


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(model=texts, name=texts, accuracy=st.floats(0, 1), pairs=st.integers(1, 10**6))
def test_any_names_stay_in_their_cells(folder, model, name, accuracy, pairs):
    """Pipes, newlines and markup in the names of models and sets: table and header keep their shape."""
    results = evaluation(BASE)
    results["models"][model] = results["models"]["tuned"]
    results["sets"] = {name: {"pairs": pairs, "dataset": None}}
    results["results"] = [{**result(model, name, 0.5), "accuracy": spread(accuracy)}]
    text = page(folder, results).text
    assert ModelCard(text).data.base_model == BASE["name"]
    table = rows(text, "Model |")
    assert [len(cells) for cells in table] == [4, 4]
    assert f"{accuracy:.1%}" in table[1][3]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.text(max_size=20),
        st.recursive(
            st.none() | st.integers() | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner)
        ).map(json.dumps),
        st.sampled_from(["models", "sets", "results", "versions", "command"]).map(
            lambda key: json.dumps({name: value for name, value in evaluation(BASE).items() if name != key})
        ),
    )
)
def test_other_files_are_not_taken_for_results(tmp_path, content):
    """What is no evaluation.json of ours is named, whatever it is."""
    (tmp_path / "evaluation.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"evaluation\.json is not what evaluate_nli\.py writes"):
        Evaluation.read(tmp_path, "mine", BASE)


def test_which_model_of_the_evaluation_is_ours(tmp_path):
    """By its folder's name and by its base; heads of the same name on another base are not ours."""
    several = "runs/mine,runs/mine-2"  # a checkpoint for each seed
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation(BASE, several)))
    assert Evaluation.read(tmp_path, "mine", BASE).own == "ours"
    assert Evaluation.read(tmp_path, "ours", BASE).own == "ours"
    assert Evaluation.read(tmp_path, "yours", BASE).own is None
    assert Evaluation.read(tmp_path, "mine", {**BASE, "revision": "d" * 40}).own is None
    assert Evaluation.read(tmp_path / "none", "mine", BASE) is None


def test_training_data_is_named_with_its_licence():
    """Known sets by their ids, the same ones that train.py reads; local data as what it is."""
    sets = [name for name in KNOWN_SETS if "mnli_" not in name and name != "hans"]
    known = training_data({"train": dict.fromkeys(sets)})
    for name, row in zip(sets, known, strict=True):
        assert KNOWN_SETS[name].source.partition("?")[0] == row["id"]
        assert row["licence"]
    (local,) = training_data({"train": {"my|data": 3}, "abstention_data": {}})
    assert local == {
        "id": None,
        "licence": "not stated",
        "language": None,
        "title": "`my|data`, local data",
        "pairs": 3,
    }
    both = training_data({"train": {"mine": 3}, "abstention_data": {"snli": 2}})
    assert [(row["id"], row["pairs"]) for row in both] == [(None, 3), ("stanfordnlp/snli", 2)]
    assert both[1]["title"].endswith("(`snli`), abstention head alone")
