"""What callers have their texts, pairs and labels in: read as what they hold, or refused in a sentence."""

import io
import json
from collections import OrderedDict, UserList
from pathlib import Path, PurePosixPath

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from conftest import PAIRS, make_model
from hypothesis import given
from hypothesis import strategies as st

from modernbert_nli.adapting import classes_of
from modernbert_nli.passages import named
from modernbert_nli.tokenization import PairError, items_of, plain

LABEL2ID = {"entailment": 0, "neutral": 1, "contradiction": 2}
TEXTS = [premise for premise, _ in PAIRS]
ROWS = [{"premise": premise, "hypothesis": hypothesis} for premise, hypothesis in PAIRS]
ANSWER = "A man is eating food."
CATEGORIES = {"food": "this is about food", "dogs": "this is about dogs"}


class MapStyle:
    """As a dataset of torch: a length, and items by number."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


# Each holds the items that it is made of, in their order.
HOLDERS = {
    "list": list,
    "tuple": tuple,
    "generator": lambda items: (item for item in items),
    "iterator": iter,
    "UserList": UserList,
    "keys": lambda items: dict.fromkeys(items).keys(),
    "values": lambda items: dict(enumerate(items)).values(),
    "map": lambda items: map(str, items),
    "map-style": MapStyle,
    "array": np.array,
    "array of objects": lambda items: np.array(items, dtype=object),
    "Series": pd.Series,
    "Series with names": lambda items: pd.Series(items, index=[f"row {row}" for row in range(len(items))]),
    "Series of strings": lambda items: pd.Series(items, dtype="string"),
    "Index": pd.Index,
    "Categorical": pd.Categorical,
    "column of a frame": lambda items: pd.DataFrame({"text": items})["text"],
    "pyarrow array": pa.array,
    "pyarrow chunks": lambda items: pa.chunked_array([items[:1], items[1:]]),
    "column of a table": lambda items: pa.table({"text": items})["text"],
    "column of a data set": lambda items: datasets.Dataset.from_dict({"text": items})["text"],
}
TABLES = {
    "frame": pd.DataFrame,
    "frame with an index": lambda rows: pd.DataFrame(rows, index=range(5, 5 + len(rows))),
    "pyarrow table": pa.Table.from_pylist,
    "pyarrow batch": lambda rows: pa.RecordBatch.from_pylist(rows),
    "data set": datasets.Dataset.from_list,
    "streamed data set": lambda rows: datasets.Dataset.from_list(rows).to_iterable_dataset(),
    "list": list,
    "map-style": MapStyle,
}
ALONE = {
    "file": lambda: io.StringIO("one\ntwo\n"),
    "binary file": lambda: io.BytesIO(b"one\ntwo\n"),
    "bytes": lambda: b"one",
    "path": lambda: Path("one.txt"),
    "number": lambda: 3,
    "none": lambda: None,
    "set": lambda: {"one", "two"},
    "array without a dimension": lambda: np.array("one"),
    "tensor without a dimension": lambda: torch.tensor(1),
}


@pytest.fixture(scope="module")
def nli(tiny_modernbert):
    return make_model(tiny_modernbert, "separate").as_pipeline(device="cpu")


@pytest.mark.parametrize("holder", HOLDERS)
def test_texts_in_any_container(nli, holder):
    """Routed, checked against and encoded as a list of them is."""
    held = HOLDERS[holder]
    assert nli.route(held(TEXTS), CATEGORIES) == nli.route(TEXTS, CATEGORIES)
    assert nli.check(ANSWER, held(TEXTS)) == nli.check(ANSWER, TEXTS)
    assert nli.validate_fact(held(TEXTS), ANSWER) == nli.validate_fact(TEXTS, ANSWER)
    assert torch.equal(nli.model.encode(held(TEXTS)).states, nli.model.encode(TEXTS).states)
    assert len(nli.read(held(TEXTS))) == len(TEXTS)
    assert nli.route(TEXTS[0], held(["food", "dogs"])) == nli.route(TEXTS[0], ["food", "dogs"])
    shown = {"food": held(["a man eats", "bread"])}
    expected = {"food": ["a man eats", "bread"]}
    nli.model.config.routing = {"separate": {**ENTRY}}
    assert nli.route(TEXTS, CATEGORIES, examples=shown) == nli.route(TEXTS, CATEGORIES, examples=expected)
    nli.model.config.routing = None


ENTRY = {
    "similarity": 13.0,
    "entailment": 0.1,
    "contrast": 0.4,
    "offset": -1.0,
    "slope": 0.25,
    "threshold": 0.8,
}


@pytest.mark.parametrize("table", TABLES)
def test_pairs_in_tables(nli, table):
    """By the names of their columns, whatever other columns there are and in whatever order."""
    rows = [
        {"id": row, "hypothesis": one["hypothesis"], "premise": one["premise"]}
        for row, one in enumerate(ROWS)
    ]
    assert list(nli(TABLES[table](rows))) == nli(PAIRS)
    named_otherwise = [{"text": premise, "text_pair": hypothesis} for premise, hypothesis in PAIRS]
    assert list(nli(TABLES[table](named_otherwise))) == nli(PAIRS)
    with pytest.raises(PairError, match=r"needs the keys 'premise' and 'hypothesis', got \['a', 'b'\]"):
        list(nli(TABLES[table]([{"a": "x", "b": "y"}])))


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_no_column_of_texts(nli, table):
    """It is said to give one: the names of its columns are never taken for texts."""
    rows = [{"text": text} for text in TEXTS]
    for call in (
        lambda: nli.route(TABLES[table](rows), CATEGORIES),
        lambda: nli.check(ANSWER, TABLES[table](rows)),
        lambda: nli.validate_fact(TABLES[table](rows), ANSWER),
        lambda: nli.read(TABLES[table](rows)),
        lambda: nli.model.encode(TABLES[table](rows)),
    ):
        with pytest.raises(
            PairError, match=r"must be a string, got dict: .* Give the column that holds the texts"
        ):
            call()
    with pytest.raises(ValueError, match="name of a category is a string"):
        nli.route(TEXTS, TABLES[table](rows))


@pytest.mark.parametrize(
    "arrays", [np.array, lambda pairs: np.array(pairs, dtype=object), pd.Series, UserList]
)
def test_pairs_in_arrays(nli, arrays):
    """Rows of two, and pairs in a column."""
    assert list(nli(arrays(PAIRS))) == nli(PAIRS)


@pytest.mark.parametrize("thing", ALONE)
def test_what_holds_no_texts_is_refused(nli, thing):
    """In a sentence that says what to give."""
    make = ALONE[thing]
    for call in (
        lambda: list(nli(make())),
        lambda: nli.route(make(), CATEGORIES),
        lambda: nli.check(ANSWER, make()),
        lambda: nli.validate_fact(make(), ANSWER),
        lambda: nli.read(make()),
        lambda: nli.model.encode(make()),
        lambda: nli.adapt(make(), ["neutral"] * 30),
        lambda: nli.adapt([*PAIRS] * 10, make()),
        lambda: nli.adapt_routes(make(), ["food"] * 30, CATEGORIES),
        lambda: nli.adapt_routes([*TEXTS] * 10, make(), CATEGORIES),
    ):
        with pytest.raises(ValueError, match=r"Give |alone cannot be judged") as failed:
            call()
        assert "file" not in thing or "not an open file: read it first" in str(failed.value)
    with pytest.raises(ValueError, match=r"`categories`"):
        nli.route(TEXTS, make())


def test_a_mapping_is_no_list_of_texts_or_labels(nli):
    """But sources by their names."""
    by_name = dict(enumerate(TEXTS))
    for call in (
        lambda: nli.route(by_name, CATEGORIES),
        lambda: nli.model.encode(by_name),
        lambda: nli.adapt([*PAIRS] * 10, dict.fromkeys(range(30), "neutral")),
        lambda: nli.adapt_routes(dict.fromkeys(range(30), "text"), ["food"] * 30, CATEGORIES),
    ):
        with pytest.raises(ValueError, match="not dict"):
            call()


# Labels -----------------------------------------------------------------------------------------------------

SCALARS = {
    "python": lambda value: value,
    "numpy": lambda value: np.array([value])[0],
    "array without a dimension": np.array,
    "torch": torch.tensor,
    "pyarrow": pa.scalar,
}
LABELS = {
    "list": list,
    "array": np.array,
    "tensor": torch.tensor,
    "Series": pd.Series,
    "Series with gaps": lambda values: pd.Series(
        values, dtype="boolean" if isinstance(values[0], bool) else "Int64"
    ),
    "pyarrow": pa.array,
    "column": lambda values: datasets.Dataset.from_dict({"label": values})["label"],
    "generator": lambda values: (value for value in values),
}


@given(st.lists(st.booleans() | st.integers(0, 2), min_size=1, max_size=8), st.sampled_from(sorted(SCALARS)))
def test_scalars_of_any_library_are_labels(values, library):
    """Booleans say whether it is entailed, numbers which label it is: never the one for the other."""
    expected = [{True: 0, False: 3}[value] if isinstance(value, bool) else value for value in values]
    assert classes_of([SCALARS[library](value) for value in values], LABEL2ID).tolist() == expected


@given(
    st.lists(st.booleans(), min_size=1, max_size=8) | st.lists(st.integers(0, 2), min_size=1, max_size=8),
    st.sampled_from(sorted(LABELS)),
)
def test_labels_in_any_container(values, container):
    """As in a list."""
    expected = classes_of(values, LABEL2ID).tolist()
    assert classes_of(list(items_of(LABELS[container](values), "labels")), LABEL2ID).tolist() == expected


@pytest.mark.parametrize(
    "names", [np.array, pd.Series, pa.array, lambda names: pd.Series(names, dtype="category")]
)
def test_names_in_any_container(names):
    labels = ["entailment", "Contradiction", "not_entailment", "neutral"]
    assert classes_of(list(items_of(names(labels), "labels")), LABEL2ID).tolist() == [0, 2, 3, 1]


@pytest.mark.parametrize(
    "label",
    [
        *(
            None,
            float("nan"),
            pd.NA,
            pd.NaT,
            np.nan,
            3,
            -1,
            0.5,
            1j,
            "yes",
            "",
            "True",
            [0],
            (1,),
            {"label": 1},
        ),
        *(
            np.int64(3),
            np.float64(0.5),
            np.array([1]),
            torch.tensor([1, 0]),
            torch.tensor(7),
            pa.scalar(None, pa.int8()),
        ),
        *(b"neutral", np.datetime64("2020-01-01")),
    ],
)
def test_what_is_no_label_is_refused(label):
    """Its position is named."""
    with pytest.raises(ValueError, match=r"label 1: .* is none of entailment, neutral, contradiction"):
        classes_of(["neutral", label], LABEL2ID)


# Names in results -------------------------------------------------------------------------------------------


class Paper(str):
    pass


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("handbook", "handbook"),
        (7, 7),
        (True, True),
        (2.5, 2.5),
        (np.int64(7), 7),
        (np.float32(2.5), 2.5),
        (np.str_("handbook"), "handbook"),
        (np.bool_(True), True),
        (torch.tensor(7), 7),
        ((1, "b"), "(1, 'b')"),
        (PurePosixPath("a/b.pdf"), "a/b.pdf"),
        (None, "None"),
        (float("nan"), "nan"),
        (pd.Timestamp("2020-01-02"), "2020-01-02 00:00:00"),
        (Paper("p"), "p"),
        (b"raw", "b'raw'"),
        (frozenset(), "frozenset()"),
    ],
)
def test_results_are_json_whatever_sources_are_called(nli, name, shown):
    """A number stays a number, a string a string; else it is what the name prints as."""
    other = "nobody is outside"
    result = nli.check(ANSWER, OrderedDict({name: TEXTS[0], "other": other}))
    read = json.loads(json.dumps(result, allow_nan=False))
    assert read == result
    assert [source["source"] for source in read["sources"]] == [shown, "other"]
    assert {one["source"] for one in read["evidence"]} <= {shown, "other"}
    kept = nli.read({name: TEXTS[0], "other": other})
    assert json.loads(json.dumps(nli.check(ANSWER, kept)))["sources"] == read["sources"]


@pytest.mark.parametrize("name", [7, 2.5, np.int64(7), np.str_("food"), "food"])
def test_names_of_categories_are_json(nli, name):
    """Strings or numbers; nothing else is one."""
    result = nli.route(TEXTS[0], {name: "this is about food", "b": "this is about dogs"}, threshold=1.0)
    assert json.loads(json.dumps(result))["ranking"] == [list(pair) for pair in result["ranking"]]
    for wrong in ((1, 2), None, PurePosixPath("a"), b"a"):
        with pytest.raises(ValueError, match="The name of a category is a string or a number"):
            nli.route(TEXTS[0], {wrong: "this is about food"})


@given(st.lists(st.text(max_size=4), max_size=5))
def test_items_come_as_they_are(texts):
    """Of whatever holds them: none is lost, doubled or turned into something else."""
    for held in (list, tuple, iter, MapStyle, pd.Series, lambda items: pa.array(items, pa.string())):
        assert list(items_of(held(texts), "texts")) == texts
    assert list(named(MapStyle(texts))) == list(enumerate(texts))
    assert [plain(np.array(text)) for text in texts] == [text.rstrip("\0") for text in texts]
