"""predict.py --engine ray: a real cluster of two nodes on this machine, and a worker that dies."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from modernbert_nli.files import InputError
from modernbert_nli.loading import load_pipeline
from modernbert_nli.prediction import command as predict
from modernbert_nli.prediction import ray_engine
from modernbert_nli.prediction.ray_engine import NliBatch, judge_files
from modernbert_nli.prediction.rows import judge_pairs

ray = pytest.importorskip("ray", reason="ray is not installed")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def cluster():
    """Two nodes."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 10**8})
    made.add_node(num_cpus=2, object_store_memory=10**8)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    ray.init(address=made.address, runtime_env={"env_vars": {"PYTHONPATH": path}}, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def table(count: int, start: int = 0) -> pa.Table:
    rows = range(start, start + count)
    premises = [f"{row} men are playing guitar on stage." for row in rows]
    return pa.table({"row": list(rows), "premise": premises, "hypothesis": ["People make music."] * count})


class Dying(NliBatch):
    """A worker that is killed once, in the middle of its work."""

    def __init__(self, marker: str, **options):
        self.marker = Path(marker)
        super().__init__(**options)

    def __call__(self, batch: pa.Table) -> pa.Table:
        if 70 in batch["row"].to_pylist() and not self.marker.exists():
            self.marker.touch()
            os._exit(1)
        return super().__call__(batch)


def test_files_of_a_cluster_lose_no_row(cluster, tmp_path, monkeypatch):
    """Each file as `predict.py` judges it, every row once and in order though a worker dies; then nothing."""
    monkeypatch.setattr(ray_engine, "ROWS", 20)
    folder, out = tmp_path / "pairs", tmp_path / "decisions"
    folder.mkdir()
    pq.write_table(table(90), folder / "a.parquet", row_group_size=30)
    odd = table(3, 90).to_pylist()
    odd[1]["premise"] = ""
    pa.csv.write_csv(pa.Table.from_pylist(odd), folder / "b.csv")
    (out / "a.partial").mkdir(parents=True)  # as a run that was stopped leaves it
    marker = tmp_path / "died"
    found = judge_files(str(folder), str(out), workers=2, batch=Dying, marker=str(marker))
    assert [Path(path).name for path in found[0]] == ["a.parquet", "b.csv"]
    assert marker.exists()
    assert sorted(path.name for path in out.iterdir()) == ["a", "b"]
    decided = pq.read_table(out / "a").to_pylist()
    assert [row["row"] for row in decided] == list(range(90))
    pipe = load_pipeline()
    expected = judge_pairs(pipe, [(row["premise"], row["hypothesis"]) for row in decided], [None] * 90)
    for row, one in zip(decided, expected, strict=True):
        assert row["label"] == one["label"]
        assert row["uncertainty"] == pytest.approx(one["uncertainty"], abs=1e-4)
    few = pq.read_table(out / "b").to_pylist()
    assert [row["error"] is None for row in few] == [True, False, True]
    assert "empty" in few[1]["error"]
    again = judge_files(str(folder), str(out), workers=1, batch=Dying, marker=str(marker))
    assert (again[0], len(again[1])) == ([], 2)


def test_a_step_of_a_pipeline_of_ones_own(cluster):
    """`route` and `check`, over two nodes."""
    texts = ray.data.from_items([{"text": "Where is my parcel?"}, {"text": ""}])
    step = {"batch_format": "pyarrow", "concurrency": 1}
    options = {"work": "route", "categories": ["parcels", "music"]}
    routed = texts.map_batches(NliBatch, fn_constructor_kwargs=options, **step).take_all()
    assert {row["text"]: row["error"] is None for row in routed} == {"Where is my parcel?": True, "": False}
    rows = [{"source": "The bridge opened in 1932.", "answer": "It opened in 1932. It is red."}]
    checked = ray.data.from_items(rows).map_batches(
        NliBatch, fn_constructor_kwargs={"work": "check", "threshold": 1.0}, **step
    )
    (row,) = checked.take_all()
    assert row["verdict"] in ("supported", "contradicted", "not supported")
    assert '"unsupported"' in row["sentences"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"work": "sing"}, "not 'sing'"),
        ({"work": "route"}, "`categories` go with"),
        ({"categories": ["a"]}, "`categories` go with"),
    ],
)
def test_what_a_worker_cannot_do(options, problem):
    """Is said when it is made."""
    with pytest.raises(ValueError, match=problem):
        NliBatch(**options)


def test_files_that_are_none(tmp_path, capsys):
    """A line, before Ray is started."""
    with pytest.raises(InputError, match="names no file that ends in"):
        judge_files(str(tmp_path / "*.parquet"), str(tmp_path / "out"))
    for name in ("a.csv", "a.jsonl"):
        (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match="would have one output"):
        judge_files(str(tmp_path), str(tmp_path / "out"))
    arguments = ["--engine", "ray", "--input", str(tmp_path / "none*"), "--output", str(tmp_path / "out")]
    assert predict.main(arguments) == 2
    assert "names no file" in capsys.readouterr().err
