"""The command line: one pair, files of every kind, bad input, and interruptions."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PAIRS, ROOT, make_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modernbert_nli.files import InputError
from modernbert_nli.guards import UNCERTAIN
from modernbert_nli.loading import load_pipeline
from modernbert_nli.prediction.command import main
from modernbert_nli.prediction.pair_files import READERS
from modernbert_nli.prediction.rows import CHECK, check_rows, judge_file

DECISION = ["label", "confidence", "abstain", "uncertainty", "p_entailment", "p_neutral", "p_contradiction"]
DECISION += ["reason", "rule", "truncated"]
ROWS = [{"premise": premise, "hypothesis": hypothesis} for premise, hypothesis in PAIRS]


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_modernbert) -> list[str]:
    """Options that name a checkpoint and its base."""
    folder = str(tmp_path_factory.mktemp("predict"))
    make_model(tiny_modernbert).save_pretrained(folder)
    return ["--model", folder, "--base", tiny_modernbert]


@pytest.fixture(scope="module")
def pipe(model):
    return load_pipeline(model[1], model[3], device="cpu")


def write(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


# One pair


def test_a_pair_for_a_reader(model, pipe, capsys):
    assert main([*model, *PAIRS[0], "--threshold", "0"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(pipe(*PAIRS[0])["label"])
    assert "abstains" in out
    assert "threshold of 0" in out
    assert all(label in out for label in ("entailment", "neutral", "contradiction"))
    assert main([*model, *PAIRS[0], "--threshold", "1"]) == 0
    assert "does not abstain" in capsys.readouterr().out


def test_a_pair_as_json(model, pipe, capsys):
    assert main([*model, *PAIRS[1], "--json", "--device", "cpu"]) == 0
    found, expected = json.loads(capsys.readouterr().out), pipe(*PAIRS[1])
    assert list(found) == list(expected)
    assert found["label"] == expected["label"]
    assert found["probs"] == pytest.approx(expected["probs"], abs=1e-6)


def test_stdout_has_the_answer_alone_from_any_folder(model, tmp_path):
    command = [sys.executable, str(ROOT / "predict.py"), *model, *PAIRS[0], "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] in ("entailment", "neutral", "contradiction")
    assert "Loading weights" not in done.stderr


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["premise alone"],
        ["--input", "a.csv"],
        ["--output", "a.csv"],
        ["a", "b", "--output", "a.csv"],
        ["a", "--input", "a.csv", "--output", "b.csv"],
        ["--input", "a.csv", "--output", "b.csv", "--json"],
        ["a", "b", "--revision", "main"],
        ["a", "b", "--threshold", "1.5"],
        ["a", "b", "--threshold", "nan"],
        ["a", "b", "--batch_size", "0"],
    ],
)
def test_options_that_make_no_sense(argv, capsys):
    with pytest.raises(SystemExit) as error:
        main(argv)
    assert error.value.code == 2
    assert capsys.readouterr().out == ""


def test_a_pair_that_cannot_be_judged(model, capsys):
    assert main([*model, "A man eats.", " "]) == 2
    captured = capsys.readouterr()
    assert "the hypothesis is empty" in captured.err
    assert captured.out == ""


def test_models_that_cannot_be_loaded(model, tiny_modernbert, tmp_path, monkeypatch, capsys):
    from modernbert_nli import embedded

    def message(*argv: str) -> str:
        assert main([*PAIRS[0], *argv]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].startswith("predict.py: error: ")
        return lines[-1]

    assert "could not be loaded" in message("--model", str(tmp_path / "nowhere"))
    assert "model_type 'modernbert'" in message("--model", tiny_modernbert)
    assert "could not be loaded" in message(*model, "--device", "gpu?")
    monkeypatch.setattr(embedded, "CHECKPOINT", tmp_path / "none")
    assert "--model" in message()


# Files


@pytest.mark.parametrize("target", [".jsonl", ".json", ".csv", ".parquet"])
@pytest.mark.parametrize("source", [".jsonl", ".csv", ".parquet"])
def test_every_kind_into_every_kind(pipe, model, tmp_path, capsys, source, target):
    given_rows = [{"id": f"n{number}", **row} for number, row in enumerate(ROWS)]
    output = tmp_path / f"out{target}"
    source_path = write(tmp_path / f"in{source}", given_rows)
    assert main([*model, "--input", str(source_path), "--output", str(output)]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3 rows" in captured.err
    found = read(output)
    assert list(found[0]) == ["id", "premise", "hypothesis", *DECISION, "error"]
    for row, result, decision in zip(given_rows, found, pipe(PAIRS), strict=True):
        assert {key: result[key] for key in row} == row
        assert result["label"] == decision["label"]
        assert float(result["confidence"]) == pytest.approx(decision["confidence"], abs=1e-6)
        assert not result["error"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source_path.name, output.name])


def test_a_premise_that_lost_its_end_is_marked(model, tmp_path, capsys):
    """In the file, and on the command line."""
    long = "It rains. " * 300
    rows = [{"premise": text, "hypothesis": "It is wet."} for text in ("It rains.", long, "")]
    source, output = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    assert main([*model, "--input", str(source), "--output", str(output)]) == 0
    assert [row["truncated"] for row in read(output)] == [False, True, None]
    capsys.readouterr()
    for text, told in (("It rains.", False), (long, True)):
        assert main([*model, text, "It is wet."]) == 0
        assert ("not read: --check reads all of it" in capsys.readouterr().out) == told


@pytest.mark.parametrize("kind", [".jsonl", ".csv", ".parquet"])
def test_a_row_says_why_it_is_undecided(pipe, tmp_path, kind):
    """In a column, empty where it decides; a sentence of the premise is decided by rule."""
    pairs = [("It rains. The dog runs.", "The dog runs."), PAIRS[0], PAIRS[0]]
    rows = [{"premise": premise, "hypothesis": hypothesis} for premise, hypothesis in pairs]
    source, output = write(tmp_path / f"in{kind}", rows), tmp_path / f"out{kind}"
    judge_file(pipe, source, output, threshold=1.0)
    first, second, _ = read(output)
    assert (first["label"], first["rule"], first["reason"] or None) == ("entailment", "verbatim", None)
    assert (second["rule"] or None, second["reason"] or None) == (None, None)
    judge_file(pipe, source, output, threshold=0.0, overwrite=True)
    assert [row["reason"] for row in read(output)] == [UNCERTAIN] * 3


def test_other_columns_threshold_and_existing_names(pipe, tmp_path):
    rows = [{"text": p, "claim": h, "label": 1, "error": "mine", "predicted_label": 2.5} for p, h in PAIRS]
    for kind in (".jsonl", ".parquet"):
        source = write(tmp_path / f"in{kind}", rows)
        output = tmp_path / f"out{kind}"
        summary = judge_file(pipe, source, output, "text", "claim", threshold=0.0)
        assert summary.abstained == 3
        found = read(output)
        assert [{key: row[key] for key in rows[0]} for row in found] == rows
        assert isinstance(found[0]["predicted_predicted_label"], str)
        assert found[0]["predicted_error"] is None
        assert found[0]["abstain"] is True


def test_the_types_of_a_parquet_file_are_kept(pipe, tmp_path):
    table = pa.table(
        {
            **{name: [row[name] for row in ROWS] for name in ("premise", "hypothesis")},
            "small": pa.array([1, None, 3], pa.int8()),
            "when": pa.array([0, 1, 2], pa.timestamp("ms")),
            "tags": pa.array([["a"], [], None], pa.list_(pa.string())),
            "kind": pa.array(["a", "b", "a"]).dictionary_encode(),
            "score": pa.array([float("nan"), 1.0, None]),
            "blob": pa.array([b"\x00\xff", b"", None]),
        }
    )
    source = tmp_path / "in.parquet"
    pq.write_table(table, source, row_group_size=2)
    judge_file(pipe, source, tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.schema.names[: len(table.schema)] == table.schema.names
    for name in table.schema.names:
        assert found.schema.field(name).type == table.schema.field(name).type
        assert found.column(name).to_pylist()[1:] == table.column(name).to_pylist()[1:]
    judge_file(pipe, source, tmp_path / "out.jsonl")
    first = read(tmp_path / "out.jsonl")[0]
    assert (first["when"][:10], first["score"]) == ("1970-01-01", None)
    judge_file(pipe, source, tmp_path / "out.csv")
    assert read(tmp_path / "out.csv")[0]["tags"] == '["a"]'


def test_types_of_jsonl_in_parquet(pipe, tmp_path):
    extra = [
        {"whole": 1, "mixed": 1, "real": 1, "flag": True, "nested": {"ä": [1]}, "huge": 2**70},
        {"whole": 2, "mixed": "one", "real": 0.5, "flag": None, "nested": None},
        {"late": "x"},
    ]
    rows = [{**row, **more} for row, more in zip(ROWS, extra, strict=True)]
    judge_file(pipe, write(tmp_path / "in.jsonl", rows), tmp_path / "out.parquet")
    found = read(tmp_path / "out.parquet")
    assert [(row["whole"], row["mixed"]) for row in found] == [(1, "1"), (2, "one"), (None, None)]
    assert [(row["real"], row["flag"]) for row in found] == [(1.0, True), (0.5, None), (None, None)]
    assert found[0]["nested"] == '{"ä": [1]}'
    assert found[0]["huge"] == str(2**70)
    assert [row["late"] for row in found] == [None, None, "x"]


texts = st.text(max_size=30)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=4))
def test_any_text_survives_every_kind(pipe, tmp_path_factory, triples):
    folder = tmp_path_factory.mktemp("texts")
    rows = [dict(zip(("premise", "hypothesis", "note"), triple, strict=True)) for triple in triples]
    source = write(folder / "0.jsonl", rows)
    for step, kind in enumerate([".csv", ".parquet", ".jsonl", ".parquet", ".csv", ".jsonl"], 1):
        target = folder / f"{step}{kind}"
        summary = judge_file(pipe, source, target)
        assert summary.not_judged == sum(not p.strip() or not h.strip() for p, h, _ in triples)
        found = [{key: row[key] for key in rows[0]} for row in read(target)]
        assert found == rows, kind
        source = target


# Rows that cannot be judged


def test_bad_rows_stay_with_their_reason(pipe, model, tmp_path, capsys):
    good = json.dumps(ROWS[0]).encode()
    lines = [
        good,
        b'{"premise": 7, "hypothesis": "x"}',
        b'{"premise": "x"}',
        b'{"premise": "x", "hypothesis": ""}',
        json.dumps({"premise": "x", "hypothesis": "many words " * 300}).encode(),
        b'{"premise": "\\ud800", "hypothesis": "x"}',
        b'{"premise": "caf\xe9", "hypothesis": "x"}',
        b'{"premise": "torn',
        b"[1, 2]",
        b"[" * 100_000,
        b"",
        b'{"premise": "a", "hypothesis": "b", "n": NaN}',
    ]
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    reasons = [
        None,
        "must be a string",
        "hypothesis must be a string",
        "hypothesis is empty",
        "tokens",
        "not valid Unicode",
        "not valid Unicode",
        "not one JSON object",
        "not one JSON object",
        "not one JSON object",
        None,
    ]
    for kind in (".jsonl", ".csv", ".parquet"):
        output = tmp_path / f"out{kind}"
        assert main([*model, "--input", str(source), "--output", str(output), "--batch_size", "1"]) == 0
        assert "9 could not be judged (row 2, 3, 4, 5, 6, …)" in capsys.readouterr().err
        found = read(output)
        assert len(found) == len(reasons)
        for row, reason in zip(found, reasons, strict=True):
            if reason is None:
                assert not row["error"]
                assert row["label"]
            else:
                assert reason in row["error"]
                assert not any(row.get(name) for name in DECISION)
        assert found[7]["raw"] == '{"premise": "torn'


def test_bad_rows_of_csv(pipe, tmp_path):
    source = tmp_path / "in.csv"
    source.write_bytes(
        b'\xef\xbb\xbf"premise",hypothesis\nA man, a plan,x\n\n"A ""man"", a plan",x\ncaf\xe9,x\n,x\nalone\n'
    )
    summary = judge_file(pipe, source, tmp_path / "out.jsonl")
    assert summary == (5, summary.abstained, 4, [1, 3, 4, 5])
    found = read(tmp_path / "out.jsonl")
    assert found[0]["raw"] == "A man, a plan,x"
    assert "3 fields for 2 columns" in found[0]["error"]
    assert found[1]["premise"] == 'A "man", a plan'
    assert "not valid Unicode" in found[2]["error"]
    assert "empty" in found[3]["error"]


def test_good_rows_are_judged_the_same_beside_bad_ones(pipe, tmp_path):
    judge_file(pipe, write(tmp_path / "good.jsonl", ROWS), tmp_path / "out.jsonl")
    long = {"premise": "x", "hypothesis": "many words " * 300}
    judge_file(pipe, write(tmp_path / "bad.jsonl", [long, *ROWS, long]), tmp_path / "mixed.jsonl")
    assert read(tmp_path / "mixed.jsonl")[1:-1] == read(tmp_path / "out.jsonl")


def test_a_long_csv_field(pipe, tmp_path):
    row = {"premise": "word " * 40_000, "hypothesis": "x"}
    summary = judge_file(pipe, write(tmp_path / "in.csv", [row]), tmp_path / "out.csv")
    assert summary.not_judged == 0


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("name", ["in.json", "in.jsonl"])
def test_a_json_array_is_read_whole(pipe, tmp_path, name, indent):
    """However it is broken into lines, with a BOM, and an item that is none of the rows among them."""
    items = [*ROWS, "no row", {**ROWS[0], "premise": "a\u2028b"}, None, ROWS[1]]
    content = json.dumps(items, indent=indent, ensure_ascii=False)
    (tmp_path / name).write_text(f"\n {content}\n", encoding="utf-8-sig")
    summary = judge_file(pipe, tmp_path / name, tmp_path / "out.jsonl")
    assert (summary.rows, summary.not_judged, summary.first_not_judged) == (len(items), 2, [4, 6])
    found = read(tmp_path / "out.jsonl")
    assert found[3]["raw"] == '"no row"'
    assert "it is a str, not an object" in found[3]["error"]
    assert [row["premise"] for row in found[:3]] == [row["premise"] for row in ROWS]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(JSON, max_size=5), st.sampled_from([None, 0, 3]), st.sampled_from(["a.json", "a.jsonl"]))
def test_an_array_and_its_lines_are_the_same_rows(tmp_path, items, indent, name):
    """Each item of an array is a row, or told; nothing of it is passed over."""
    (tmp_path / name).write_text(json.dumps(items, indent=indent))
    rows = list(READERS[Path(name).suffix](tmp_path / name, "raw", None))
    assert [values for values, problem in rows if problem is None] == [
        item for item in items if isinstance(item, dict)
    ]
    assert len(rows) == len(items)


# Answers with their sources

ANSWER = "The cat sleeps."
SOURCES = [
    "The cat sleeps. People talk.",
    ["People talk.", "The cat sleeps."],
    {"first": "People talk.", "second": "The cat sleeps."},
]


@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv", ".parquet"])
@pytest.mark.parametrize("source", SOURCES)
def test_sources_may_be_passages(pipe, tmp_path, kind, source):
    """A list of them or a mapping, in any kind of file, gives what `check` gives."""
    path = tmp_path / f"in{kind}"
    cell = json.dumps(source) if kind == ".csv" and not isinstance(source, str) else source
    rows = [{"source": cell, "answer": ANSWER}]
    if kind == ".json":
        path.write_text(json.dumps(rows))
    else:
        write(path, rows)
    summary = judge_file(pipe, path, tmp_path / "out.jsonl", "source", "answer", work=CHECK)
    assert summary.not_judged == 0
    (found,) = read(tmp_path / "out.jsonl")
    expected = pipe.check(ANSWER, source)
    assert found["verdict"] == expected["verdict"]
    (mine,), (theirs,) = json.loads(found["sentences"]), expected["sentences"]
    assert [one["source"] for one in mine["evidence"]] == [one["source"] for one in theirs["evidence"]]
    assert mine["confidence"] == pytest.approx(theirs["confidence"], abs=1e-4)


def test_a_map_of_arrow_is_a_mapping(pipe, tmp_path):
    """And fields that a row has not are no sources."""
    table = {
        "source": pa.array(
            [[("a", "The cat sleeps."), ("b", "People talk.")]], pa.map_(pa.string(), pa.string())
        ),
        "answer": [ANSWER],
    }
    pq.write_table(pa.table(table), tmp_path / "map.parquet")
    fields = [
        {"source": {"a": "The cat sleeps."}, "answer": ANSWER},
        {"source": {"b": "x"}, "answer": ANSWER},
    ]
    write(tmp_path / "struct.parquet", fields)
    for name in ("map", "struct"):
        source = tmp_path / f"{name}.parquet"
        assert (
            judge_file(pipe, source, tmp_path / f"{name}.jsonl", "source", "answer", work=CHECK).not_judged
            == 0
        )
        (evidence, *_) = json.loads(read(tmp_path / f"{name}.jsonl")[0]["sentences"])[0]["evidence"]
        assert evidence["source"] == "a"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (None, "the source must be a string, got NoneType"),
        (7, "the source must be a string, got int"),
        ("", "the source is empty"),
        ([], "the source has no passages"),
        ({}, "the source has no passages"),
        ({"a": None}, "the source has no passages"),
        (["ok", None], "the source must be a string, got NoneType"),
        ([["a"]], "the source must be a string, got list"),
        ({"a": 1}, "the source must be a string, got int"),
    ],
)
def test_a_source_that_is_none_is_told(pipe, source, problem):
    """And the other rows are checked."""
    rows = check_rows(pipe, [(source, ANSWER), ("The cat sleeps.", ANSWER)], [None, None])
    assert problem in rows[0]["error"]
    assert rows[1]["error"] is None


def test_a_cell_of_a_csv_file_is_passages_only_where_it_is_nothing_else(pipe, tmp_path):
    """Text that looks like JSON, and JSON of other things, is text."""
    cells = ["[1] The cat sleeps.", "[1, 2]", '{"a": 1}', "[]", '["The cat', '"The cat sleeps."']
    write(tmp_path / "in.csv", [{"source": cell, "answer": ANSWER} for cell in cells])
    judge_file(pipe, tmp_path / "in.csv", tmp_path / "out.jsonl", "source", "answer", work=CHECK)
    for cell, row in zip(cells, read(tmp_path / "out.jsonl"), strict=True):
        expected = pipe.check(ANSWER, cell)
        assert (row["error"], row["verdict"]) == (None, expected["verdict"])


# Files that cannot be used


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", None, "does not exist"),
        ("in.txt", b"premise,hypothesis\na,b\n", "must end in .jsonl"),
        ("in.csv", b"", "is empty"),
        ("in.csv", b"premise,hypothesis\n", "has no rows"),
        ("in.jsonl", b"\n\n", "has no rows"),
        ("in.csv", b"text;claim\na;b\n", "no column 'premise', only 'text;claim'"),
        ("in.jsonl", b'{"premise": "a", "claim": "b"}\n', "--hypothesis_column"),
        ("in.json", b'[{"premise": "a", "hypothesis": "b"},\n', "nor one array of objects"),
        ("in.json", b'[\n{"premise": "a", "hypothesis": "b"}\n', "nor one array of objects"),
        ("in.jsonl", b'[\n{"premise": "a", "hypothesis": "b"}\n', "nor one array of objects"),
        ("in.json", b'{"rows": [\n{"premise": "a", "hypothesis": "b"}\n]}', "it is one object over several"),
        ("in.json", b'{\n"premise": "a",\n"hypothesis": "b"\n}\n', "it is one object over several"),
        ("in.json", b'{\n"premise": "a"\n}\n{\n"premise": "b"\n}\n', "nor one array of objects"),
        ("in.json", b"[]", "has no rows"),
        ("in.json", b"[1, 2]", "row 1: it is a int, not an object"),
        ("in.csv", b'premise,hypothesis\na,b\n"a,b\nc,d\n', "line 4"),
        ("in.csv", b"a,a\n1,2\n", "several columns"),
        ("in.csv", "premise,hypothesis\na,b\n".encode("utf-16"), "UTF-16"),
        ("in.parquet", b"PAR1 no PAR1", "cannot be read as Parquet"),
    ],
)
def test_input_that_cannot_be_used(tmp_path, capsys, name, content, message):
    source = tmp_path / name
    if content is not None:
        source.write_bytes(content)
    assert main(["--input", str(source), "--output", str(tmp_path / "out.jsonl")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("predict.py: error: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def test_output_that_cannot_be_used(pipe, tmp_path, capsys):
    source = write(tmp_path / "in.csv", ROWS)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "link.csv").symlink_to(source)
    for name, message in {
        "nowhere/out.csv": "does not exist",
        "out.xlsx": "must end in",
        "folder.csv": "is a folder",
        "there.csv": "--overwrite",
        "in.csv": "is the input",
        "link.csv": "is the input",
    }.items():
        overwrite = ["--overwrite"] if name != "there.csv" else []
        assert main(["--input", str(source), "--output", str(tmp_path / name), *overwrite]) == 2
        assert message in capsys.readouterr().err
    assert (tmp_path / "there.csv").read_text() == "mine"
    assert len(read(source)) == 3
    judge_file(pipe, source, tmp_path / "there.csv", overwrite=True)
    assert len(read(tmp_path / "there.csv")) == 3


# Interruptions


class Stop:
    """The pipeline, which is interrupted after some calls."""

    def __init__(self, pipe, calls: int):
        self.pipe, self.calls = pipe, calls

    def __getattr__(self, name):
        return getattr(self.pipe, name)

    def __call__(self, *args, **kwargs):
        if not self.calls:
            raise KeyboardInterrupt
        self.calls -= 1
        return self.pipe(*args, **kwargs)


MANY = [{"n": number, **ROWS[number % 3]} for number in range(44)]


def test_a_torn_partial_file_is_continued(pipe, tmp_path, capsys):
    source, output, whole = write(tmp_path / "in.jsonl", MANY), tmp_path / "out.csv", tmp_path / "whole.csv"
    judge_file(pipe, source, whole, batch_size=2)
    partial = tmp_path / "out.csv.partial"
    for tear in (b"", b'{"label": "ent', b'{"label": "neutral"}\n{"lab', b"\0\0\0\n"):
        with pytest.raises(KeyboardInterrupt):
            judge_file(Stop(pipe, 2), source, output, batch_size=2)
        assert "32 of 44 rows are done" in capsys.readouterr().err
        assert not output.exists()
        with partial.open("ab") as file:
            file.write(tear)
        judge_file(Stop(pipe, 1), source, output, batch_size=2)
        assert "continuing after 32 of 44" in capsys.readouterr().err
        assert output.read_bytes() == whole.read_bytes()
        assert not partial.exists()
        output.unlink()


def test_an_interruption_while_the_output_is_written(pipe, tmp_path, monkeypatch):
    source = write(tmp_path / "in.jsonl", MANY)
    judge_file(pipe, source, tmp_path / "whole.parquet", batch_size=2)

    def full(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="disk full"):
            judge_file(pipe, source, tmp_path / "out.parquet", batch_size=2)
    assert not (tmp_path / "out.parquet.finishing").exists()
    judge_file(Stop(pipe, 0), source, tmp_path / "out.parquet", batch_size=2)
    assert read(tmp_path / "out.parquet") == read(tmp_path / "whole.parquet")


@pytest.mark.parametrize("change", ["threshold", "column", "input", "model"])
def test_a_partial_file_of_other_settings_is_not_continued(pipe, tmp_path, change):
    source, output = (
        write(tmp_path / "in.jsonl", [{**row, "text": "x"} for row in MANY]),
        tmp_path / "out.jsonl",
    )
    with pytest.raises(KeyboardInterrupt):
        judge_file(Stop(pipe, 1), source, output, batch_size=2)
    before, options = (tmp_path / "out.jsonl.partial").read_bytes(), {}
    if change == "threshold":
        options["threshold"] = 0.125
    elif change == "column":
        options["premise_column"] = "text"
    elif change == "input":
        write(source, [{**row, "text": "y"} for row in reversed(MANY)])
    weight = pipe.model.nli_output.bias.data
    try:
        weight += float(change == "model")
        with pytest.raises(InputError, match=f"{change}.*--overwrite"):
            judge_file(pipe, source, output, batch_size=2, **options)
        assert (tmp_path / "out.jsonl.partial").read_bytes() == before
        judge_file(pipe, source, output, batch_size=2, overwrite=True, **options)
        judge_file(pipe, source, tmp_path / "whole.jsonl", batch_size=2, **options)
    finally:
        weight -= float(change == "model")
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_input_that_changes_meanwhile(pipe, tmp_path):
    source = write(tmp_path / "in.jsonl", MANY)

    class Meddle(Stop):
        def __call__(self, *args, **kwargs):
            write(source, MANY[::-1] + MANY)
            return super().__call__(*args, **kwargs)

    with pytest.raises(InputError, match="changed meanwhile"):
        judge_file(Meddle(pipe, 9), source, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def _hear_interrupts() -> None:
    """A shell that runs the tests in the background lets their processes ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_killed_processes_are_continued(model, pipe, tmp_path):
    rows = [
        {"n": n, "premise": f"{n} people talk. " * (n % 7 + 1), "hypothesis": "Somebody talks."}
        for n in range(200)
    ]
    source, output = write(tmp_path / "in.csv", rows), tmp_path / "out.csv"
    partial = tmp_path / "out.csv.partial"
    options = [
        *model,
        "--input",
        str(source),
        "--output",
        str(output),
        "--batch_size",
        "2",
        "--device",
        "cpu",
    ]
    command = [sys.executable, str(ROOT / "tests" / "halting.py"), "40", *options]
    done = 0
    for how, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=_hear_interrupts)
        while not partial.exists() or partial.read_bytes().count(b"\n") < done + 32:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        process.send_signal(how)
        error = process.communicate()[1]
        assert process.returncode == code, error
        assert "Traceback" not in error
        if how == signal.SIGINT:
            assert "The same command continues" in error
        assert not output.exists()
        done = partial.read_bytes().count(b"\n")
    assert main(options) == 0
    judge_file(pipe, source, tmp_path / "whole.csv", batch_size=2)
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert [int(row["n"]) for row in read(output)] == list(range(200))
