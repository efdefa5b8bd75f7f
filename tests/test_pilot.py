"""The pilot: pairs scored by heads that have not seen them, easy ones thinned, wrong labels found."""

import csv
import json
import shlex
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import HYPOTHESES, make_model, rows, write
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from modernbert_nli.configuration_modernbert_nli import LABELS
from modernbert_nli.training import pilot as results_module
from modernbert_nli.training import pilot_command as pilot
from modernbert_nli.training import pilot_heads
from modernbert_nli.training.arguments import parse
from modernbert_nli.training.cache import cache_states
from modernbert_nli.training.data import Pairs, load_pairs
from modernbert_nli.training.pilot import Scores, find_suspects, folds_by_premise, thin
from modernbert_nli.training.states import PairStates

FLIPPED = {"a": [3, 40, 77, 120, 160], "b": [7, 55]}  # rows whose label is made a wrong one, from 1
REPEATED = ("b", 70)  # a row that is there before
FILES = ["histogram.png", "histogram.svg", "kept", "scores.jsonl", "suspects.csv"]


def words(options: dict) -> list[str]:
    return [word for key, value in options.items() for word in ([key, *value] if key else value)]


def run(folder, options: dict, **changed) -> dict[str, bytes]:
    """The files of a run, by name."""
    output = folder / "pilot"
    changed = {f"--{name}": value if isinstance(value, list) else [value] for name, value in changed.items()}
    pilot.main(words({**options, "--output_dir": [str(output)], **changed}))
    return files_in(output)


def files_in(folder) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def random_pairs(premises: list[str]) -> Pairs:
    return Pairs("some", premises, ["a hypothesis"] * len(premises), np.zeros(len(premises), int))


@pytest.fixture(scope="module")
def options(tmp_path_factory, tiny_modernbert) -> dict:
    """Two files with some wrong labels, and what learns the others within seconds."""
    folder, sources = tmp_path_factory.mktemp("data"), []
    for seed, (name, flipped) in enumerate(FLIPPED.items()):
        data = [
            {**row, "premise": f"{row['premise']} in {name}"}
            for row in rows(240 if name == "a" else 80, seed)
        ]
        for row in flipped:
            label = LABELS.index(data[row - 1]["label"])
            data[row - 1]["label"] = LABELS[(label + 1) % 3]
        if name == REPEATED[0]:
            data.insert(REPEATED[1] - 1, data[4])
        sources.append(write(folder / f"{name}.jsonl", data))
    return {
        "--train_data": sources,
        "--cache_dir": [str(folder / "states")],
        "--base_model": ["tester/tiny-base"],
        "--base_folder": [tiny_modernbert],
        "--learning_rate": ["5e-3"],
        "--num_train_epochs": ["5"],
        "--per_device_train_batch_size": ["16"],
        "--most_per_bin": ["0.2"],
    }


@pytest.fixture(scope="module")
def scored(tmp_path_factory, options):
    """A run's folder with its results in `pilot`, and what it printed."""
    folder = tmp_path_factory.mktemp("scored")
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("builtins.print", lambda *texts, **_: lines.append(" ".join(map(str, texts))))
        run(folder, options)
    return folder / "pilot", "\n".join(lines)


def read_suspects(folder) -> list[dict]:
    with (folder / "suspects.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_scores(folder) -> list[dict]:
    with (folder / "scores.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_every_pair_is_scored_in_its_place(scored, options):
    """Source by source and row by row, repeated pairs once; the heads have learnt what there is to learn."""
    folder, printed = scored
    scores = read_scores(folder)
    given = [
        (Path(source).stem, number, json.loads(line)["label"])
        for source in options["--train_data"]
        for number, line in enumerate(Path(source).read_text().splitlines(), start=1)
    ]
    expected = [pair for pair in given if pair[:2] != REPEATED]
    assert [(score["source"], score["row"], score["label"]) for score in scores] == expected
    for score in scores:
        assert (score["predicted"] == score["label"]) == (score["p_label"] == score["p_predicted"])
        assert 0 <= score["p_label"] <= score["p_predicted"] <= 1
    right = np.mean([score["predicted"] == score["label"] for score in scores])
    assert right > 0.9
    assert f"{right:.1%}" in printed


def test_labels_that_were_made_wrong_are_among_the_first_suspects(scored):
    """With their text, the label as given, and the one they had before."""
    suspects = read_suspects(scored[0])
    flipped = {(name, str(row)) for name, rows_ in FLIPPED.items() for row in rows_}
    found = [row for row in suspects[: 2 * len(flipped)] if (row["source"], row["row"]) in flipped]
    assert len(found) == len(flipped)
    for row in found:
        before = LABELS[LABELS.index(row["label"]) - 1]
        assert row["predicted"] == before
        assert row["hypothesis"].split()[-1] in HYPOTHESES[before] + row["premise"]
        assert float(row["p_label"]) < float(row["p_predicted"])
    sure = [float(row["p_predicted"]) for row in suspects]
    assert sure == sorted(sure, reverse=True)


def test_what_is_kept_is_ready_for_training(scored, options):
    """All but some easy pairs, in their order, suspects among them; the printed command reads it."""
    folder, printed = scored
    scores, kept_of_all = read_scores(folder), 0
    for source in options["--train_data"]:
        pairs = load_pairs(source)
        kept = load_pairs(str(folder / "kept" / f"{pairs.name}.jsonl"))
        given = list(zip(pairs.premises, pairs.hypotheses, pairs.labels.tolist(), strict=True))
        left = list(zip(kept.premises, kept.hypotheses, kept.labels.tolist(), strict=True))
        places = [given.index(pair) + 1 for pair in left]
        assert places == sorted(places)
        p_label = {score["row"]: score["p_label"] for score in scores if score["source"] == pairs.name}
        assert all(p_label[row] >= 0.7 for row in p_label.keys() - set(places))
        kept_of_all += len(left)
    assert 0 < kept_of_all < len(scores)

    command = printed.splitlines()[-1].strip()
    arguments = shlex.split(command.removeprefix("python train.py"))
    assert arguments[:2] == ["--train_data", str(folder / "kept" / "*.jsonl")]
    data, head, _ = parse(arguments)
    assert (head.base_model, head.base_folder) == ("tester/tiny-base", options["--base_folder"][0])
    assert data.cache_dir == options["--cache_dir"][0]


def test_the_histogram_is_a_picture_in_both_formats(scored):
    """Whole, of a readable size, on an opaque ground, with more than one colour."""
    picture = Image.open(scored[0] / "histogram.png")
    assert picture.format == "PNG"
    assert picture.size == (1650, 600)
    colours = picture.convert("RGBA").getcolors(2**16)
    assert {alpha for _, (*_, alpha) in colours} == {255}
    assert len(colours) > 10
    root = ElementTree.parse(scored[0] / "histogram.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall(".//{http://www.w3.org/2000/svg}path")) > 60  # the bars of three panels


def test_two_runs_are_identical(scored, options, tmp_path):
    """File by file and byte by byte, pictures too; another seed gives other scores."""
    assert run(tmp_path / "again", options) == files_in(scored[0])
    other = run(tmp_path / "other", options, seed="3", num_train_epochs="1")
    assert other["scores.jsonl"] != (scored[0] / "scores.jsonl").read_bytes()


def test_earlier_results_stay_until_the_new_ones_are_complete(scored, options, tmp_path, monkeypatch):
    """A run that fails at its last file leaves them as they were; one that ends replaces all of them."""
    short = {"num_train_epochs": "1", "suspects": "3"}
    before = run(tmp_path, options, **short)
    with monkeypatch.context() as patch:
        patch.setattr(results_module, "draw_histogram", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tmp_path, options, **short, seed="5")
    assert files_in(tmp_path / "pilot") == before
    after = run(tmp_path, options, **short, train_data=options["--train_data"][:1])
    assert sorted(path.name for path in (tmp_path / "pilot").iterdir()) == FILES
    assert [name for name in after if name.startswith("kept")] == ["kept/a.jsonl"]
    assert [path.name for path in tmp_path.iterdir()] == ["pilot"]
    assert len(read_suspects(tmp_path / "pilot")) == 3


def test_no_head_judges_what_it_was_trained_on(tiny_modernbert, tmp_path, monkeypatch):
    """Each fold is judged once in each encoding, by heads of all other folds and of nothing else."""
    model = make_model(tiny_modernbert)
    pairs = load_pairs(write(tmp_path / "pairs.jsonl", rows(30)))
    states = cache_states(model, pairs, tmp_path / "states")
    folds = folds_by_premise(pairs, 3, seed=0)
    seen, judged = [], []

    class Recorder(pilot_heads.NliTrainer):
        def __init__(self, **kwargs):
            seen.append(set(kwargs["train_dataset"].encoded["joint"].rows[:, 1]))
            super().__init__(**kwargs)

    def recorded(trainer, part: PairStates):
        judged.append((seen[-1], next(iter(part.encoded)), part.encoded[next(iter(part.encoded))].rows))
        return predict(trainer, part)

    predict = pilot_heads.predict
    monkeypatch.setattr(pilot_heads, "NliTrainer", Recorder)
    monkeypatch.setattr(pilot_heads, "predict", recorded)
    args = pilot_heads.PilotStageArguments(
        output_dir=str(tmp_path / "work"), num_train_epochs=1, use_cpu=True
    )
    probs = pilot_heads.out_of_fold(model, states, folds, args, tmp_path / "work")
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    everything = set(range(30))
    joint = [(trained_on, set(part[:, 1])) for trained_on, encoding, part in judged if encoding == "joint"]
    assert len(joint) == 3
    assert len(judged) == 6
    for trained_on, rows_ in joint:
        assert trained_on | rows_ == everything
        assert not trained_on & rows_
    assert set.union(*(rows_ for _, rows_ in joint)) == everything


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"folds": "1"}, "`--folds` must be 2 or more, not 1"),
        ({"bins": "2"}, "`--bins` must be 3 or more"),
        ({"most_per_bin": "0"}, "`--most_per_bin` must be a share"),
        ({"most_per_bin": "1.5"}, "`--most_per_bin` must be a share"),
        ({"suspects": "-1"}, "`--suspects` must be 0 or more"),
        ({"teacher": "some/teacher"}, "`--teacher` is an option of train.py"),
        ({"abstention_data": "other.jsonl"}, "`--abstention_data` is an option of train.py"),
        ({"held_out": "0.1"}, "`--held_out` is an option of train.py"),
        ({"folds": "300"}, "all pairs of a premise are in one"),
    ],
)
def test_arguments_that_cannot_be_meant(options, tmp_path, monkeypatch, changed, complaint):
    """Each is refused in a sentence, before the base is loaded."""
    monkeypatch.setattr(pilot_heads, "new_model", lambda *_: pytest.fail("the base was loaded"))
    with pytest.raises(ValueError, match=complaint):
        run(tmp_path, options, **changed)
    assert not list(tmp_path.iterdir())


def test_no_file_that_is_not_the_pilots_is_replaced(options, tmp_path):
    """A folder of something else, a file, and the very data that is read."""
    (tmp_path / "pilot").mkdir()
    (tmp_path / "pilot" / "model.safetensors").write_text("precious")
    with pytest.raises(ValueError, match=r"holds model.safetensors, which is no result"):
        run(tmp_path, options)
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "pilot").write_text("precious")
    with pytest.raises(ValueError, match="is a file"):
        run(tmp_path / "file", options)
    source = tmp_path / "again" / "pilot" / "kept" / "a.jsonl"
    source.parent.mkdir(parents=True)
    write(source, rows(30))
    with pytest.raises(ValueError, match="which is to be replaced"):
        run(tmp_path / "again", options, train_data=str(source))
    assert source.exists()


def test_without_matplotlib_the_run_does_not_begin(options, tmp_path, monkeypatch, capsys):
    """What to install is said at once, not when everything else is done."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install modernbert-nli\[plots\]"):
        run(tmp_path, options)
    monkeypatch.setattr(sys, "argv", ["pilot.py", *words(options)])
    assert pilot.cli() == 2
    assert capsys.readouterr().err.startswith("pilot.py: error: Pictures need matplotlib")


def test_the_next_command_keeps_weights(tmp_path):
    """Which the files cannot hold, as options of each source."""
    pair = (["a dog"], ["a cat"], np.zeros(1, int))
    sources = [Pairs("one", *pair, weight=2.0), Pairs("a set", *pair)]
    arguments = pilot.PilotArguments(["?"], eval_data=["test.jsonl"])
    command = pilot_heads._next_command(
        tmp_path, arguments, pilot.HeadArguments(encodings=["joint"]), sources
    )
    data, head, _ = parse(shlex.split(command.removeprefix("python train.py")))
    names = [("one", 2), ("a set", 1)]
    assert data.train_data == [f"{tmp_path}/kept/{name}.jsonl?weight={weight}" for name, weight in names]
    assert (data.eval_data, head.encodings) == (["test.jsonl"], ["joint"])


@given(st.lists(st.sampled_from("abcdefghijklm"), min_size=1), st.integers(2, 6), st.integers(0, 3))
def test_a_premise_is_in_one_fold_whatever_its_source(premises, folds, seed):
    """And the folds are those that were asked for."""
    first = folds_by_premise(random_pairs(premises), folds, seed)
    second = folds_by_premise(random_pairs(premises[::-1]), folds, seed)
    np.testing.assert_array_equal(first, second[::-1])
    assert len({(premise, fold) for premise, fold in zip(premises, first, strict=True)}) == len(set(premises))
    assert set(first) <= set(range(folds))


def test_folds_are_of_like_size():
    """As many premises in each, up to chance."""
    folds = folds_by_premise(random_pairs([str(number) for number in range(4000)]), 4, seed=1)
    assert np.bincount(folds).min() > 900


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2)), min_size=1, max_size=200),
    st.integers(3, 25),
    st.floats(0.01, 1),
    st.integers(0, 3),
)
def test_only_full_bins_of_easy_pairs_are_thinned(pairs, bins, most_per_bin, seed):
    """To the share that is allowed and no further; one seed gives one draw."""
    p_label, labels = np.array([p for p, _ in pairs]), np.array([label for _, label in pairs])
    kept = thin(p_label, labels, bins, most_per_bin, seed)
    assert kept[p_label < 2 / 3].all()
    bin_of = np.minimum((p_label * bins).astype(int), bins - 1)
    for label in range(3):
        most = max(1, int(most_per_bin * (labels == label).sum()))
        for number in range(bins):
            here = (labels == label) & (bin_of == number)
            easy = 3 * number >= 2 * bins
            assert kept[here].sum() == (min(here.sum(), most) if easy else here.sum())
    np.testing.assert_array_equal(kept, thin(p_label, labels, bins, most_per_bin, seed))


def test_rows_and_sources_stay_those_of_what_was_read():
    """Where repeated pairs were left out, rows count on; suspects come with the surest first."""
    labels = np.array([0, 1, 2])
    texts = (["a", "b", "c"], ["d", "e", "f"])
    first = Pairs("first", *texts, labels, rows=np.array([0, 4, 5]))
    probs = np.array([[0.9, 0.1, 0], [0.7, 0.2, 0.1], [0, 0, 1], [0, 1, 0], [0.3, 0.4, 0.3], [0.4, 0.2, 0.4]])
    scores = Scores([first, Pairs("second", *texts, labels)], probs)
    assert [rows_.tolist() for rows_ in scores.rows] == [[1, 5, 6], [1, 2, 3]]
    np.testing.assert_allclose(scores.p_label, [0.9, 0.2, 1, 0, 0.4, 0.4])
    assert find_suspects(scores, 10).tolist() == [3, 1, 5]
    assert find_suspects(scores, 1).tolist() == [3]
    assert [scores.place(index) for index in (0, 2, 3, 5)] == [(0, 0), (0, 2), (1, 0), (1, 2)]
