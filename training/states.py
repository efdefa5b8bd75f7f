"""Pairs to encoder states, once: the encoder is frozen, so every epoch of both stages reads the same."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from modeling_modernbert_nli import ModernBertNliModel
from tokenization_modernbert_nli import encode_pairs, max_pair_length
from training.data import Pairs

_DTYPE = np.float16
_BATCHES_BETWEEN_NOTES = 50


@dataclass(frozen=True)
class StateFile:
    """What `cache_states` wrote: pair `i` has the tokens `offsets[i]` to `offsets[i + 1]`."""

    states: np.ndarray  # (tokens of all pairs, layers, hidden_size), mapped, not read
    input_ids: np.ndarray
    offsets: np.ndarray


class PairStates(Dataset):
    """Labelled pairs as states, from any number of files.

    An item's arrays are views of the mapped files: the only copy made is the batch that `collate` makes of
    them.
    """

    def __init__(self, files: list[StateFile], file: np.ndarray, row: np.ndarray, labels: np.ndarray):
        self.files, self.file, self.row, self.labels = files, file, row, labels
        self.abstention_labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        file, row = self.files[self.file[index]], self.row[index]
        tokens = slice(file.offsets[row], file.offsets[row + 1])
        item = {
            "encoder_states": file.states[tokens],
            "input_ids": file.input_ids[tokens],
            "labels": self.labels[index],
        }
        if self.abstention_labels is not None:
            item["abstention_labels"] = self.abstention_labels[index]
        return item

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each pair, (n,)."""
        starts = [self.files[file].offsets[row] for file, row in zip(self.file, self.row, strict=True)]
        ends = [self.files[file].offsets[row + 1] for file, row in zip(self.file, self.row, strict=True)]
        return np.subtract(ends, starts)

    def take(self, which: np.ndarray) -> "PairStates":
        """A part, by a mask or by positions."""
        return PairStates(self.files, self.file[which], self.row[which], self.labels[which])

    @classmethod
    def concatenate(cls, parts: list["PairStates"]) -> "PairStates":
        """All parts, one after the other."""
        shift = np.cumsum([0] + [len(part.files) for part in parts])
        files = [file for part in parts for file in part.files]
        file = np.concatenate([part.file + start for part, start in zip(parts, shift, strict=False)])
        return cls(
            files,
            file,
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("row", "labels")),
        )


def collate(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Items of `PairStates` to the arguments of the model's forward, padded."""
    lengths = [len(item["input_ids"]) for item in items]
    shape = (len(items), max(lengths))
    first = items[0]["encoder_states"]
    states = np.zeros((*shape, *first.shape[1:]), first.dtype)
    input_ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for index, (item, length) in enumerate(zip(items, lengths, strict=True)):
        states[index, :length] = item["encoder_states"]
        input_ids[index, :length] = item["input_ids"]
        mask[index, :length] = 1
    batch = {
        "encoder_states": torch.from_numpy(states).transpose(1, 2),
        "input_ids": torch.from_numpy(input_ids),
        "attention_mask": torch.from_numpy(mask),
    }
    for key in ("labels", "abstention_labels"):
        if key in items[0]:
            batch[key] = torch.from_numpy(np.array([item[key] for item in items]))
    return batch


def cache_states(
    model: ModernBertNliModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Pairs,
    cache_dir: Path,
    batch_size: int = 64,
) -> PairStates:
    """The states of pairs, computed where they are not in the cache yet.

    An interrupted computation goes on where it was; a finished one is never written again.

    Args:
        model (`ModernBertNliModel`): Its encoder makes the states, its configuration names the layers.
        tokenizer (`PreTrainedTokenizerBase`): Tokenizer of the base.
        pairs (`Pairs`): What to encode.
        cache_dir (`Path`): Folder of all caches.
        batch_size (`int`): Pairs in a batch of the encoder.
    """
    folder = cache_dir / f"{pairs.name}-{_fingerprint(model, pairs)}"
    if not folder.exists():
        partial = folder.with_name(folder.name + ".partial")
        _encode(model, tokenizer, pairs, partial, batch_size)
        partial.rename(folder)
    states = np.load(folder / "states.npy", mmap_mode="r")
    file = StateFile(states, np.load(folder / "input_ids.npy"), np.load(folder / "offsets.npy"))
    rows = np.arange(len(pairs))
    return PairStates([file], np.zeros_like(rows), rows, pairs.labels)


def _fingerprint(model: ModernBertNliModel, pairs: Pairs) -> str:
    config = model.config
    identity = [
        config.base_model_name_or_path,
        config.base_model_revision,
        config.head_type,
        config.encoder_layers,
    ]
    digest = hashlib.sha256(json.dumps([identity, str(model.encoder.dtype)]).encode())
    for premise, hypothesis in zip(pairs.premises, pairs.hypotheses, strict=True):
        digest.update(f"{len(premise)} {len(hypothesis)} {premise}{hypothesis}".encode())
    return digest.hexdigest()[:16]


def _encode(
    model: ModernBertNliModel, tokenizer: PreTrainedTokenizerBase, pairs: Pairs, folder: Path, batch_size: int
) -> None:
    window = max_pair_length(model.config.encoder_config, tokenizer)
    texts = list(zip(pairs.premises, pairs.hypotheses, strict=True))
    encoding, _ = encode_pairs(tokenizer, texts, window)
    # The CLS head reads one token of each pair, so no other is kept.
    lengths = np.array([1 if model.config.head_type == "cls" else len(ids) for ids in encoding["input_ids"]])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    shape = (int(offsets[-1]), len(model.config.encoder_layers), model.config.hidden_size)

    done, progress = 0, folder / "progress.json"
    if progress.exists():
        done = json.loads(progress.read_text())["batches"]
        states = np.load(folder / "states.npy", mmap_mode="r+")
    else:
        _require_space(folder.parent, int(np.prod(shape)) * np.dtype(_DTYPE).itemsize)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "offsets.npy", offsets)
        kept = (ids[:length] for ids, length in zip(encoding["input_ids"], lengths, strict=True))
        np.save(folder / "input_ids.npy", np.concatenate([np.array(ids, np.int32) for ids in kept]))
        states = np.lib.format.open_memmap(folder / "states.npy", "w+", _DTYPE, shape)

    order = np.argsort([len(ids) for ids in encoding["input_ids"]], kind="stable")
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    device = model.encoder.device
    with tqdm(
        total=len(order), initial=sum(map(len, batches[:done])), desc=f"Encoding {pairs.name}", unit="pair"
    ) as bar:
        for number, rows in enumerate(batches[done:], start=done + 1):
            batch = {key: [values[row] for row in rows] for key, values in encoding.items()}
            tensors = model.encode(**tokenizer.pad(batch, return_tensors="pt").to(device))
            computed = tensors.transpose(1, 2).to("cpu", torch.float16).numpy()
            for index, row in enumerate(rows):
                states[offsets[row] : offsets[row + 1]] = computed[index, : lengths[row]]
            bar.update(len(rows))
            if number % _BATCHES_BETWEEN_NOTES == 0 or number == len(batches):
                states.flush()
                _write_aside(progress, json.dumps({"batches": number}))


def _require_space(folder: Path, size: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > 0.95 * free:
        raise OSError(
            f"The encoder states need {size / 1e9:.1f} GB in {folder}, which has {free / 1e9:.1f} GB free: "
            "give another `--cache_dir`, or train on fewer pairs with `--max_train_pairs`."
        )


def _write_aside(path: Path, text: str) -> None:
    aside = path.with_suffix(".new")
    aside.write_text(text)
    aside.replace(path)
