"""Data: sources of every kind become checked pairs, and none of them is learnt from twice or measured on."""

import contextlib
import csv
import json
import re
import tempfile
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from conftest import HYPOTHESES, rows, write
from datasets import ClassLabel, Dataset, Features
from hypothesis import given, settings
from hypothesis import strategies as st

from modernbert_nli.configuration_modernbert_nli import LABELS
from modernbert_nli.training.data import (
    NOT_ENTAILMENT,
    Pairs,
    clean,
    load_pairs,
    random_part,
    require_three_way,
    summary,
)
from modernbert_nli.training.sources import KNOWN_SETS, parse_source


def make_pairs(name: str, texts: list[str], labels: list[int], **kwargs) -> Pairs:
    """Pairs with one text on both sides."""
    return Pairs(name, texts, [text + "!" for text in texts], np.array(labels), **kwargs)


def from_hub(monkeypatch, columns: dict[str, list], **features) -> list[tuple]:
    """Have the Hub answer with these columns; the list says what it was asked for."""
    asked = []

    def load_dataset(identifier, config, split, revision=None):
        asked.append((identifier, config, split, revision))
        dataset = Dataset.from_dict(columns)
        return dataset.cast(Features({**dataset.features, **features}))

    monkeypatch.setattr("modernbert_nli.training.data.load_dataset", load_dataset)
    return asked


def test_the_same_pairs_are_read_from_every_kind_of_file(tmp_path):
    """JSONL, CSV and Parquet, with names or with 0, 1, 2 as labels."""
    data = rows(9)
    numbered = [{**row, "label": list(HYPOTHESES).index(row["label"])} for row in data]
    Dataset.from_list(data).to_csv(tmp_path / "named.csv")
    Dataset.from_list(numbered).to_parquet(tmp_path / "numbered.parquet")
    expected = load_pairs(write(tmp_path / "pairs.jsonl", data))
    for name in ("named.csv", f"numbered.parquet?labels={','.join(HYPOTHESES)}"):
        read = load_pairs(str(tmp_path / name))
        assert (read.premises, read.hypotheses) == (expected.premises, expected.hypotheses)
        np.testing.assert_array_equal(read.labels, expected.labels)


def test_rows_without_consensus_are_dropped_and_counted(tmp_path):
    """-1 and null are no labels, and the summary says how many there were."""
    data = [*rows(5), {**rows(1)[0], "label": None}, {**rows(1)[0], "label": "-"}]
    pairs = load_pairs(write(tmp_path / "pairs.jsonl", data))
    assert len(pairs) == 5
    assert pairs.dropped == {"no label": 2}
    assert "2 no label" in summary([pairs], [])


def test_a_hub_dataset_is_read_by_its_own_label_names(monkeypatch):
    """`id/config:split` is asked for, class names decide, and rows without label or text are counted."""
    columns = {"premise": ["a", "b", "c", ""], "hypothesis": ["d"] * 4, "label": [0, 2, -1, 1]}
    asked = from_hub(monkeypatch, columns, label=ClassLabel(names=["contradiction", "neutral", "entailment"]))
    pairs = load_pairs("owner/set/round:dev")
    load_pairs("owner/set")
    assert asked == [("owner/set", "round", "dev", None), ("owner/set", None, "train", None)]
    assert pairs.name == "owner_set_round_dev"
    assert pairs.labels.tolist() == [2, 0]
    assert pairs.dropped == {"no label": 1, "no text": 1}


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("snli", ("stanfordnlp/snli", None, "train", None)),
        ("mnli:validation_matched", ("nyu-mll/multi_nli", None, "validation_matched", None)),
        ("mnli_mismatched", ("nyu-mll/multi_nli", None, "validation_mismatched", None)),
        ("anli_r1", ("facebook/anli", None, "train_r1", None)),
        ("anli_r3:dev", ("facebook/anli", None, "dev_r3", None)),
        ("anli_r3:test_r3", ("facebook/anli", None, "test_r3", None)),
        ("anli_r2:dev[:5]", ("facebook/anli", None, "dev_r2[:5]", None)),
        ("lingnli:train[:10%]", ("tasksource/lingnli", None, "train[:10%]", None)),
        ("hans", ("jhu-cogsci/hans", None, "validation", "refs/convert/parquet")),
        ("hans?revision=main", ("jhu-cogsci/hans", None, "validation", "main")),
    ],
)
def test_a_short_name_stands_for_a_hub_dataset(monkeypatch, source, asked):
    """With a split or without, and options still count."""
    columns = {"premise": ["a"], "hypothesis": ["b"], "label": ["entailment"]}
    questions = from_hub(monkeypatch, columns)
    pairs = load_pairs(source)
    assert questions == [asked]
    assert pairs.name == re.sub("[/:]", "_", source.partition("?")[0])


def test_known_sets_have_the_columns_that_the_hub_has(monkeypatch):
    """WANLI calls its label gold; FEVER's card calls the claim a premise, and it is none."""
    columns = {
        "premise": ["claim"],
        "hypothesis": ["evidence"],
        "label": ["neutral"],
        "gold": ["contradiction"],
    }
    asked = from_hub(monkeypatch, columns)
    wanli, fever = load_pairs("wanli:test"), load_pairs("fever_nli:dev")
    assert [question[:3:2] for question in asked] == [
        ("alisawuffles/WANLI", "test"),
        ("pietrolesci/nli_fever", "dev"),
    ]
    assert (wanli.name, wanli.premises, wanli.labels.tolist()) == ("wanli_test", ["claim"], [2])
    assert (fever.premises, fever.hypotheses, fever.labels.tolist()) == (["evidence"], ["claim"], [1])


@pytest.mark.parametrize("name", KNOWN_SETS)
def test_every_known_set_can_be_read(name):
    """Its entry is a source itself, in each of its splits."""
    first, *others = KNOWN_SETS[name].splits
    assert parse_source(name).split == first
    for split in others:
        source = parse_source(f"{name}:{split}")
        assert (source.split, source.name) == (split, f"{name}_{split}")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{not json", "row 2: the line is not one JSON object"),
        ("[1, 2]", "row 2: the line is not one JSON object: it is a list"),
        (
            '{"premise": "a", "hypothesis": "b", "label": "maybe"}',
            "row 2: the label 'maybe' is none of entailment",
        ),
        ('{"premise": "", "hypothesis": "b", "label": "neutral"}', "row 2: the premise is empty"),
        (
            '{"premise": "a", "hypothesis": null, "label": "neutral"}',
            "row 2: the hypothesis must be a string",
        ),
    ],
)
def test_a_malformed_row_is_named(tmp_path, line, complaint):
    """File and row are in the message."""
    path = write(tmp_path / "pairs.jsonl", [rows(1)[0], line])
    with pytest.raises(ValueError, match=complaint) as caught:
        load_pairs(path)
    assert path in str(caught.value)


@pytest.mark.parametrize("name", ["A.tsv", "pairs", "pairs.txt", "a/b/c/d", "nowhere/pairs.csv.gz"])
def test_what_is_neither_file_nor_dataset_asks_nobody(tmp_path, monkeypatch, name):
    """A file of another kind, or a path that does not exist, never becomes a question to the Hub."""
    monkeypatch.setattr(
        "modernbert_nli.training.data.load_dataset", lambda *_, **__: pytest.fail("the Hub was asked")
    )
    (tmp_path / "A.tsv").write_text("premise\thypothesis\tlabel\n")
    with pytest.raises(ValueError, match="and no Hub dataset's id"):
        load_pairs(str(tmp_path / name))


def test_small_differences_between_files_do_not_matter(tmp_path):
    """A blank line, a byte order mark, an ending in capitals, a CSV whose numbers have a gap."""
    data = rows(3)
    lines = [json.dumps(row) for row in data]
    (tmp_path / "pairs.JSONL").write_bytes(b"\xef\xbb\xbf" + "\n\n".join([*lines, ""]).encode())
    assert load_pairs(str(tmp_path / "pairs.JSONL")).premises == [row["premise"] for row in data]
    (tmp_path / "gap.csv").write_text("premise,hypothesis,label\na,b,0\nc,d,\ne,f,2\n")
    gap = load_pairs(str(tmp_path / "gap.csv") + "?labels=entailment,neutral,contradiction")
    assert (gap.labels.tolist(), gap.dropped) == ([0, 2], {"no label": 1})


def test_a_random_part_is_taken_before_anything_is_encoded(tmp_path):
    """Of all pairs together, the same for the same seed."""
    sources = [load_pairs(write(tmp_path / f"{seed}.jsonl", rows(20, seed))) for seed in (1, 2)]
    part = random_part(sources, 10, seed=3)
    assert sum(map(len, part)) == 10
    assert [pairs.premises for pairs in part] == [
        pairs.premises for pairs in random_part(sources, 10, seed=3)
    ]
    for pairs, source in zip(part, sources, strict=True):
        assert set(zip(pairs.premises, pairs.labels, strict=True)) <= set(
            zip(source.premises, source.labels, strict=True)
        )


def test_what_is_not_there_is_named(tmp_path):
    """A missing file, a missing column, invalid UTF-8."""
    with pytest.raises(ValueError, match="no file"):
        load_pairs(str(tmp_path / "none.jsonl"))
    with pytest.raises(ValueError, match="no column 'label'"):
        load_pairs(write(tmp_path / "columns.jsonl", [{"premise": "a", "hypothesis": "b"}]))
    (tmp_path / "bytes.jsonl").write_bytes(b'{"premise": "\xff", "hypothesis": "b", "label": 0}\n')
    with pytest.raises(ValueError, match="row 1: the premise is not valid Unicode"):
        load_pairs(str(tmp_path / "bytes.jsonl") + "?labels=entailment")


@given(st.lists(st.sampled_from("abcdefghij"), min_size=1), st.integers(0, 3), st.floats(0, 1))
def test_no_premise_is_on_both_sides(premises, seed, share):
    """All pairs of a premise are fitted to, or all are held out."""
    held = Pairs("pairs", premises, premises, np.zeros(len(premises))).held_out(share, seed)
    sides = {
        premise: {bool(side) for other, side in zip(premises, held, strict=True) if other == premise}
        for premise in premises
    }
    assert all(len(side) == 1 for side in sides.values())


def test_columns_labels_and_name_are_said_by_options(tmp_path):
    """A file as other projects write it is read without being rewritten."""
    path = tmp_path / "theirs.csv"
    path.write_text("s1,s2,gold label\na,b,C\nc,d,e\ne,f,n\ng,h,-\ni,j,other\n")
    columns = f"{path}?premise=s1&hypothesis=s2&label=gold label"
    labels = "e:entailment,n:neutral,c:Contradiction,other:-"
    pairs = load_pairs(f"{columns}&labels={labels}&name=mine&weight=0.5")
    assert (pairs.name, pairs.weight, pairs.dropped) == ("mine", 0.5, {"no label": 2})
    assert (pairs.premises, pairs.hypotheses) == (["a", "c", "e"], ["b", "d", "f"])
    assert pairs.labels.tolist() == [2, 0, 1]
    with pytest.raises(ValueError, match="row 1: the label 'C' is none of entailment"):
        load_pairs(columns)


@pytest.mark.parametrize(
    ("labels", "option", "expected"),
    [
        (["Entailment", "NEUTRAL", "contradiction"], "", [0, 1, 2]),
        ([0, 1, 2], "?labels=contradiction,neutral,entailment", [2, 1, 0]),
        (["0", "1.0", "2"], "?labels=contradiction,entailment,neutral", [2, 0, 1]),
        ([0, 1, 2, 3], "?labels=entailment,neutral,neutral,-", [0, 1, 1]),
        ([1, 0, -1], "?labels=-1:contradiction,0:neutral,1:entailment", [0, 1, 2]),
        ([True, False], "?labels=true:entailment,false:contradiction", [0, 2]),
        (["entailment", "not_entailment", "non-entailment", "Non Entailment"], "", [0, 3, 3, 3]),
        ([0, 1], "?labels=entailment,not_entailment", [0, 3]),
    ],
)
def test_labels_mean_what_is_said(tmp_path, labels, option, expected):
    """Names in any case, numbers in any order, two classes or three."""
    data = [{"premise": "a", "hypothesis": "b", "label": label} for label in labels]
    path = write(tmp_path / "pairs.jsonl", data)
    assert load_pairs(path + option).labels.tolist() == expected


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize(
    "labels",
    [
        [0, 1],  # of RTE 0 is entailment, elsewhere 1 is "supported"
        [1, 0, 1],
        [0, 1, 2],  # MultiNLI's order, or that of a classifier
        [1, 2, 3],
        [0.0, 2.0],
        ["0", "1"],
        [" 2", "1.0"],
        ["entailment", "1"],  # names do not say what the number beside them is
        ["neutral", "contradiction", "0"],
        [5, 5],
        [None, "1"],
        ["-", "2"],
    ],
)
def test_numbers_alone_are_asked_about(tmp_path, labels, ending):
    """Sets differ in what 0, 1, 2 are: none is taken for a class before its order is said."""
    data = [{"premise": f"a{row}", "hypothesis": "b", "label": label} for row, label in enumerate(labels)]
    if ending == ".jsonl":
        path = write(tmp_path / "pairs.jsonl", data)
    else:
        path = str(tmp_path / f"pairs{ending}")
        columns = {name: [row[name] for row in data] for name in data[0]}
        {".csv": Dataset.to_csv, ".parquet": Dataset.to_parquet}[ending](Dataset.from_dict(columns), path)
    first = next(row for row, label in enumerate(labels, 1) if str(label).strip()[:1].isdigit())
    with pytest.raises(
        ValueError, match=f"row {first}: .* is a number, .*labels=entailment,neutral,contradiction"
    ):
        load_pairs(path)
    said = "?labels=0:entailment,1:neutral,2:contradiction,3:-,5:contradiction"
    assert len(load_pairs(path + said)) >= 1


def test_a_dataset_of_the_hub_says_what_its_numbers_are(monkeypatch):
    """By the names of its classes, or because it is a known set; of any other it is asked."""
    columns = {"premise": ["a", "c"], "hypothesis": ["b", "d"], "label": [0, 1]}
    from_hub(monkeypatch, columns)
    with pytest.raises(ValueError, match="owner/set, row 1: the label 0 is a number"):
        load_pairs("owner/set")
    assert load_pairs("owner/set?labels=non-entailment,entailment").labels.tolist() == [3, 0]
    assert load_pairs("stanfordnlp/snli:test").labels.tolist() == load_pairs("snli").labels.tolist() == [0, 1]
    assert load_pairs("hans").labels.tolist() == [0, 3]
    from_hub(monkeypatch, columns, label=ClassLabel(names=["contradiction", "entailment"]))
    assert load_pairs("owner/set").labels.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("names", "option", "expected"),
    [
        (["contradiction", "entailment", "neutral"], "", [2, 0, 1]),
        (["REFUTES", "SUPPORTS", "NEI"], "?labels=SUPPORTS:entailment,NEI:neutral,REFUTES:-", [0, 1]),
        (["zero", "one", "two"], "?labels=neutral,entailment,contradiction", [1, 0, 2]),
    ],
)
def test_class_names_are_labels_too(tmp_path, names, option, expected):
    """Those that a Parquet file carries, translated or overruled."""
    columns = {"premise": ["a"] * 3, "hypothesis": ["b"] * 3, "label": [0, 1, 2]}
    dataset = Dataset.from_dict(columns).cast_column("label", ClassLabel(names=names))
    path = str(tmp_path / "pairs.parquet")
    dataset.to_parquet(path)
    assert load_pairs(path + option).labels.tolist() == expected


def test_class_names_that_say_nothing_are_not_guessed_at(monkeypatch):
    """The number of a class is no label where the class has a name."""
    columns = {"premise": ["a"], "hypothesis": ["b"], "label": [1]}
    from_hub(monkeypatch, columns, label=ClassLabel(names=["SUPPORTS", "REFUTES"]))
    with pytest.raises(ValueError, match="owner/set, row 1: the label 'REFUTES' is none of"):
        load_pairs("owner/set")


def test_a_two_way_set_has_a_class_of_its_own(tmp_path):
    """Its second class is neither neutral nor contradiction, and does not mix with them in a file."""
    data = [
        {**row, "label": label} for row, label in zip(rows(2), ["entailment", "non_entailment"], strict=True)
    ]
    path = write(tmp_path / "hans.jsonl", data)
    pairs = load_pairs(path)
    assert pairs.two_way
    assert pairs.labels.tolist() == [0, NOT_ENTAILMENT]
    with pytest.raises(ValueError, match="hans is labelled entailment / non-entailment"):
        require_three_way(pairs)
    require_three_way(load_pairs(write(tmp_path / "pairs.jsonl", rows(5))))
    with pytest.raises(ValueError, match="some labels are two-way"):
        load_pairs(write(tmp_path / "mixed.jsonl", [*data, {**data[0], "label": "neutral"}]))


def test_a_cap_leaves_a_random_part(tmp_path):
    """The same one for the same seed, another one for another, and what is missing is counted."""
    path = write(tmp_path / "pairs.jsonl", rows(50))
    parts = [load_pairs(f"{path}?cap=20", seed=seed) for seed in (1, 1, 2)]
    assert [len(part) for part in parts] == [20] * 3
    assert parts[0].premises == parts[1].premises != parts[2].premises
    assert parts[0].dropped == {"over the cap": 30}
    assert parts[0].weight == 1
    whole = load_pairs(f"{path}?cap=50&weight=3")
    assert (len(whole), whole.dropped, whole.weight) == (50, {}, 3)


@given(st.integers(1, 50), st.floats(0.01, 5), st.integers(0, 5))
def test_a_weight_says_how_often_a_pair_is_seen(count, weight, seed):
    """No row is seen more than once more than another, and all together as often as said."""
    pairs = make_pairs("pairs", ["a"] * count, [0] * count, weight=weight)
    seen = pairs.repeated(seed)
    times = np.bincount(seen, minlength=count)
    assert len(seen) == pytest.approx(weight * count, abs=0.5 + 1e-6)
    assert times.max() - times.min() <= 1
    np.testing.assert_array_equal(seen, pairs.repeated(seed))


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (
            "snli?kap=10",
            "snli.kap=10: there is no option 'kap', only premise, hypothesis, label, labels, cap",
        ),
        ("snli?cap", "snli.cap: `cap`: a number of pairs is needed"),
        ("snli?cap=0", "`cap=0`: a number of pairs is needed"),
        ("snli?cap=1e4", "`cap=1e4`: a number of pairs is needed"),
        ("snli?weight=0", "`weight=0`: a number above 0 is needed"),
        ("snli?weight=nan", "`weight=nan`: a number above 0 is needed"),
        ("snli?weight=inf", "`weight=inf`: a number above 0 is needed"),
        ("snli?weight=twice", "`weight=twice`: a number above 0 is needed"),
        ("snli?label=", "`label=`: it needs a value"),
        ("snli?cap=1&cap=2", "the option 'cap' is given twice"),
        ("snli?name=a/b", "`name=a/b`: a name is made of letters"),
        ("snli?labels=entailment,n:neutral", "give what 0, 1, 2 mean"),
        ("snli?labels=e:,n:neutral", "a label is empty"),
        ("snli?labels=yes,no", "snli.labels=yes,no: `labels=` knows entailment, neutral, contradiction"),
        ("mnli:validation", "the splits of mnli are train, validation_matched, validation_mismatched"),
        ("wanli:tes", "wanli:tes: the splits of wanli are train, test"),
        ("wnali:test", "Short names are snli, mnli"),
        ("none.csv?cap=3", "There is no file 'none.csv'"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(monkeypatch, source, complaint):
    """In a sentence that says what is known."""
    from_hub(monkeypatch, {"premise": ["a"], "hypothesis": ["b"], "label": [0]})
    with pytest.raises(ValueError, match=complaint):
        load_pairs(source)


def test_a_column_that_is_not_there_is_named(tmp_path, monkeypatch):
    """With the columns that are, for a file and for a Hub dataset."""
    path = write(tmp_path / "pairs.jsonl", rows(1))
    with pytest.raises(ValueError, match="no column 'gold', there are 'premise', 'hypothesis', 'label'"):
        load_pairs(f"{path}?label=gold")
    with pytest.raises(ValueError, match="`revision` is for Hub datasets"):
        load_pairs(f"{path}?revision=main")
    from_hub(monkeypatch, {"a": ["a"], "b": ["b"], "label": [0]})
    with pytest.raises(ValueError, match="owner/set: no column 'premise', there are 'a', 'b', 'label'"):
        load_pairs("owner/set")


def test_a_file_with_a_question_mark_in_its_name_is_that_file(tmp_path):
    """What exists under the whole text is not taken apart."""
    path = write(tmp_path / "why?cap=1.jsonl", rows(3))
    assert (len(load_pairs(path)), load_pairs(path).name) == (3, "why?cap=1")


texts = st.text(min_size=1)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "premise": texts,
            "hypothesis": texts,
            "label": texts,
            "cap": st.integers(1, 10**9),
            "weight": st.floats(0.001, 1000),
            "name": st.from_regex(r"[\w.-]+", fullmatch=True),
        },
    )
)
def test_options_are_read_as_they_were_written(options):
    """Whatever the columns are called, in any order, and what is not given keeps its default."""
    written = "&".join(f"{key}={quote(str(value), safe='')}" for key, value in options.items())
    source = parse_source(f"owner/set:dev?{written}")
    assert (source.dataset, source.config, source.split) == ("owner/set", None, "dev")
    defaults = {"premise": "premise", "cap": None, "weight": 1.0, "name": "owner_set_dev"}
    for key, value in {**defaults, **options}.items():
        assert getattr(source, key) == value


@given(
    st.one_of(texts, texts.map("snli?".__add__), texts.map("a/b?cap=".__add__), texts.map("mnli:".__add__))
)
def test_no_text_breaks_the_parser(text):
    """It is a source, or a ValueError says why not."""
    with contextlib.suppress(ValueError):
        assert parse_source(text).text == text


sentences = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda text: not text.isspace()
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(sentences, sentences, st.sampled_from(LABELS)), min_size=1, max_size=8),
    st.sampled_from([".jsonl", ".csv"]),
)
def test_any_text_comes_back_from_a_file(data, suffix):
    """Quotes, commas, line breaks, texts that look like numbers or like nothing: all stay what they are."""
    header = ("premise", "hypothesis", "label")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"pairs{suffix}"
        if suffix == ".csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([header, *data])
        else:
            write(path, [dict(zip(header, row, strict=True)) for row in data])
        pairs = load_pairs(str(path))
    labels = [LABELS[label] for label in pairs.labels]
    assert list(zip(pairs.premises, pairs.hypotheses, labels, strict=True)) == data


def test_what_is_repeated_or_measured_on_is_not_learnt_from():
    """Also across sources, and whatever the case and the spaces of an evaluation pair."""
    first = make_pairs("first", ["a", "b", "a", "c"], [0, 1, 0, 2], dropped={"no label": 2}, weight=2.0)
    second = make_pairs("second", ["b", "a", "d", "A  Test", "a test"], [1, 2, 0, 0, 0])
    measured = make_pairs("measured", ["a test", "D "], [NOT_ENTAILMENT, 0])
    measured.hypotheses = ["A TEST!", "d!"]
    cleaned = clean([first, second], [measured])
    assert [pairs.premises for pairs in cleaned] == [["a", "b", "c"], ["a"]]
    assert [pairs.labels.tolist() for pairs in cleaned] == [[0, 1, 2], [2]]
    assert cleaned[0].dropped == {"no label": 2, "repeated": 1}
    assert cleaned[1].dropped == {"repeated": 1, "in evaluation data": 3}
    assert (cleaned[0].weight, first.dropped) == (2.0, {"no label": 2})
    for source, part in zip((first, second), cleaned, strict=True):
        assert part.origin is source
        assert source.take(part.rows).premises == part.premises


def test_pairs_with_another_label_too_stay_and_are_counted():
    """In each source that has one, and still after a part was taken."""
    first = make_pairs("first", ["a", "b", "c"], [0, 1, 2])
    second = make_pairs("second", ["a", "d", "d"], [2, 0, 1])
    cleaned = clean([first, second], [])
    assert [(len(pairs), pairs.conflicting) for pairs in cleaned] == [(3, 1), (3, 3)]
    assert cleaned[0].take(np.array([1, 2])).conflicting == 0
    assert first.conflicting == 0


def test_a_source_of_which_nothing_is_left_is_refused():
    """Rather than left out without a word."""
    pairs = make_pairs("again", ["a", "b"], [0, 1])
    for arguments in (([pairs, pairs], []), ([pairs], [pairs])):
        with pytest.raises(ValueError, match="again: nothing is left to learn from, all 2 pairs"):
            clean(*arguments)


@given(st.lists(st.tuples(st.sampled_from("abAB "), st.sampled_from("xyXY"), st.integers(0, 2)), max_size=30))
def test_cleaning_leaves_each_pair_once(data):
    """As counted one by one, and nothing is left of what is measured on."""
    data = [("z", "z", 0), *data]
    premises, hypotheses, labels = map(list, zip(*data, strict=True))
    (cleaned,) = clean(
        [Pairs("train", premises, hypotheses, np.array(labels))], [Pairs("eval", ["A"], ["x"], np.array([0]))]
    )
    kept = list(zip(cleaned.premises, cleaned.hypotheses, cleaned.labels, strict=True))
    expected = [row for row in dict.fromkeys(data) if (row[0].lower(), row[1].lower()) != ("a", "x")]
    assert kept == expected
    assert len(kept) + sum(cleaned.dropped.values()) == len(data)
    assert cleaned.conflicting == sum(
        len({row[2] for row in kept if row[:2] == pair[:2]}) > 1 for pair in kept
    )


def test_the_summary_says_what_is_learnt_from_and_fits_a_screen():
    """A row for each source with its shares, and below it what was left out."""
    many = make_pairs("multi_nli_validation_mismatched", ["a", "b"] * 200_000, [0, 1] * 200_000, weight=0.5)
    many.dropped = {
        "no label": 1234,
        "no text": 30,
        "over the cap": 100_000,
        "repeated": 7,
        "in evaluation data": 8,
    }
    many.conflicts = np.arange(len(many)) < 1500
    hans = make_pairs("hans", ["a", "b", "c", "d"], [0, 3, 3, 3])
    lines = summary([many], [hans]).splitlines()
    assert max(map(len, lines)) <= 110
    assert lines[0].split() == ["source", "use", "pairs", *LABELS, "non-entailment", "weight"]
    assert lines[1].split() == [many.name, "train", "400,000", "50.0%", "50.0%", "0.0%", "0.5"]
    assert "1,234 no label, 30 no text, 100,000 over the cap, 7 repeated, 8 in evaluation data" in lines[2]
    assert "1,500 with another label too" in lines[3]
    assert lines[4].split() == ["hans", "eval", "4", "25.0%", "75.0%"]
    ends = [lines[0].index(name) + len(name) for name in (*LABELS, "non-entailment")]
    assert [lines[1][end - 5 : end].strip() for end in ends] == ["50.0%", "50.0%", "0.0%", ""]
    assert [lines[4][end - 5 : end].strip() for end in ends] == ["25.0%", "", "", "75.0%"]
    assert "non-entailment" not in summary([many], [])
