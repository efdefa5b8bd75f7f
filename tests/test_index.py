"""index.py: passages whose states are kept, on the embedded base."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import index as command
from indexing.build import build
from indexing.search import ask, nearest, write_graph
from indexing.store import PassageIndex
from predict import load_pipeline
from prediction.pair_files import InputError

PASSAGES = [
    "The bridge opened in 1932.",
    "The bridge was never opened.",
    "A man is playing guitar on stage.",
    "Tides are caused by the moon.",
    "Bread is made of flour, water and salt.",
    "The parcel will come on Friday.",
    "Two dogs are running on the beach.",
]
CLAIM = "The bridge opened in 1932."


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline()


def written(folder, name: str, texts: list) -> str:
    path = folder / name
    path.write_text(
        "".join(json.dumps({"text": text, "key": f"k{row}"}) + "\n" for row, text in enumerate(texts))
    )
    return str(path)


@pytest.fixture(scope="module")
def index(pipe, tmp_path_factory) -> PassageIndex:
    """Seven passages in three shards."""
    folder = tmp_path_factory.mktemp("index")
    path = written(folder, "passages.jsonl", PASSAGES)
    assert command.main(["build", "--index", str(folder / "made"), path, "--shard_passages", "3"]) == 0
    return PassageIndex(folder / "made")


def test_all_passages_are_judged_as_the_pipeline_judges_them(pipe, index):
    """Whatever shard they are in."""
    found = ask(pipe, index, CLAIM, top=len(PASSAGES))
    assert {passage["text"] for passage in found["supporting"]} == set(PASSAGES)
    expected = pipe([(passage["text"], CLAIM) for passage in found["supporting"]], encoding="separate")
    for passage, result in zip(found["supporting"], expected, strict=True):
        assert passage["uncertainty"] == pytest.approx(result["uncertainty"], abs=2e-3)
        label = max(passage["probs"], key=passage["probs"].get)
        assert label == result["label"]
        assert passage["probs"][label] == pytest.approx(result["confidence"], abs=2e-3)
    assert found["supporting"][0]["text"] == CLAIM
    assert found["supporting"][0]["id"] == "passages.jsonl:1"
    probs = [passage["probs"]["contradiction"] for passage in found["contradicting"]]
    assert probs == sorted(probs, reverse=True)
    assert len(ask(pipe, index, CLAIM, top=2)["supporting"]) == 2


def test_a_shortlist_is_the_nearest(pipe, index, tmp_path):
    """With a graph and without one; a graph of another state of the index is not used."""
    (claim,) = pipe.model.read([CLAIM])
    exact = nearest(index, claim.vector, 3)
    vectors = torch.stack([text.vector for text in pipe.model.read(PASSAGES)])
    assert exact == (vectors @ claim.vector).topk(3).indices.tolist()
    found = ask(pipe, index, CLAIM, top=5, shortlist=3)
    assert {passage["text"] for passage in found["supporting"]} == {PASSAGES[row] for row in exact}
    pytest.importorskip("faiss", reason="faiss is not installed")
    copy = PassageIndex(shutil.copytree(index.folder, tmp_path / "copy"))
    write_graph(copy)
    assert nearest(copy, claim.vector, 3) == exact
    build(pipe, [Path(written(tmp_path, "x.jsonl", [CLAIM]))], copy.folder)
    assert 7 in nearest(PassageIndex(copy.folder), claim.vector, 3)


def test_what_is_there_is_not_made_again_and_files_can_be_added(pipe, tmp_path, monkeypatch):
    """A run that was stopped goes on after the shards that are whole."""
    path, folder = written(tmp_path, "a.jsonl", PASSAGES), tmp_path / "made"
    encode, calls = pipe.model.encode, []

    def stopping(texts, *args, **kwargs):
        calls.append(len(texts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(texts, *args, **kwargs)

    monkeypatch.setattr(pipe.model, "encode", stopping)
    monkeypatch.setattr(command, "load_pipeline", lambda *_: pipe)
    arguments = ["build", "--index", str(folder), "--shard_passages", "3", path]
    assert command.main(arguments) == 130
    assert len(PassageIndex(folder)) == 3
    assert command.main(arguments) == 0
    assert (calls, len(PassageIndex(folder))) == ([3, 3, 3, 1], 7)
    pq.write_table(pa.table({"text": ["One more."], "name": ["n"]}), tmp_path / "b.parquet")
    assert command.main([*arguments, str(tmp_path / "b.parquet"), "--id_column", "name"]) == 0
    assert len(PassageIndex(folder)) == 8
    assert PassageIndex(folder).passages([7, 0]) == [
        {"id": "n", "text": "One more."},
        {"id": "a.jsonl:1", "text": PASSAGES[0]},
    ]


def test_several_writers_share_the_work(pipe, tmp_path):
    """Together they write what one would."""
    path, folder = Path(written(tmp_path, "a.jsonl", PASSAGES)), tmp_path / "made"
    counts = [build(pipe, [path], folder, shard_passages=2, share=(number, 2)).added for number in (1, 0)]
    assert counts == [3, 4]
    index = PassageIndex(folder)
    assert [passage["text"] for passage in index.passages(range(7))] == PASSAGES


def test_rows_that_are_no_passages(pipe, tmp_path, capsys, monkeypatch):
    """Are named, and the others are kept."""
    monkeypatch.setattr(command, "load_pipeline", lambda *_: pipe)
    path = tmp_path / "odd.jsonl"
    path.write_text(
        '{"text": "Good."}\n{"text": ""}\nnot json\n{"text": 3}\n'
        '{"text": "\\ud800"}\n{"text": "\\u0000 ok"}\n'
    )
    assert command.main(["build", "--index", str(tmp_path / "made"), str(path)]) == 0
    said = capsys.readouterr().out
    assert "2 passages added" in said
    assert "4 rows are no passages" in said
    assert "row 2: it has no text" in said
    assert "row 3: the line is not one JSON object" in said
    assert [p["text"] for p in PassageIndex(tmp_path / "made").passages([0, 1])] == ["Good.", "\x00 ok"]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=6))
def test_any_text(pipe, tmp_path_factory, texts):
    """Is a passage or is refused; what is kept is read again as it was."""
    folder = tmp_path_factory.mktemp("any")
    path = Path(written(folder, "any.jsonl", texts))
    built = build(pipe, [path], folder / "made", shard_passages=4)
    assert built.added + len(built.refused) == len(texts)
    if built.added:
        index = PassageIndex(folder / "made")
        kept = [passage["text"] for passage in index.passages(range(len(index)))]
        assert kept == [text for text in texts if text in kept]
        assert not index.problems()


def test_verify(index, tmp_path, capsys):
    """A file that was changed or lost is named."""
    copy = shutil.copytree(index.folder, tmp_path / "copy")
    assert command.main(["verify", "--index", str(copy)]) == 0
    capsys.readouterr()
    states, texts = next(copy.glob("*.safetensors")), next(copy.glob("*.parquet"))
    content = bytearray(states.read_bytes())
    content[-1] ^= 1
    states.write_bytes(content)
    texts.unlink()
    assert command.main(["verify", "--index", str(copy)]) == 1
    said = capsys.readouterr().out
    assert f"{states.name} has changed" in said
    assert f"{texts.name} is missing" in said


def test_an_index_of_other_heads_is_refused(pipe, index, tmp_path):
    """When it is asked, and when it is added to."""
    copy = shutil.copytree(index.folder, tmp_path / "copy")
    other = load_pipeline()
    with torch.no_grad():
        other.model.nli_hidden.projection[0].weight.mul_(1.5)
    with pytest.raises(InputError, match="of other heads"):
        ask(other, PassageIndex(copy), CLAIM)
    with pytest.raises(InputError, match="need an index of their own"):
        build(other, [Path(written(tmp_path, "more.jsonl", ["More."]))], copy)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["ask", "--index", "nowhere", "x"], "There is no index in nowhere"),
        (["verify", "--index", "nowhere"], "There is no index in nowhere"),
        (["build", "--index", "made", "none.jsonl"], "does not exist"),
        (["build", "--index", "made", "none.txt"], "is of no known kind"),
        (["build", "--index", "made", "a.jsonl", "--column", "body"], "has no column 'body' in row 1"),
    ],
)
def test_what_cannot_be_done(tmp_path, monkeypatch, capsys, pipe, arguments, problem):
    """A line, and exit status 2."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "load_pipeline", lambda *_: pipe)
    written(tmp_path, "a.jsonl", PASSAGES)
    assert command.main(arguments) == 2
    assert problem in capsys.readouterr().err


def test_a_manifest_that_is_none(tmp_path):
    """Is not taken for an empty index."""
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        PassageIndex(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(InputError, match="is no manifest"):
        PassageIndex(tmp_path)
