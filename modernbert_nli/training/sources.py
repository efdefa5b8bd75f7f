"""A source of pairs as one string: which file or Hub dataset it is, and how its rows are read.

    pairs.csv?premise=sentence1&hypothesis=sentence2&label=gold_label&cap=10000
    nyu-mll/multi_nli:validation_matched
    wanli:test?name=hard

On a command line a source with options needs quotes: `?` and `&` mean something to a shell.
"""

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

FILES = (".jsonl", ".json", ".csv", ".parquet")
_OTHER_FILES = (".tsv", ".txt", ".gz", ".zip", ".zst", ".xlsx", ".arrow")
_HUB_DATASET = re.compile(r"[\w.-]+(/[\w.-]+){1,2}(:\S+)?")


class KnownSet(NamedTuple):
    """What a short name stands for."""

    source: str  # without the split
    splits: tuple[str, ...]  # the first one is read unless another is asked for
    measured: str  # the one to measure on


KNOWN_SETS = {
    "snli": KnownSet("stanfordnlp/snli", ("train", "validation", "test"), "test"),
    "mnli": KnownSet(
        "nyu-mll/multi_nli", ("train", "validation_matched", "validation_mismatched"), "validation_matched"
    ),
    "mnli_matched": KnownSet("nyu-mll/multi_nli", ("validation_matched",), "validation_matched"),
    "mnli_mismatched": KnownSet("nyu-mll/multi_nli", ("validation_mismatched",), "validation_mismatched"),
    "anli_r1": KnownSet("facebook/anli", ("train_r1", "dev_r1", "test_r1"), "test_r1"),
    "anli_r2": KnownSet("facebook/anli", ("train_r2", "dev_r2", "test_r2"), "test_r2"),
    "anli_r3": KnownSet("facebook/anli", ("train_r3", "dev_r3", "test_r3"), "test_r3"),
    "wanli": KnownSet("alisawuffles/WANLI?label=gold", ("train", "test"), "test"),
    "lingnli": KnownSet("tasksource/lingnli", ("train", "validation"), "validation"),
    # Its card renames the claim to premise and the evidence to hypothesis; the test split has no labels.
    "fever_nli": KnownSet(
        "pietrolesci/nli_fever?premise=hypothesis&hypothesis=premise", ("train", "dev"), "dev"
    ),
    # Its columns were not looked at here: where they differ, the message names them, and options choose.
    "finecat": KnownSet("dleemiller/FineCat-NLI", ("train", "validation", "test"), "test"),
    # Two-way. The main branch is a script, which datasets 4 does not run.
    "hans": KnownSet(
        "jhu-cogsci/hans?revision=refs/convert/parquet&labels=entailment,non-entailment",
        ("validation", "train"),
        "validation",
    ),
}


@dataclass(frozen=True)
class Source:
    """A file or a split of a Hub dataset, and how it is read."""

    text: str  # as it was given, for messages
    name: str  # under which results are kept
    path: Path | None = None  # of a file; a Hub dataset has what follows instead
    dataset: str = ""
    config: str | None = None
    split: str = ""
    revision: str | None = None
    premise: str = "premise"
    hypothesis: str = "hypothesis"
    label: str = "label"
    labels: tuple[str, ...] | dict[str, str] | None = None  # what 0, 1, 2 mean, or what each label means
    cap: int | None = None
    weight: float = 1.0
    part: "Source | None" = None  # of which Hub dataset a file is a part
    group: str | None = None  # a further column, by which the pairs are told apart

    @property
    def numbered(self) -> bool:
        """Whether 0, 1, 2 are known to be entailment, neutral, contradiction: sets differ."""
        return self.dataset in {known.source.partition("?")[0] for known in KNOWN_SETS.values()}

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read of a row: premise, hypothesis, label, and the group where there is one."""
        further = () if self.group is None else (self.group,)
        return (self.premise, self.hypothesis, self.label, *further)

    @property
    def hub(self) -> dict[str, str | None] | None:
        """Where on the Hub it is, or what it is a part of; None for any other file."""
        if self.path is not None:
            whole = self.part.hub if self.part else None
            return whole and {**whole, "name": f"{self.name}, a part of this split"}
        place = {"id": self.dataset, "config": self.config, "split": self.split, "revision": self.revision}
        return {"name": self.name, **place}


def parse_source(text: str) -> Source:
    """Read a source.

    Args:
        text (`str`): A JSONL, CSV or Parquet file; a Hub dataset as `id`, `id:split` or `id/config:split`;
            or a short name of `KNOWN_SETS`, with `:split` or without. After a `?`, options joined by `&`:

            - `premise`, `hypothesis`, `label`: the names of the columns;
            - `labels`: what 0, 1, 2 mean (`contradiction,neutral,entailment`), or what each label means
              (`e:entailment,n:neutral,c:contradiction`), where `-` stands for rows to leave out. Needed for
              numbers, unless the dataset names its classes or is one of `KNOWN_SETS`;
            - `cap`: the largest number of pairs, a random part;
            - `weight`: how often a pair is seen in an epoch; 0.5 is a random half of them;
            - `name`: under which name results are kept;
            - `revision`: a commit or branch of a Hub dataset;
            - `part`: for a file, the Hub dataset that it was taken from (`stanfordnlp/snli:test`), which
              results then name.

            A file that exists under the whole text is that file.

    Raises:
        ValueError: there is no such file or set, or an option is not known or not understood.
    """
    where, query = (text, "") if os.path.isfile(text) else text.partition("?")[::2]
    suffix = Path(where).suffix.lower()
    options = _options(query, text)
    if suffix in FILES:
        if not os.path.isfile(where):
            raise ValueError(f"There is no file {where!r}.")
        if "revision" in options:
            raise ValueError(f"{text}: `revision` is for Hub datasets, a file has none.")
        return Source(text, path=Path(where), **{"name": Path(where).stem, **options})

    if "part" in options:
        raise ValueError(f"{text}: `part` is for files: what they were taken from.")
    named = {"name": re.sub("[/:]", "_", where)}
    short, _, split = where.partition(":")
    if short in KNOWN_SETS:
        known, _, defaults = KNOWN_SETS[short].source.partition("?")
        where = f"{known}:{_split_of(short, split)}"
        options = {**_options(defaults, text), **options}
    elif os.path.exists(where) or suffix in _OTHER_FILES or not _HUB_DATASET.fullmatch(where):
        raise ValueError(
            f"{where!r} is no .jsonl, .csv or .parquet file, and no Hub dataset's id (owner/name). Short "
            f"names are {', '.join(KNOWN_SETS)}."
        )
    identifier, _, split = where.partition(":")
    owner, name, *config = identifier.split("/")
    return Source(
        text,
        dataset=f"{owner}/{name}",
        config=config[0] if config else None,
        split=split or "train",
        **{**named, **options},
    )


def to_measure_on(text: str) -> str:
    """A source for `parse_source`: of a known set without a split, the one to measure on, under its name."""
    where, mark, query = text.partition("?")
    if where not in KNOWN_SETS or os.path.isfile(text):
        return text
    named = "" if re.search("(^|&)name=", query) else f"&name={where}" if mark else f"?name={where}"
    return f"{where}:{KNOWN_SETS[where].measured}{mark}{query}{named}"


def _split_of(short: str, asked: str) -> str:
    """A split of a known set; `dev` is enough for `dev_r1`, and a slice such as `train[:1000]` stays."""
    splits = KNOWN_SETS[short].splits
    wanted, bracket, rest = asked.partition("[")
    if not wanted:
        return splits[0] + bracket + rest
    if wanted in splits:
        return asked
    meant = [split for split in splits if split.startswith(f"{wanted}_")]
    if len(meant) != 1:
        raise ValueError(f"{short}:{asked}: the splits of {short} are {', '.join(splits)}.")
    return meant[0] + bracket + rest


def _options(query: str, text: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for part in query.split("&") if query else ():
        key, _, value = part.partition("=")
        if key not in _READ:
            raise ValueError(f"{text}: there is no option {key!r}, only {', '.join(_READ)}.")
        if key in options:
            raise ValueError(f"{text}: the option {key!r} is given twice.")
        try:
            options[key] = _READ[key](unquote(value))  # so that %26 is an & in a column's name
        except ValueError as error:
            raise ValueError(f"{text}: `{part}`: {error}") from None
    return options


def _column(value: str) -> str:
    if not value:
        raise ValueError("it needs a value.")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[\w.-]+", value):
        raise ValueError("a name is made of letters, digits, `_`, `-` and dots; files are named by it.")
    return value


def _part(value: str) -> Source:
    source = parse_source(value)
    if source.path is not None:
        raise ValueError("a Hub dataset is needed, such as stanfordnlp/snli:test.")
    return source


def _cap(value: str) -> int:
    if not re.fullmatch("[0-9_]*[1-9][0-9_]*", value):
        raise ValueError("a number of pairs is needed, such as 10000.")
    return int(value.replace("_", ""))


def _weight(value: str) -> float:
    try:
        weight = float(value)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise ValueError("a number above 0 is needed, such as 0.5 or 2.")
    return weight


def _labels(value: str) -> tuple[str, ...] | dict[str, str]:
    parts = value.split(",")
    if not all(part.rpartition(":")[2].strip() for part in parts):
        raise ValueError("a label is empty.")
    if not any(":" in part for part in parts):
        return tuple(parts)
    if not all(":" in part for part in parts):
        raise ValueError("give what 0, 1, 2 mean, as in `a,b,c`, or what each label means, as in `x:a,y:b`.")
    return {label: meaning for label, _, meaning in (part.rpartition(":") for part in parts)}


_READ: dict[str, Callable[[str], Any]] = {
    "premise": _column,
    "hypothesis": _column,
    "label": _column,
    "labels": _labels,
    "cap": _cap,
    "weight": _weight,
    "name": _name,
    "revision": _column,
    "part": _part,
}
