"""index.py: passages whose states are kept, on the embedded base."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modernbert_nli.files import InputError
from modernbert_nli.indexing import command
from modernbert_nli.indexing.build import build
from modernbert_nli.indexing.search import ask, nearest, write_graph
from modernbert_nli.indexing.store import PassageIndex
from modernbert_nli.loading import load_pipeline
from modernbert_nli.separate import read

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
    (claim,) = read(pipe.model, [CLAIM])
    exact = nearest(index, claim.vector, 3)
    vectors = torch.stack([text.vector for text in read(pipe.model, PASSAGES)])
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
    monkeypatch.setattr(command, "pipeline_of", lambda *_: pipe)
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
    monkeypatch.setattr(command, "pipeline_of", lambda *_: pipe)
    path = tmp_path / "odd.jsonl"
    path.write_text(
        '{"text": "Good."}\n{"text": ""}\nnot json\n{"text": 3}\n'
        '{"text": "\\ud800"}\n{"text": "\\u0000 ok"}\n'
    )
    assert command.main(["build", "--index", str(tmp_path / "made"), str(path)]) == 1
    said = capsys.readouterr().out
    assert "2 passages added" in said
    assert "4 rows are no passages" in said
    assert "row 2: it has no text" in said
    assert "row 3: the line is not one JSON object" in said
    assert [p["text"] for p in PassageIndex(tmp_path / "made").passages([0, 1])] == ["Good.", "\x00 ok"]


def texts_of(folder) -> list[str]:
    index = PassageIndex(folder)
    return [passage["text"] for passage in index.passages(range(len(index)))]


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from(PASSAGES), min_size=1, max_size=6),
    st.lists(st.sampled_from(PASSAGES), min_size=1, max_size=6),
    st.integers(1, 4),
)
def test_of_a_file_that_changed_what_is_new_is_added(pipe, tmp_path_factory, before, after, rows):
    """Whatever was put before, after or between, and however often a text is there; nothing is doubled."""
    folder = tmp_path_factory.mktemp("changed")
    build(pipe, [Path(written(folder, "a.jsonl", before))], folder / "made", shard_passages=rows)
    path = Path(written(folder, "a.jsonl", after))
    os.utime(path, ns=(1, len(before)))
    built = build(pipe, [path], folder / "made", shard_passages=rows)
    new, gone = Counter(after) - Counter(before), Counter(before) - Counter(after)
    assert (built.added, built.known, built.left) == (
        new.total(),
        len(after) - new.total(),
        gone.total(),
    )
    assert Counter(texts_of(folder / "made")) == Counter(before) + new
    assert build(pipe, [path], folder / "made", shard_passages=rows).added == 0
    os.utime(path, ns=(2, 2))  # touched
    assert build(pipe, [path], folder / "made", shard_passages=rows).added == 0


def test_a_changed_file_is_shared_by_writers(pipe, tmp_path):
    """One after the other: together they add what is new, once."""
    path, folder = Path(written(tmp_path, "a.jsonl", PASSAGES[:3])), tmp_path / "made"
    build(pipe, [path], folder, shard_passages=2)
    written(tmp_path, "a.jsonl", [*PASSAGES, PASSAGES[0]])
    counts = [build(pipe, [path], folder, shard_passages=2, share=(number, 2)).added for number in (1, 0)]
    assert sum(counts) == 5
    assert Counter(texts_of(folder)) == Counter([*PASSAGES, PASSAGES[0]])


def test_names_tell_passages_of_one_text_apart(pipe, tmp_path):
    """Where they are given: then another name is another passage."""
    path, folder = Path(written(tmp_path, "a.jsonl", ["Same.", "Same."])), tmp_path / "made"
    assert build(pipe, [path], folder, id_column="key").added == 2
    written(tmp_path, "a.jsonl", ["Same.", "Same.", "Same."])
    assert build(pipe, [path], folder, id_column="key").added == 1
    assert [one["id"] for one in PassageIndex(folder).passages([0, 1, 2])] == ["k0", "k1", "k2"]


def test_a_passage_longer_than_the_window_is_split(pipe, tmp_path, capsys, monkeypatch):
    """Into whole sentences, as many as the encoder reads at once: what its end says is found."""
    monkeypatch.setattr(command, "pipeline_of", lambda *_: pipe)
    text = " ".join([*("The market sells bread, fish and flowers every day.",) * 80, CLAIM])
    path = written(tmp_path, "long.jsonl", ["Short.", text, "word " * 1000])
    assert command.main(["build", "--index", str(tmp_path / "made"), path]) == 0
    assert "2 rows are longer than the encoder reads at once" in capsys.readouterr().out
    found = ask(pipe, PassageIndex(tmp_path / "made"), CLAIM)["supporting"][0]
    assert found["text"].endswith(f"flowers every day. {CLAIM}")
    assert found["id"].startswith("long.jsonl:2#")
    parts = texts_of(tmp_path / "made")
    assert " ".join(parts).split() == ["Short.", *text.split(), *["word"] * 1000]
    window = pipe.model.config.encoder_config.max_position_embeddings
    assert all(len(pipe.tokenizer(part)["input_ids"]) <= window for part in parts)
    assert build(pipe, [Path(path)], tmp_path / "made").added == 0


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"body": "x"}', "row 2: it has no column 'text'"),
        ('{"text": null}', "row 2: it has no text"),
        ('{"text": ["a"]}', "row 2: it has no text"),
        ('["text"]', "row 2: the line is not one JSON object"),
        ('{"text": "ok"', "row 2: the line is not one JSON object"),
        ('{"text": "a \\udc80"}', "row 2: the text is not valid Unicode"),
        ('{"text": "no name", "key": null}', "row 2: it has no 'key' to name it by"),
        ('{"text": "no name"}', "row 2: it has no 'key' to name it by"),
    ],
)
def test_a_bad_row_does_not_stop_the_rest(pipe, tmp_path, capsys, monkeypatch, row, problem):
    """File and row are named, and the exit status tells."""
    monkeypatch.setattr(command, "pipeline_of", lambda *_: pipe)
    path = tmp_path / "odd.jsonl"
    path.write_text(f'{{"text": "One.", "key": 1}}\n{row}\n{{"text": "Three.", "key": 3}}\n')
    other = written(tmp_path, "other.jsonl", ["Four."])
    options = ["--id_column", "key"] if "key" in problem else []
    assert command.main(["build", "--index", str(tmp_path / "made"), str(path), other, *options]) == 1
    assert f"odd.jsonl, {problem}" in capsys.readouterr().out
    assert sorted(texts_of(tmp_path / "made")) == ["Four.", "One.", "Three."]


def test_a_json_array_is_read(pipe, tmp_path):
    """As the rows that it holds."""
    path = tmp_path / "array.json"
    path.write_text(json.dumps([{"text": text} for text in PASSAGES], indent=1))
    assert build(pipe, [path], tmp_path / "made").added == len(PASSAGES)


MATTERS = [
    "The bridge opened in 1932.",
    "The harbour office is open from 8 a.m. to 5 p.m.",
    "Tides are caused by the moon.",
    "Bread is made of flour, water and salt.",
    "The parcel will come on Friday.",
    "Two dogs are running on the beach.",
    "Nobody under 18 may rent a boat.",
    "The library lends books for four weeks.",
    "Photography is not allowed in the museum.",
    "The company made a loss of two million euros in 2023.",
]


@pytest.fixture(scope="module")
def matters(pipe, tmp_path_factory) -> PassageIndex:
    folder = tmp_path_factory.mktemp("matters")
    build(pipe, [Path(written(folder, "matters.jsonl", MATTERS))], folder / "made")
    return PassageIndex(folder / "made")


@pytest.mark.parametrize(
    ("claim", "against"),
    [
        ("The bridge was opened in 1950.", MATTERS[0]),
        ("Photography is allowed in the museum.", MATTERS[8]),
        ("The company made a profit of two million euros in 2023.", MATTERS[9]),
        ("The orchestra played a symphony by Haydn.", None),
        ("Penguins live in Antarctica.", None),
        ("His sister studies law in Lisbon.", None),
        ("The volcano erupted twice last year.", None),
        ("A new vaccine was approved in May.", None),
        ("The striker scored three goals.", None),
        ("Cheese is stored at five degrees.", None),
    ],
)
def test_what_contradicts_speaks_of_the_matter(pipe, matters, claim, against):
    """However surely the heads call another passage a contradiction; what does not is not listed."""
    found = [passage["text"] for passage in ask(pipe, matters, claim, top=10)["contradicting"]]
    assert found == ([against] if against else [])


def test_what_is_left_undecided_is_shown(pipe, matters, monkeypatch, capsys):
    """With its reason, to programs and to readers."""
    monkeypatch.setattr(command, "pipeline_of", lambda *_: pipe)
    claim = "The harbour office is open at 6 p.m."
    for passage in ask(pipe, matters, claim, top=3)["supporting"]:
        alone = pipe(passage["text"], claim)
        keys = ("label", "abstain", "reason")
        assert [passage[key] for key in keys] == [alone[key] for key in keys]
    assert command.main(["ask", "--index", str(matters.folder), claim, "--top", "10"]) == 0
    assert "(undecided: " in capsys.readouterr().out
    sure = ask(pipe, matters, "Tides are caused by the moon")["supporting"][0]
    assert (sure["abstain"], sure["probs"]["entailment"], sure["rule"]) == (False, 1.0, "verbatim")


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
    monkeypatch.setattr(command, "pipeline_of", lambda *_: pipe)
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
