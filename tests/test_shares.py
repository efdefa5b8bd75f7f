"""Several processes share a file: each row once, in order, whatever is interrupted."""

import json
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, make_model
from hypothesis import given
from hypothesis import strategies as st

from modernbert_nli.files import InputError
from modernbert_nli.loading import load_pipeline
from modernbert_nli.prediction.processes import Processes, Shares
from modernbert_nli.prediction.rows import judge_file


@given(st.integers(1, 60), st.integers(1, 7), st.integers(1, 5), st.data())
def test_any_rows_among_any_processes(tmp_path_factory, total, chunk_rows, count, data):
    """However far each of them came before: together they have each row once, and read them in order."""
    folder = tmp_path_factory.mktemp("shares")
    every = [
        Shares(folder / "out.jsonl", total, chunk_rows, Processes(index, count)) for index in range(count)
    ]
    assert sum(shares.own_rows for shares in every) == total
    for shares in every:
        stop = data.draw(st.integers(0, 4))
        for most in (stop, total):  # interrupted, and resumed
            done = shares.resume({}, overwrite=False)
            assert done % chunk_rows == 0 or done == shares.own_rows
            with shares.own.open("ab") as file:
                for number, chunk in enumerate(shares.own_chunks(iter(range(total)), done)):
                    if number == most:
                        file.write(b'{"torn": ')
                        break
                    file.writelines(json.dumps({"row": row}).encode() + b"\n" for row in chunk)
    assert [result["row"] for result in every[0].results()] == list(range(total))
    every[0].remove()
    assert not list(folder.iterdir())


def test_another_number_of_processes_does_not_continue(tmp_path):
    """Their rows are others; --overwrite starts over, and takes away no file of another name."""
    output = tmp_path / "out[1].jsonl"
    stranger = tmp_path / "out[1].jsonl.partial-notes"
    stranger.write_text("mine")
    two, one = (Shares(output, 10, 2, Processes(0, count)) for count in (2, 1))
    two.resume({}, overwrite=False)
    with pytest.raises(InputError, match=r"partial\.1-of-2 is from .* another number of processes"):
        one.resume({}, overwrite=False)
    one.resume({}, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [one.own.name, stranger.name]


def test_two_processes_end_as_one_does_after_a_kill(tmp_path, tiny_modernbert):
    """Both judge; one is killed, the same command continues, and the output is that of one process."""
    folder = tmp_path / "model"
    make_model(tiny_modernbert).save_pretrained(folder)
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    texts = ({"n": n, "premise": f"{n} people talk. " * (n % 7 + 1)} for n in range(201))
    source.write_text("".join(json.dumps({**row, "hypothesis": "Somebody talks."}) + "\n" for row in texts))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    options = ["--model", str(folder), "--base", tiny_modernbert]
    options += ["--input", str(source), "--output", str(output), "--batch_size", "2"]
    partial = [tmp_path / f"out.jsonl.partial.{number}-of-2" for number in (1, 2)]
    halting = [*command, str(ROOT / "tests" / "halting.py"), "40", *options]
    process = subprocess.Popen(halting, stderr=subprocess.PIPE, text=True)
    while not all(path.exists() and path.read_bytes().count(b"\n") > 30 for path in partial):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode != 0
    assert not output.exists()
    ended = subprocess.run([*command, str(ROOT / "predict.py"), *options], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("continuing after") == 2
    assert ended.stderr.count("201 rows") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "model", "out.jsonl"]
    judge_file(load_pipeline(str(folder), tiny_modernbert), source, tmp_path / "one.jsonl", batch_size=2)
    both = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (output, tmp_path / "one.jsonl")
    ]
    assert [row["n"] for row in both[0]] == list(range(201))
    for found, expected in zip(*both, strict=True):
        assert found["label"] == expected["label"]
        assert found["uncertainty"] == pytest.approx(expected["uncertainty"], abs=1e-5)
