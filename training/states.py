"""Pairs to encoder states, once: the encoder is frozen, so every epoch of both stages reads the same."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from transformers import BatchEncoding

from heads_modernbert_nli import HYPOTHESIS, PREMISE
from modeling_modernbert_nli import Encoding, ModernBertNliModel
from states_modernbert_nli import half
from tokenization_modernbert_nli import encode_pairs, encode_texts, max_pair_length
from training.data import Pairs

_DTYPE = np.float16
_BATCHES_BETWEEN_NOTES = 50


@dataclass(frozen=True)
class StateFile:
    """States of the rows that were encoded: pairs (joint), or distinct texts (separate)."""

    states: np.ndarray  # (tokens of all rows, layers, hidden_size), mapped, not read
    offsets: np.ndarray  # row `i` has the tokens `offsets[i]` to `offsets[i + 1]`
    premise_ends: np.ndarray | None  # in joint rows, how many of the tokens are the premise's

    def row(self, index: int) -> np.ndarray:
        return self.states[self.offsets[index] : self.offsets[index + 1]]


@dataclass(frozen=True)
class EncodedPairs:
    """One encoding of pairs, from any number of files: where the states of premise and hypothesis are."""

    files: list[StateFile]
    rows: np.ndarray  # (pairs, 3): file, row of the premise, row of the hypothesis (the same one if joint)

    def sides(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """States of premise and hypothesis, `(tokens, layers, hidden_size)` each, without a copy."""
        number, premise, hypothesis = self.rows[index]
        file = self.files[number]
        if file.premise_ends is None:
            return file.row(premise), file.row(hypothesis)
        states, end = file.row(premise), file.premise_ends[premise]
        return states[:end], states[end:]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each pair."""
        sizes = [np.diff(file.offsets) for file in self.files]
        joint = self.files[0].premise_ends is not None
        return np.array(
            [sizes[file][first] + (0 if joint else sizes[file][second]) for file, first, second in self.rows]
        )

    @classmethod
    def concatenate(cls, parts: Sequence["EncodedPairs"]) -> "EncodedPairs":
        shifts = np.cumsum([0, *(len(part.files) for part in parts)])
        rows = [part.rows + np.array([shift, 0, 0]) for part, shift in zip(parts, shifts, strict=False)]
        return cls([file for part in parts for file in part.files], np.concatenate(rows))


class PairStates(Dataset):
    """Labelled pairs as states, in one encoding or in several.

    An item's arrays are views of mapped files: the only copy made is the batch that `collate` makes of them.
    """

    def __init__(self, encoded: dict[str, EncodedPairs], labels: np.ndarray):
        self.encoded, self.labels = encoded, labels
        self.abstention_labels: dict[str, np.ndarray] | None = None  # by encoding, set for stage 2

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = {
            "sides": {encoding: pairs.sides(index) for encoding, pairs in self.encoded.items()},
            "labels": self.labels[index],
        }
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
        """A part, by a mask or by positions."""
        encoded = {name: EncodedPairs(pairs.files, pairs.rows[which]) for name, pairs in self.encoded.items()}
        return PairStates(encoded, self.labels[which])

    def only(self, encoding: str) -> "PairStates":
        """The same pairs in one of their encodings."""
        part = PairStates({encoding: self.encoded[encoding]}, self.labels)
        if self.abstention_labels is not None:
            part.abstention_labels = {encoding: self.abstention_labels[encoding]}
        return part

    @classmethod
    def concatenate(cls, parts: Sequence["PairStates"]) -> "PairStates":
        """All parts, one after the other."""
        encoded = {
            name: EncodedPairs.concatenate([part.encoded[name] for part in parts])
            for name in parts[0].encoded
        }
        return cls(encoded, np.concatenate([part.labels for part in parts]))


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
    batch["labels"] = torch.from_numpy(np.array([item["labels"] for item in items]))
    if "abstention_labels" in items[0]:
        batch["abstention_labels"] = {
            encoding: torch.from_numpy(np.array([item["abstention_labels"][encoding] for item in items]))
            for encoding in items[0]["abstention_labels"]
        }
    return batch


def cache_states(
    model: ModernBertNliModel, pairs: Pairs, cache_dir: Path, batch_size: int = 64
) -> PairStates:
    """The states of pairs, in every encoding of the heads, computed where they are not in the cache yet.

    An interrupted computation goes on where it was; a finished one is never written again.

    Args:
        model (`ModernBertNliModel`): Its encoder makes the states that its configuration names.
        pairs (`Pairs`): What to encode.
        cache_dir (`Path`): Folder of all caches.
        batch_size (`int`): Rows in a batch of the encoder.
    """
    encoded = {}
    for encoding in model.config.encoder_layers:
        folder = cache_dir / f"{pairs.name}-{encoding}-{_fingerprint(model, pairs, encoding)}"
        if encoding == "joint":
            texts: list[Any] = list(zip(pairs.premises, pairs.hypotheses, strict=True))
            rows = np.repeat(np.arange(len(pairs))[:, None], 2, axis=1)
        else:
            place = {
                text: row for row, text in enumerate(dict.fromkeys([*pairs.premises, *pairs.hypotheses]))
            }
            texts = list(place)
            sides = (pairs.premises, pairs.hypotheses)
            rows = np.array([[place[text] for text in side] for side in sides]).T
        if not folder.exists():
            partial = folder.with_name(folder.name + ".partial")
            _encode(model, texts, encoding, partial, batch_size)
            partial.rename(folder)
        ends = np.load(folder / "premise_ends.npy") if encoding == "joint" else None
        file = StateFile(np.load(folder / "states.npy", mmap_mode="r"), np.load(folder / "offsets.npy"), ends)
        encoded[encoding] = EncodedPairs([file], np.column_stack([np.zeros(len(pairs), np.int64), rows]))
    return PairStates(encoded, pairs.labels)


def _fingerprint(model: ModernBertNliModel, pairs: Pairs, encoding: str) -> str:
    config = model.config
    identity = [
        config.base_model_name_or_path,
        config.base_model_revision,
        config.head_type,
        config.encoder_layers[encoding],
        str(model.encoder.dtype),
    ]
    digest = hashlib.sha256(json.dumps(identity).encode())
    for (
        weights
    ) in model.encoder.parameters():  # a few of each: the name alone does not tell a local copy apart
        digest.update(weights.detach().flatten()[:64].float().cpu().numpy())
    for premise, hypothesis in zip(pairs.premises, pairs.hypotheses, strict=True):
        digest.update(f"{len(premise)} {len(hypothesis)} {premise}{hypothesis}".encode())
    return digest.hexdigest()[:16]


def _encode(
    model: ModernBertNliModel, texts: list[Any], encoding: Encoding, folder: Path, batch_size: int
) -> None:
    tokens = _tokenize(model, texts, encoding)
    # The CLS head reads one token of each pair, so no other is kept.
    cls = model.config.head_type == "cls"
    lengths = np.array([1 if cls else len(ids) for ids in tokens["input_ids"]])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    shape = (int(offsets[-1]), len(model.config.encoder_layers[encoding]), model.config.hidden_size)

    done, progress = 0, folder / "progress.json"
    if progress.exists():
        done = json.loads(progress.read_text())["batches"]
        states = np.load(folder / "states.npy", mmap_mode="r+")
    else:
        _require_space(folder.parent, int(np.prod(shape)) * np.dtype(_DTYPE).itemsize)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "offsets.npy", offsets)
        if encoding == "joint":
            separator = model.config.sep_token_id
            ends = [ids.index(separator) + 1 if separator in ids else len(ids) for ids in tokens["input_ids"]]
            np.save(folder / "premise_ends.npy", np.minimum(ends, lengths))
        states = np.lib.format.open_memmap(folder / "states.npy", "w+", _DTYPE, shape)

    order = np.argsort([len(ids) for ids in tokens["input_ids"]], kind="stable")
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    bar = tqdm(
        total=len(order),
        initial=sum(map(len, batches[:done])),
        desc=f"Encoding {folder.name.split('-')[0]}, {encoding}",
        unit="pair" if encoding == "joint" else "text",
    )
    with bar:
        for number, rows in enumerate(batches[done:], start=done + 1):
            batch = {key: [values[row] for row in rows] for key, values in tokens.items()}
            padded = model.tokenizer.pad(batch, return_tensors="pt").to(model.encoder.device)
            computed = half(model.encoder_states(padded, encoding)).transpose(1, 2).cpu().numpy()
            for index, row in enumerate(rows):
                states[offsets[row] : offsets[row + 1]] = computed[index, : lengths[row]]
            bar.update(len(rows))
            if number % _BATCHES_BETWEEN_NOTES == 0 or number == len(batches):
                states.flush()
                _write_aside(progress, json.dumps({"batches": number}))


def _tokenize(model: ModernBertNliModel, texts: list[Any], encoding: str) -> BatchEncoding | dict[str, Any]:
    window = max_pair_length(model.config.encoder_config, model.tokenizer)
    if encoding == "joint":
        return encode_pairs(model.tokenizer, texts, window)
    ids = encode_texts(model.tokenizer, texts, window, cut=True)
    return {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}


def _require_space(folder: Path, size: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > 0.95 * free:
        raise OSError(
            f"These states need {size / 1e9:.1f} GB in {folder}, which has {free / 1e9:.1f} GB free: give "
            "another `--cache_dir`, or train on fewer pairs with `--max_train_pairs`."
        )


def _write_aside(path: Path, text: str) -> None:
    aside = path.with_suffix(".new")
    aside.write_text(text)
    aside.replace(path)
