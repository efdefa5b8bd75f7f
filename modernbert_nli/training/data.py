"""Files and Hub datasets to labelled pairs: every row checked, none twice, none of the evaluation data."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, load_dataset

from ..configuration_modernbert_nli import LABELS
from ..prediction.pair_files import READERS
from ..tokenization import PairError, check_pair
from .sources import Source, parse_source

# The second class of two-way sets, neutral or contradiction: no class of the heads, see `label_loss`.
NOT_ENTAILMENT = 3

_NAMES = {
    **{name: number for number, name in enumerate(LABELS)},
    "non-entailment": NOT_ENTAILMENT,
    "not-entailment": NOT_ENTAILMENT,
}
_NO_LABEL = ("-1", "-", "", "none", "null", "nan")  # annotators did not agree, or nobody was asked


@dataclass
class Pairs:
    """Labelled pairs of one source."""

    name: str
    premises: list[str]
    hypotheses: list[str]
    labels: np.ndarray  # 0 entailment, 1 neutral, 2 contradiction; in two-way sets 0 and NOT_ENTAILMENT
    dropped: dict[str, int] = field(default_factory=dict)  # rows left out, by reason
    weight: float = 1.0  # how often a pair is seen in an epoch
    conflicts: np.ndarray | None = None  # mask of the pairs that occur with another label too, from `clean`
    origin: "Pairs | None" = None  # from `clean`: what these are a part of, by `rows`
    rows: np.ndarray | None = None
    groups: list[str] | None = None  # what each is grouped by, if it was asked for: see `load_pairs`

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def two_way(self) -> bool:
        """Whether they say only if the hypothesis is entailed."""
        return bool((self.labels == NOT_ENTAILMENT).any())

    @property
    def conflicting(self) -> int:
        """How many of the pairs occur with another label too, here or in another source."""
        return 0 if self.conflicts is None else int(self.conflicts.sum())

    @property
    def whole(self) -> "Pairs":
        """The pairs of the source before `clean`: what is computed of these serves every part of them."""
        return self.origin or self

    def digest(self) -> bytes:
        """Of all texts, in their order."""
        digest = hashlib.sha256()
        for premise, hypothesis in zip(self.premises, self.hypotheses, strict=True):
            digest.update(f"{len(premise)} {len(hypothesis)} {premise}{hypothesis}".encode())
        return digest.digest()

    def take(self, rows: np.ndarray) -> "Pairs":
        """The given rows, in that order."""
        premises, hypotheses = ([texts[row] for row in rows] for texts in (self.premises, self.hypotheses))
        conflicts = None if self.conflicts is None else self.conflicts[rows]
        labels = self.labels[rows]
        groups = None if self.groups is None else [self.groups[row] for row in rows]
        return Pairs(
            self.name, premises, hypotheses, labels, self.dropped, self.weight, conflicts, groups=groups
        )

    def repeated(self, seed: int) -> np.ndarray:
        """Rows of an epoch, as often as `weight` says: 1.5 is all of them, and a random half again."""
        times, share = divmod(self.weight, 1)
        drawn = np.random.default_rng(seed).permutation(len(self))[: round(share * len(self))]
        return np.concatenate([np.tile(np.arange(len(self)), int(times)), np.sort(drawn)])

    def held_out(self, share: float, seed: int) -> np.ndarray:
        """Mask of a share of the pairs, (n,): those of a random share of the premises.

        A premise has several hypotheses, so pairs drawn one by one would have their premises on both sides.
        """
        draws = (
            hashlib.blake2b(f"{seed} {premise}".encode(), digest_size=8).digest() for premise in self.premises
        )
        return np.array([int.from_bytes(draw, "big") / 2**64 < share for draw in draws])


def load_pairs(source: str, seed: int = 0, group_by: str | None = None) -> Pairs:
    """Read labelled pairs.

    Args:
        source (`str`): A file, a Hub dataset or a known set, with its options: see `parse_source`. Labels
            are names, or numbers where the dataset names its classes, `labels=` says what they mean, or a
            known set has 0, 1, 2 for entailment, neutral, contradiction. -1, - and null (no consensus) are
            dropped and counted, and so are rows of a Hub dataset without text.
        seed (`int`): Of the random part that `cap=` leaves.
        group_by (`str`, *optional*): A column whose values are the `groups` of the pairs.

    Raises:
        ValueError: a column is missing, or a row is no labelled pair; file and row are named.
    """
    read = replace(parse_source(source), group=group_by)
    columns, classes = _read_hub(read) if read.path is None else _read_file(read, read.path)
    pairs = _checked(read, columns, _meanings(read, classes), classes)
    if read.cap is None or len(pairs) <= read.cap:
        return pairs
    (part,) = random_part([pairs], read.cap, seed)
    part.dropped = {**pairs.dropped, "over the cap": len(pairs) - len(part)}
    return part


def require_three_way(pairs: Pairs) -> None:
    """Raise a ValueError for a two-way set, where a label of three is needed."""
    if pairs.two_way:
        raise ValueError(
            f"{pairs.name} is labelled entailment / non-entailment: it does not say which pairs are neutral "
            "and which contradict, which is needed here. Leave it out."
        )


def random_part(sources: list[Pairs], size: int, seed: int) -> list[Pairs]:
    """A random part of all pairs together, source by source."""
    ends = np.cumsum([len(pairs) for pairs in sources])
    keep = np.zeros(ends[-1], bool)
    keep[np.random.default_rng(seed).permutation(ends[-1])[:size]] = True
    parts = zip(sources, np.split(keep, ends[:-1]), strict=True)
    return [pairs.take(np.flatnonzero(mask)) for pairs, mask in parts if mask.any()]


def clean(train: list[Pairs], evaluation: list[Pairs]) -> list[Pairs]:
    """Training pairs without those that come again with the same label, or are in an evaluation set.

    What was left out is counted in `dropped`; what a pair was in its source stays known, so that states kept
    of a source serve whatever is measured on. The first of equal pairs stays, also across sources; case and
    spaces do not tell a pair from one that is measured on. Pairs with different labels all stay: see
    `conflicting`.
    """
    measured = {
        (_plain(premise), _plain(hypothesis))
        for pairs in evaluation
        for premise, hypothesis in zip(pairs.premises, pairs.hypotheses, strict=True)
    }
    hypotheses = {hypothesis for _, hypothesis in measured}
    seen: dict[tuple[str, str], int] = {}  # pair to its labels, a bit for each
    kept = []
    for pairs in train:
        rows, dropped = [], Counter(pairs.dropped)
        texts = zip(pairs.premises, pairs.hypotheses, pairs.labels.tolist(), strict=True)
        for row, (premise, hypothesis, label) in enumerate(texts):
            labels = seen.get((premise, hypothesis), 0)
            if labels & (1 << label):
                dropped["repeated"] += 1
            elif (plain := _plain(hypothesis)) in hypotheses and (_plain(premise), plain) in measured:
                dropped["in evaluation data"] += 1
            else:
                seen[premise, hypothesis] = labels | (1 << label)
                rows.append(row)
        if not rows:
            raise ValueError(
                f"{pairs.name}: nothing is left to learn from, all {len(pairs)} pairs are in the evaluation "
                "data or in the sources before it. Leave it out."
            )
        part = pairs.take(np.array(rows))
        kept.append(replace(part, dropped=dict(dropped), origin=pairs, rows=np.array(rows)))
    for pairs in kept:
        together = zip(pairs.premises, pairs.hypotheses, strict=True)
        pairs.conflicts = np.array([seen[pair].bit_count() > 1 for pair in together])
    return kept


def summary(train: list[Pairs], evaluation: list[Pairs], further: Sequence[Pairs] = ()) -> str:
    """A table of what will be learnt from (`further`: in stage 2 alone) and measured on.

    What was left out stands below each source.
    """
    every = [*train, *further, *evaluation]
    labels = [*LABELS, *(["non-entailment"] if any(pairs.two_way for pairs in every) else [])]
    width = max([len(pairs.name) for pairs in every] + [len("source")])
    lines = [f"{'source':<{width}}  use         pairs  {'  '.join(labels)}  weight"]
    for use, sources in (("train", train), ("stage 2", further), ("eval", evaluation)):
        for pairs in sources:
            counts = np.bincount(pairs.labels, minlength=NOT_ENTAILMENT + 1)
            possible = (0, NOT_ENTAILMENT) if pairs.two_way else range(len(LABELS))
            shares = [f"{counts[i] / len(pairs):.1%}" if i in possible else "" for i in range(len(labels))]
            shown = "  ".join(f"{share:>{len(label)}}" for share, label in zip(shares, labels, strict=True))
            weight = "" if use == "eval" else f"{pairs.weight:>6g}"
            lines.append(f"{pairs.name:<{width}}  {use:<7} {len(pairs):>9,}  {shown}  {weight}".rstrip())
            notes = [f"{count:,} {reason}" for reason, count in pairs.dropped.items()]
            if notes:
                lines.append("    dropped: " + ", ".join(notes))
            if pairs.conflicting:
                lines.append(f"    kept: {pairs.conflicting:,} with another label too")
    return "\n".join(lines)


def _read_file(source: Source, path: Path) -> tuple[dict[str, list[Any]], list[str] | None]:
    """The columns of a file, by name, and the names of its classes, which only Parquet can have."""
    if path.suffix.lower() == ".parquet":
        return _columns(load_dataset("parquet", data_files=str(path), split="train"), source)
    wanted: dict[str, list[Any]] = {name: [] for name in source.columns}
    there: dict[str, None] = {}
    for number, (values, problem) in enumerate(READERS[path.suffix.lower()](path, "raw", None), start=1):
        if problem:
            raise ValueError(f"{path}, row {number}: {problem}")
        there.update(dict.fromkeys(values))
        for name, column in wanted.items():
            column.append(values.get(name))
    if there:
        _require_columns(source, there)
    return wanted, None


def _read_hub(source: Source) -> tuple[dict[str, list[Any]], list[str] | None]:
    revision = {} if source.revision is None else {"revision": source.revision}
    return _columns(load_dataset(source.dataset, source.config, split=source.split, **revision), source)


def _columns(rows: Dataset, source: Source) -> tuple[dict[str, list[Any]], list[str] | None]:
    _require_columns(source, rows.column_names)
    feature = rows.features[source.label]
    columns = rows.select_columns(list(dict.fromkeys(source.columns)))[:]
    return columns, feature.names if isinstance(feature, ClassLabel) else None


def _require_columns(source: Source, there: Iterable[str]) -> None:
    for role in ("premise", "hypothesis", "label"):
        if (column := getattr(source, role)) not in there:
            raise ValueError(
                f"{source.text}: no column {column!r}, there are {', '.join(map(repr, there))}. Say which is "
                f"the {role} by the option `{role}=`, as in `pairs.csv?{role}=...`."
            )
    if source.group is not None and source.group not in there:
        raise ValueError(
            f"{source.text}: no column {source.group!r} to group by, there are {', '.join(map(repr, there))}."
        )


def _checked(
    source: Source, columns: dict[str, list[Any]], meanings: dict[str, int | None], classes: list[str] | None
) -> Pairs:
    """Rows to pairs. What is no text raises in a file, which can be mended; in a Hub dataset it drops."""
    premises, hypotheses, labels, groups = [], [], [], []
    dropped: Counter[str] = Counter()
    rows = zip(*(columns[name] for name in source.columns), strict=True)
    for number, (premise, hypothesis, label, *group) in enumerate(rows, start=1):
        key = _key(label)
        if key not in meanings:
            known = ", ".join(name for name, meaning in meanings.items() if meaning is not None)
            if classes and isinstance(label, int) and 0 <= label < len(classes):
                label = classes[label]
            if not (classes or source.labels) and re.fullmatch("-?[0-9]+", key):
                raise ValueError(
                    f"{source.text}, row {number}: the label {label!r} is a number, and sets differ in what "
                    "these mean. Say it by the option `labels=`: what 0, 1, 2 are, as in "
                    f"`pairs.csv?labels={','.join(LABELS)}`, or what each is, as in "
                    "`pairs.csv?labels=1:entailment,0:non-entailment`; or name by `label=` a column of words."
                )
            raise ValueError(
                f"{source.text}, row {number}: the label {label!r} is none of {known}. Say what it means by "
                "the option `labels=`, as in `pairs.csv?labels=yes:entailment,no:contradiction`."
            )
        meaning = meanings[key]
        if meaning is None:
            dropped["no label"] += 1
            continue
        try:
            check_pair(premise, hypothesis)
        except PairError as error:
            if source.path is None:
                dropped["no text"] += 1
                continue
            raise ValueError(f"{source.text}, row {number}: {error.reason}") from None
        premises.append(premise)
        hypotheses.append(hypothesis)
        labels.append(meaning)
        groups += [f"no {source.group}" if value in (None, "") else str(value) for value in group]
    if not labels:
        raise ValueError(f"{source.text}: no labelled pair in {len(columns[source.label])} rows.")
    if NOT_ENTAILMENT in labels and not {0, NOT_ENTAILMENT}.issuperset(labels):
        raise ValueError(f"{source.text}: some labels are two-way (non-entailment), some are three-way.")
    pairs = Pairs(source.name, premises, hypotheses, np.array(labels), dict(dropped), source.weight)
    pairs.groups = None if source.group is None else groups
    return pairs


def _meanings(source: Source, classes: list[str] | None) -> dict[str, int | None]:
    """What each label means, by its `_key`; None is no label."""
    meanings: dict[str, int | None] = {**_NAMES, **dict.fromkeys(_NO_LABEL)}

    def meaning(name: str) -> int | None:
        if (key := _key(name)) not in meanings:
            raise ValueError(
                f"{source.text}: `labels=` knows {', '.join(LABELS)}, non-entailment and -, not {name!r}."
            )
        return meanings[key]

    if isinstance(source.labels, tuple):
        return meanings | {str(number): meaning(name) for number, name in enumerate(source.labels)}
    if source.labels:
        meanings.update([(_key(label), meaning(name)) for label, name in source.labels.items()])
    elif not classes and source.numbered:
        return meanings | {str(number): number for number in range(len(LABELS))}
    for number, name in enumerate(classes or ()):
        if (key := _key(name)) in meanings:
            meanings.setdefault(str(number), meanings[key])
    return meanings


def _key(label: Any) -> str:
    """A label however it was written: `Not_Entailment`, or `1.0` where a column of numbers has a gap."""
    return re.sub("[_ ]", "-", _plain(str(label)).removesuffix(".0"))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
