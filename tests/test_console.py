"""`modernbert-nli COMMAND`: what it adds to the commands that the repository has as files."""

import json
import re
import shlex
from importlib import import_module

import pytest
from conftest import PAIRS, rows, write

from modernbert_nli import options
from modernbert_nli.__main__ import COMMANDS, main
from modernbert_nli.loading import load_pipeline

CATEGORIES = {"delivery": "This is about a delivery.", "billing": "This is about a payment."}
ADDED = ("adapt", "route")  # commands that no file at the top level has


@pytest.fixture(autouse=True)
def as_from_a_file(monkeypatch):
    """What the console script sets for the rest of its process does not outlive a test."""
    monkeypatch.setattr(options, "console", False)


@pytest.fixture
def categories(tmp_path) -> str:
    return write(tmp_path / "categories.json", [json.dumps(CATEGORIES)])


@pytest.fixture
def checkpoint(checkpoints, tiny_modernbert) -> list[str]:
    return ["--model", checkpoints["separate"], "--base", tiny_modernbert, "--device", "cpu"]


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"serve"}))
def test_help_names_the_command_as_it_was_started(name, capsys):
    """In its usage and its examples, and no file of the repository."""
    with pytest.raises(SystemExit) as done:
        main([name, "--help"])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    started = "predict" if name == "check" else name
    assert shown.startswith(f"usage: modernbert-nli {started} ")
    assert f"\n    modernbert-nli {started}" in shown
    assert not re.findall(rf"\b(?:{'|'.join(options.SUBCOMMANDS)})", shown)


@pytest.mark.parametrize("name", ADDED)
def test_the_examples_are_command_lines_that_are_understood(name):
    """Those that the help shows."""
    module = import_module(f"modernbert_nli.{COMMANDS[name].module}")
    examples = re.findall(rf"^    modernbert-nli {name} (.*)$", module.__doc__, re.MULTILINE)
    assert examples
    assert all(module.parse_args(shlex.split(example)) for example in examples)


def test_what_is_wrong_is_told_by_the_name_that_was_typed(capsys):
    """As an error of the command, without a traceback."""
    assert main(["predict", "a", "b", "--model", "no/where/at/all"]) == 2
    assert capsys.readouterr().err.startswith("modernbert-nli predict: error: The model 'no/where/at/all'")
    with pytest.raises(SystemExit):
        main(["route", "--categories", "x.json", "text", "--threshold", "0.1", "--target_risk", "0.1"])
    assert "modernbert-nli route: error: give --threshold or --target_risk" in capsys.readouterr().err


def test_a_pair_and_a_check(checkpoint, capsys):
    """`predict` as the file does, `check` its option."""
    assert main(["predict", *PAIRS[0], "--json", *checkpoint]) == 0
    assert set(json.loads(capsys.readouterr().out)) >= {"label", "confidence", "abstain"}
    assert main(["check", *PAIRS[0], "--json", *checkpoint]) == 0
    assert "verdict" in json.loads(capsys.readouterr().out)


def test_texts_are_routed(checkpoint, categories, capsys):
    """As the pipeline routes them, for a reader or as JSON; a file that is no JSON is told."""
    texts = ["Where is my parcel?", "nobody is outside"]
    words = ["route", "--categories", categories, *texts, *checkpoint]
    assert main([*words, "--json"]) == 0
    found = list(map(json.loads, capsys.readouterr().out.splitlines()))
    pipe = load_pipeline(checkpoint[1], checkpoint[3], device="cpu")
    expected = json.loads(json.dumps(pipe.route(texts, CATEGORIES)))
    assert [result["category"] for result in found] == [result["category"] for result in expected]
    assert [result["confidence"] for result in found] == [result["confidence"] for result in expected]
    assert main([*words, "--threshold", "0"]) == 0
    assert all(line.startswith("none: ") for line in capsys.readouterr().out.splitlines())
    assert main([*words, "--threshold", "1"]) == 0
    assert "confidence" in capsys.readouterr().out
    assert main(["route", "--categories", __file__, "text"]) == 2
    assert "is no JSON file of categories" in capsys.readouterr().err


def test_a_checkpoint_is_adapted_into_a_new_folder(checkpoint, tmp_path, capsys):
    """To labelled pairs: the new one loads, and says what came of it; a folder with something in it stays."""
    data = write(tmp_path / "labelled.jsonl", rows(60))
    folder = tmp_path / "mine"
    words = ["adapt", "--data", data, "--output", str(folder), *checkpoint]
    assert main(words) == 0
    adapted = load_pipeline(str(folder), checkpoint[3], device="cpu")
    report = adapted.model.config.adaptation
    assert report["pairs"] == 60
    assert capsys.readouterr().out == f"{report['message']}\n{folder}: the adapted checkpoint.\n"
    assert main(words) == 2
    assert "exists and is not empty" in capsys.readouterr().err


def test_routes_are_adapted(checkpoint, categories, tmp_path, capsys):
    """To labelled texts; what is known of them is told in sentences."""
    texts = [f"the {kind} number {number}" for number in range(40) for kind in ("parcel", "bill", "cat")]
    labels = ["delivery", "billing", None] * 40
    labelled = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    data = write(tmp_path / "labelled.jsonl", labelled)
    folder = tmp_path / "mine"
    words = ["--routes", data, "--categories", categories, "--output", str(folder)]
    assert main(["adapt", *words, *checkpoint]) == 0
    assert capsys.readouterr().out.startswith("Of 120 texts ")
    report = load_pipeline(str(folder), checkpoint[3], device="cpu").model.config.adaptation["routes"]
    assert report["texts"] == 120
