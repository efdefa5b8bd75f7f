"""Files and Hub datasets to labelled pairs, every row checked."""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, load_dataset

from configuration_modernbert_nli import LABELS
from tokenization_modernbert_nli import PairError, check_pair

_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
_OTHER_FILES = (".tsv", ".txt", ".gz", ".zip", ".zst", ".xlsx", ".arrow")
_HUB_DATASET = re.compile(r"[\w.-]+(/[\w.-]+){0,2}(:\S+)?")
_COLUMNS = ("premise", "hypothesis", "label")


@dataclass
class Pairs:
    """Labelled pairs of one source."""

    name: str
    premises: list[str]
    hypotheses: list[str]
    labels: np.ndarray  # 0 entailment, 1 neutral, 2 contradiction
    dropped: dict[str, int] = field(default_factory=dict)  # rows left out, by reason

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> "Pairs":
        """The given rows, in that order."""
        premises, hypotheses = ([texts[row] for row in rows] for texts in (self.premises, self.hypotheses))
        return Pairs(self.name, premises, hypotheses, self.labels[rows], self.dropped)

    def held_out(self, share: float, seed: int) -> np.ndarray:
        """Mask of a share of the pairs, (n,): those of a random share of the premises.

        A premise has several hypotheses, so pairs drawn one by one would have their premises on both sides.
        """
        draws = (
            hashlib.blake2b(f"{seed} {premise}".encode(), digest_size=8).digest() for premise in self.premises
        )
        return np.array([int.from_bytes(draw, "big") / 2**64 < share for draw in draws])


def load_pairs(source: str) -> Pairs:
    """Read labelled pairs.

    Args:
        source (`str`): A JSONL, CSV or Parquet file with the columns premise, hypothesis and label; or a Hub
            dataset as `id`, `id:split` or `id/config:split`, such as `stanfordnlp/snli:train`. Labels are
            names, or 0, 1, 2 for entailment, neutral, contradiction unless the dataset names its classes. -1
            and null (no consensus) are dropped and counted, and so are rows of a Hub dataset without text.

    Raises:
        ValueError: a column is missing, or a row is no labelled pair; file and row are named.
    """
    path, kind = Path(source), _BUILDERS.get(Path(source).suffix.lower())
    if kind is None:
        if path.exists() or path.suffix.lower() in _OTHER_FILES or not _HUB_DATASET.fullmatch(source):
            raise ValueError(f"{source!r} is no .jsonl, .csv or .parquet file, and no Hub dataset's id.")
        rows, name = _read_hub(source), source.replace("/", "_").replace(":", "_")
    elif not path.is_file():
        raise ValueError(f"There is no file {source!r}.")
    else:
        rows = _read_jsonl(path) if kind == "json" else _read_table(path, kind)
        name = path.stem
    missing = [column for column in _COLUMNS if column not in rows.column_names]
    if missing:
        raise ValueError(
            f"{source}: no column {missing[0]!r}, there are {rows.column_names}. Rename them to {_COLUMNS}."
        )
    return _checked(rows, source, name, strict=kind is not None)


def random_part(sources: list[Pairs], size: int, seed: int) -> list[Pairs]:
    """A random part of all pairs together, source by source."""
    ends = np.cumsum([len(pairs) for pairs in sources])
    keep = np.zeros(ends[-1], bool)
    keep[np.random.default_rng(seed).permutation(ends[-1])[:size]] = True
    parts = zip(sources, np.split(keep, ends[:-1]), strict=True)
    return [pairs.take(np.flatnonzero(mask)) for pairs, mask in parts if mask.any()]


def summary(train: list[Pairs], evaluation: list[Pairs]) -> str:
    """A table of what will be learnt from and measured on."""
    lines = [
        f"{'source':<32} {'use':<6} {'pairs':>9} "
        + " ".join(f"{label:>14}" for label in LABELS)
        + "  dropped"
    ]
    for use, sources in (("train", train), ("eval", evaluation)):
        for pairs in sources:
            shares = np.bincount(pairs.labels, minlength=len(LABELS)) / len(pairs)
            dropped = ", ".join(f"{count} {reason}" for reason, count in pairs.dropped.items())
            shown = " ".join(f"{share:>14.1%}" for share in shares)
            lines.append(f"{pairs.name:<32} {use:<6} {len(pairs):>9,} {shown}  {dropped}".rstrip())
    return "\n".join(lines)


def _read_jsonl(path: Path) -> Dataset:
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))  # some editors begin a file with a mark
            except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
                raise ValueError(f"{path}, row {number}: not a JSON object in UTF-8 ({error}).") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}, row {number}: not a JSON object but {type(row).__name__}.")
            rows.append({column: row[column] for column in _COLUMNS if column in row})
    try:
        return Dataset.from_list(rows)
    except Exception as error:  # pyarrow has many kinds, all of them about a column of mixed types
        raise ValueError(f"{path}: a column holds values of different types ({error}).") from None


def _read_table(path: Path, kind: str) -> Dataset:
    return load_dataset(kind, data_files=str(path), split="train")


def _read_hub(source: str) -> Dataset:
    identifier, _, split = source.partition(":")
    parts = identifier.split("/")
    config = parts[2] if len(parts) == 3 else None
    return load_dataset("/".join(parts[:2]), config, split=split or "train")


def _checked(rows: Dataset, source: str, name: str, strict: bool) -> Pairs:
    """Rows to pairs. What is no text raises in a file, which can be mended; in a Hub dataset it drops."""
    feature = rows.features["label"]
    names = feature.names if isinstance(feature, ClassLabel) else LABELS
    premises, hypotheses, labels = [], [], []
    dropped: Counter[str] = Counter()
    for number, row in enumerate(rows, start=1):
        label = row["label"]
        if isinstance(label, float):  # as a CSV column of numbers is read where a cell is empty
            label = int(label) if label.is_integer() else None
        if label is None or label in (-1, "-", "-1"):
            dropped["no label"] += 1
            continue
        try:
            check_pair(row["premise"], row["hypothesis"])
            labels.append(_label_id(label, names))
        except PairError as error:
            if not strict:
                dropped["no text"] += 1
                continue
            raise ValueError(f"{source}, row {number}: {error.reason}") from None
        except ValueError as error:
            raise ValueError(f"{source}, row {number}: {error}") from None
        premises.append(row["premise"])
        hypotheses.append(row["hypothesis"])
    if not labels:
        raise ValueError(f"{source}: no labelled pair in {len(rows)} rows.")
    return Pairs(name, premises, hypotheses, np.array(labels), dict(dropped))


def _label_id(label: Any, names: Any) -> int:
    if isinstance(label, int) and 0 <= label < len(names):
        label = names[label]
    if label not in LABELS:
        raise ValueError(f"the label {label!r} is none of {', '.join(LABELS)}, 0, 1 or 2.")
    return LABELS.index(label)
