"""Labelled pairs as encoder states: from mapped files, or recomputed for every batch where none are kept."""

import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from ..heads import HYPOTHESIS, PREMISE

Sides = tuple[np.ndarray, np.ndarray]  # states of premise and hypothesis, (tokens, layers, hidden_size) each


class EncodedPairs(Protocol):
    """One encoding of pairs."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each pair, (pairs,)."""

    def fetch(self, indices: Sequence[int] | np.ndarray) -> list[Sides]:
        """The states of some pairs."""

    def take(self, which: np.ndarray) -> "EncodedPairs":
        """A part, by a mask or by positions."""

    def joined(self, others: Sequence[Any]) -> "EncodedPairs":
        """These and others of the same kind, one after the other."""


@dataclass(frozen=True)
class StateFile:
    """States of the rows that were encoded: pairs (joint), or distinct texts (separate)."""

    states: np.ndarray  # (tokens of all rows, layers, hidden_size), mapped, not read
    offsets: np.ndarray  # row `i` has the tokens `offsets[i]` to `offsets[i + 1]`
    premise_ends: np.ndarray | None  # in joint rows, how many of the tokens are the premise's
    mapped: mmap.mmap | None = None  # the file behind `states`, whose last bytes they are

    def soon(self, index: int) -> None:
        """Have the system read a row while others are looked at."""
        if self.mapped is None or not hasattr(mmap, "MADV_WILLNEED"):
            return
        size = self.states[:1].nbytes
        first = len(self.mapped) - self.states.nbytes + int(self.offsets[index]) * size
        start = first - first % mmap.PAGESIZE
        length = first + int(self.offsets[index + 1] - self.offsets[index]) * size - start
        self.mapped.madvise(mmap.MADV_WILLNEED, start, length)

    def row(self, index: int) -> np.ndarray:
        return self.states[self.offsets[index] : self.offsets[index + 1]]


@dataclass(frozen=True)
class StoredPairs:
    """Pairs whose states are in files, any number of them: nothing is copied before `collate` does."""

    files: list[StateFile]
    rows: np.ndarray  # (pairs, 3): file, row of the premise, row of the hypothesis (the same one if joint)

    @property
    def lengths(self) -> np.ndarray:
        lengths = np.zeros(len(self.rows), np.int64)
        for number, file in enumerate(self.files):
            sizes, here = np.diff(file.offsets), self.rows[:, 0] == number
            lengths[here] = sizes[self.rows[here, 1]]
            if file.premise_ends is None:
                lengths[here] += sizes[self.rows[here, 2]]
        return lengths

    def fetch(self, indices: Sequence[int] | np.ndarray) -> list[Sides]:
        rows = self.rows[np.asarray(indices)].tolist()
        for number, premise, hypothesis in rows:
            for row in {premise, hypothesis}:
                self.files[number].soon(row)
        return [self._sides(*row) for row in rows]

    def _sides(self, number: int, premise: int, hypothesis: int) -> Sides:
        file = self.files[number]
        if file.premise_ends is None:
            return file.row(premise), file.row(hypothesis)
        states, end = file.row(premise), file.premise_ends[premise]
        return states[:end], states[end:]

    def take(self, which: np.ndarray) -> "StoredPairs":
        return StoredPairs(self.files, self.rows[which])

    def joined(self, others: Sequence["StoredPairs"]) -> "StoredPairs":
        parts = [self, *others]
        shifts = np.cumsum([0, *(len(part.files) for part in parts)])
        rows = [part.rows + np.array([shift, 0, 0]) for part, shift in zip(parts, shifts, strict=False)]
        return StoredPairs([file for part in parts for file in part.files], np.concatenate(rows))


@dataclass(frozen=True)
class RecomputedPairs:
    """Pairs as tokens, encoded anew whenever they are fetched: for data whose states fit nowhere."""

    encode: Callable[[Sequence[Any]], list[np.ndarray]]  # rows of tokens to states, one array a row
    tokens: list[Any]  # rows: pairs (joint), or distinct texts (separate)
    sizes: np.ndarray  # (rows,): their tokens
    premise_ends: np.ndarray | None  # as in `StateFile`
    rows: np.ndarray  # (pairs, 2): row of the premise, row of the hypothesis

    @property
    def lengths(self) -> np.ndarray:
        lengths = self.sizes[self.rows[:, 0]]
        return lengths if self.premise_ends is not None else lengths + self.sizes[self.rows[:, 1]]

    def fetch(self, indices: Sequence[int] | np.ndarray) -> list[Sides]:
        rows = self.rows[np.asarray(indices)]
        needed, place = np.unique(rows, return_inverse=True)
        states = self.encode([self.tokens[row] for row in needed])
        place = place.reshape(rows.shape)
        if self.premise_ends is None:
            return [(states[premise], states[hypothesis]) for premise, hypothesis in place]
        ends = self.premise_ends[rows[:, 0]]
        return [(states[row][:end], states[row][end:]) for (row, _), end in zip(place, ends, strict=True)]

    def take(self, which: np.ndarray) -> "RecomputedPairs":
        return RecomputedPairs(self.encode, self.tokens, self.sizes, self.premise_ends, self.rows[which])

    def joined(self, others: Sequence["RecomputedPairs"]) -> "RecomputedPairs":
        parts = [self, *others]
        shifts = np.cumsum([0, *(len(part.tokens) for part in parts)])
        rows = [part.rows + shift for part, shift in zip(parts, shifts, strict=False)]
        ends = [part.premise_ends for part in parts if part.premise_ends is not None]
        return RecomputedPairs(
            self.encode,
            [row for part in parts for row in part.tokens],
            np.concatenate([part.sizes for part in parts]),
            np.concatenate(ends) if ends else None,
            np.concatenate(rows),
        )


class PairStates(Dataset):
    """Labelled pairs as states, in one encoding or in several.

    Args:
        encoded (`dict[str, EncodedPairs]`): By encoding.
        labels (`np.ndarray` of shape `(pairs,)`): Classes.
        extra (`dict[str, np.ndarray]`, *optional*): Further targets of each pair, such as `teacher_logits`.
    """

    def __init__(
        self,
        encoded: dict[str, EncodedPairs],
        labels: np.ndarray,
        extra: dict[str, np.ndarray] | None = None,
    ):
        self.encoded, self.labels, self.extra = encoded, labels, extra or {}
        self.abstention_labels: dict[str, np.ndarray] | None = None  # by encoding, set for stage 2

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """All items of a batch at once, as DataLoader asks for them.

        Beyond the pairs they come again, once for each encoding, in that encoding alone: `in_turn`.
        """
        turns, rows = np.divmod(indices, len(self))
        names = list(self.encoded)
        if turns.any():
            names = [names[turns[0] - 1]]
        sides = {name: self.encoded[name].fetch(rows) for name in names}
        return [
            self._item({name: of_batch[place] for name, of_batch in sides.items()}, index)
            for place, index in enumerate(rows)
        ]

    def in_turn(self, indices: np.ndarray, turn: int) -> np.ndarray:
        """Indices of the same pairs in one of their encodings."""
        return indices + len(self) * (1 + turn % len(self.encoded))

    def _item(self, sides: dict[str, Sides], index: int) -> dict[str, Any]:
        item = {"sides": sides, "labels": self.labels[index]}
        item.update({name: values[index] for name, values in self.extra.items()})
        if self.abstention_labels is not None:
            item["abstention_labels"] = {
                encoding: labels[index] for encoding, labels in self.abstention_labels.items()
            }
        return item

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each pair, (pairs,), in its first encoding."""
        return next(iter(self.encoded.values())).lengths

    def take(self, which: np.ndarray) -> "PairStates":
        """A part, by a mask or by positions; a position may come more than once."""
        encoded = {name: pairs.take(which) for name, pairs in self.encoded.items()}
        extra = {name: values[which] for name, values in self.extra.items()}
        return PairStates(encoded, self.labels[which], extra)

    def only(self, encoding: str) -> "PairStates":
        """The same pairs in one of their encodings."""
        part = PairStates({encoding: self.encoded[encoding]}, self.labels, self.extra)
        if self.abstention_labels is not None:
            part.abstention_labels = {encoding: self.abstention_labels[encoding]}
        return part

    @classmethod
    def concatenate(cls, parts: Sequence["PairStates"]) -> "PairStates":
        """All parts, one after the other."""
        first, *others = parts
        return cls(
            {
                name: pairs.joined([part.encoded[name] for part in others])
                for name, pairs in first.encoded.items()
            },
            np.concatenate([part.labels for part in parts]),
            {name: np.concatenate([part.extra[name] for part in parts]) for name in first.extra},
        )


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Items of `PairStates` to the arguments of the model's forward, padded."""
    batch: dict[str, Any] = {"encoder_states": {}, "segments": {}}
    for encoding in items[0]["sides"]:
        pairs = [item["sides"][encoding] for item in items]
        longest = max(len(premise) + len(hypothesis) for premise, hypothesis in pairs)
        first = pairs[0][0]
        states = np.zeros((len(pairs), longest, *first.shape[1:]), first.dtype)
        segments = np.zeros((len(pairs), longest), np.int64)
        for row, (premise, hypothesis) in enumerate(pairs):
            end, stop = len(premise), len(premise) + len(hypothesis)
            states[row, :end], states[row, end:stop] = premise, hypothesis
            segments[row, :end], segments[row, end:stop] = PREMISE, HYPOTHESIS
        batch["encoder_states"][encoding] = torch.from_numpy(states).transpose(1, 2)
        batch["segments"][encoding] = torch.from_numpy(segments)
    for name in items[0].keys() - {"sides", "abstention_labels"}:
        batch[name] = torch.from_numpy(np.stack([item[name] for item in items]))
    if "abstention_labels" in items[0]:
        batch["abstention_labels"] = {
            encoding: torch.from_numpy(np.array([item["abstention_labels"][encoding] for item in items]))
            for encoding in items[0]["abstention_labels"]
        }
    return batch
