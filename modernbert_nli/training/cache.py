"""Pairs to encoder states, once: the encoder is frozen, so every epoch of both stages reads the same.

A finished cache is a folder named after its data and a fingerprint of all that its states depend on; it is
never written again. An unfinished one ends in `.partial`, and knows which of its batches are done.
"""

import hashlib
import json
import mmap
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import PartialState
from filelock import FileLock
from tqdm.auto import tqdm

from ..modeling_modernbert_nli import Encoding, ModernBertNliModel
from ..states import half
from ..tokenization import encode_pairs, encode_texts, max_pair_length
from .data import Pairs
from .states import EncodedPairs, PairStates, RecomputedPairs, StateFile, StoredPairs

Precision = Literal["int8", "float16"]
_BATCHES_BETWEEN_NOTES = 50
_FORMAT = 2  # of the cache, part of its name


def cache_states(
    model: ModernBertNliModel,
    pairs: Pairs,
    cache_dir: Path | None,
    batch_size: int = 64,
    precision: Precision | None = None,
) -> PairStates:
    """The states of pairs, in every encoding of the heads, computed where they are not in the cache yet.

    An interrupted computation goes on where it was; several processes (torchrun) share the work; a second run
    over the same cache waits for the first.

    Args:
        model (`ModernBertNliModel`): Its encoder makes the states that its configuration names.
        pairs (`Pairs`): What to encode.
        cache_dir (`Path`, *optional*): Folder of all caches; None for the memory of this process.
        batch_size (`int`): Rows in a batch of the encoder.
        precision (`str`, *optional*): By default int8 for heads that normalise what they read, else float16.

    Raises:
        OSError: the disk is full.
        ValueError: a file of the cache cannot be read.
    """
    encoded: dict[str, EncodedPairs] = {}
    for encoding in model.config.encoder_layers:
        job = _Job(model, pairs, encoding, precision)
        file = _in_memory(job, batch_size) if cache_dir is None else _on_disk(job, cache_dir, batch_size)
        encoded[encoding] = StoredPairs([file], np.column_stack([np.zeros(len(pairs), np.int64), job.rows]))
    return PairStates(encoded, pairs.labels)


def recomputed_states(
    model: ModernBertNliModel, pairs: Pairs, precision: Precision | None = None
) -> PairStates:
    """As `cache_states`, but nothing is kept: every batch is encoded whenever it is read."""
    encoded: dict[str, EncodedPairs] = {}
    for encoding in model.config.encoder_layers:
        job = _Job(model, pairs, encoding, precision)
        encoded[encoding] = RecomputedPairs(
            partial(_encode_now, model, encoding, job.precision, job.kept_tokens),
            job.tokens,
            job.lengths,
            job.premise_ends,
            job.rows,
        )
    return PairStates(encoded, pairs.labels)


def missing_bytes(
    model: ModernBertNliModel, pairs: Pairs, cache_dir: Path | None, precision: Precision | None = None
) -> int:
    """What `cache_states` would still have to store for these pairs."""
    jobs = (_Job(model, pairs, encoding, precision) for encoding in model.config.encoder_layers)
    return sum(job.size for job in jobs if cache_dir is None or not (cache_dir / job.name).exists())


def compact(states: torch.Tensor) -> torch.Tensor:
    """To int8: each token's state in each layer, less its mean, in 127ths of its largest deviation.

    Neither the mean nor the scale is kept: the alignment head begins with a LayerNorm of each state, which
    undoes both.
    """
    states = states.float()
    states = states - states.mean(dim=-1, keepdim=True)
    largest = states.abs().amax(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return (states * (127 / largest)).round().to(torch.int8)


@dataclass
class _Job:
    """What is to be encoded of some pairs in one encoding, and what it will be called."""

    model: ModernBertNliModel
    pairs: Pairs
    encoding: Encoding
    wanted: Precision | None

    @property
    def precision(self) -> Precision:
        # The CLS head reads states as they are, so their scale matters.
        return self.wanted or ("float16" if self.kept_tokens else "int8")

    @property
    def kept_tokens(self) -> int | None:
        """The CLS head reads one token of each pair, so no other is kept."""
        return 1 if self.model.config.head_type == "cls" else None

    @cached_property
    def _texts(self) -> tuple[list[Any], np.ndarray]:
        pairs = self.pairs
        if self.encoding == "joint":
            rows = np.repeat(np.arange(len(pairs))[:, None], 2, axis=1)
            return list(zip(pairs.premises, pairs.hypotheses, strict=True)), rows
        place = {text: row for row, text in enumerate(dict.fromkeys([*pairs.premises, *pairs.hypotheses]))}
        sides = (pairs.premises, pairs.hypotheses)
        return list(place), np.array([[place[text] for text in side] for side in sides]).T

    @property
    def rows(self) -> np.ndarray:
        """(pairs, 2): rows of premise and hypothesis among what is encoded."""
        return self._texts[1]

    @cached_property
    def tokens(self) -> list[dict[str, list[int]]]:
        """By row, what the tokenizer gives."""
        model, texts = self.model, self._texts[0]
        window = max_pair_length(model.config.encoder_config, model.tokenizer)
        if self.encoding == "separate":
            return [{"input_ids": ids} for ids in encode_texts(model.tokenizer, texts, window, cut=True)]
        encoded = encode_pairs(model.tokenizer, texts, window)
        return [dict(zip(encoded, values, strict=True)) for values in zip(*encoded.values(), strict=True)]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens that are kept of each row."""
        return np.array([self.kept_tokens or len(row["input_ids"]) for row in self.tokens])

    @cached_property
    def premise_ends(self) -> np.ndarray | None:
        if self.encoding == "separate":
            return None
        separator = self.model.config.sep_token_id
        ids = [row["input_ids"] for row in self.tokens]
        ends = [row.index(separator) + 1 if separator in row else len(row) for row in ids]
        return np.minimum(ends, self.lengths)

    @property
    def shape(self) -> tuple[int, int, int]:
        config = self.model.config
        return (int(self.lengths.sum()), len(config.encoder_layers[self.encoding]), config.hidden_size)

    @property
    def size(self) -> int:
        """Bytes of the states."""
        return int(np.prod(self.shape)) * np.dtype(self.precision).itemsize

    @cached_property
    def name(self) -> str:
        return f"{self.pairs.name}-{self.encoding}-{self._fingerprint()}"

    def _fingerprint(self) -> str:
        model, config = self.model, self.model.config
        window = max_pair_length(config.encoder_config, model.tokenizer)
        identity = [
            _FORMAT,
            self.precision,
            config.base_model_name_or_path,
            config.base_model_revision,
            config.head_type,
            config.encoder_layers[self.encoding],
            str(model.encoder.dtype),
            window,
            *([model.adapter.digest()] if model.adapter is not None else []),
        ]
        digest = hashlib.sha256(json.dumps(identity).encode())
        digest.update(_tokenizer_identity(model.tokenizer))
        # A few of each weight: the name alone does not tell a local copy apart.
        for weights in model.encoder.parameters():
            digest.update(weights.detach().flatten()[:64].float().cpu().numpy())
        digest.update(self.pairs.digest())
        return digest.hexdigest()[:16]


def _tokenizer_identity(tokenizer: Any) -> bytes:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described = json.loads(backend.to_str()) if backend else dict(sorted(tokenizer.get_vocab().items()))
    for passing in ("padding", "truncation"):  # settings of the last call
        described.pop(passing, None)
    return json.dumps(described).encode()


# Where the states go ---------------------------------------------------------------------------------------


def _in_memory(job: _Job, batch_size: int) -> StateFile:
    states = np.empty(job.shape, job.precision)
    offsets = np.concatenate([[0], np.cumsum(job.lengths)])
    batches = _batches(job, batch_size)
    _encode(job, states, offsets, batches, np.zeros(len(batches), np.uint8), range(len(batches)))
    return StateFile(states, offsets, job.premise_ends)


def _on_disk(job: _Job, cache_dir: Path, batch_size: int) -> StateFile:
    folder = cache_dir / job.name
    if not folder.exists():
        _compute(job, folder, batch_size)
    try:
        # As a plain array: one of the class `memmap` takes longer to slice.
        mapped = np.load(folder / "states.npy", mmap_mode="r")
        states = np.asarray(mapped)
        offsets = np.load(folder / "offsets.npy")
        ends = np.load(folder / "premise_ends.npy") if job.encoding == "joint" else None
        if states.dtype != job.precision or len(states) != offsets[-1]:
            raise ValueError("states and offsets do not belong together")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"The state cache {folder} cannot be read ({error}). Delete that folder: its states are then "
            "computed again."
        ) from None
    file = mapped._mmap  # of NumPy: no other way leads to it
    if hasattr(mmap, "MADV_RANDOM"):  # or a row brings along the megabytes behind it
        file.madvise(mmap.MADV_RANDOM)
    return StateFile(states, offsets, ends, file)


def _compute(job: _Job, folder: Path, batch_size: int) -> None:
    """Fill a cache folder, this process its share of the batches, and give it its name when all is there."""
    process = PartialState()
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(folder.name + ".partial")
    lock = FileLock(folder.with_name(folder.name + ".lock"))
    if process.is_main_process:
        lock.acquire()  # another run over this cache may be at it
    try:
        process.wait_for_everyone()
        if folder.exists():
            return
        if process.is_main_process:
            _prepare(job, unfinished, batch_size)
        process.wait_for_everyone()
        done = np.load(unfinished / "done.npy", mmap_mode="r+")
        rest = np.flatnonzero(done == 0)
        process.wait_for_everyone()  # nobody marks a batch before all have seen which are left
        states = np.load(unfinished / "states.npy", mmap_mode="r+")
        offsets = np.load(unfinished / "offsets.npy")
        mine = rest[process.process_index :: process.num_processes]
        _encode(job, states, offsets, _batches(job, batch_size), done, mine)
        process.wait_for_everyone()
        if process.is_main_process:
            unfinished.rename(folder)
        process.wait_for_everyone()
    finally:
        if process.is_main_process:
            lock.release()


def _prepare(job: _Job, folder: Path, batch_size: int) -> None:
    """The files of an unfinished cache, with all of their space, unless a killed run left them."""
    batches, states = len(_batches(job, batch_size)), folder / "states.npy"
    prepared = (folder / "done.npy").exists() and len(np.load(folder / "done.npy")) == batches
    if prepared and states.exists() and states.stat().st_size > job.size:  # a cut one is no start
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(job.lengths)]))
    if job.premise_ends is not None:
        np.save(folder / "premise_ends.npy", job.premise_ends)
    np.lib.format.open_memmap(states, "w+", job.precision, job.shape)
    try:
        _reserve(states)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise OSError(
            error.errno,
            f"No room for {job.size / 1e9:.1f} GB of states in {folder.parent} ({error.strerror}): give "
            "another `--cache_dir`, `--state_cache none`, or train on fewer pairs with `--max_train_pairs`",
        ) from None
    np.save(folder / "done.npy", np.zeros(batches, np.uint8))  # last: it says that the others are there


def _reserve(path: Path) -> None:
    """Take the space of a mapped file now: on a disk that is full later, writing to it kills the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


# Tokens to states ------------------------------------------------------------------------------------------


def _batches(job: _Job, batch_size: int) -> list[np.ndarray]:
    order = np.argsort([len(row["input_ids"]) for row in job.tokens], kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _encode(
    job: _Job,
    states: np.ndarray,
    offsets: np.ndarray,
    batches: list[np.ndarray],
    done: np.ndarray,
    which: Sequence[int] | np.ndarray,
) -> None:
    """Write the states of some batches to their places, and mark them done."""
    bar = tqdm(
        total=len(job.tokens),
        initial=sum(len(batches[number]) for number in np.flatnonzero(done)),
        desc=f"Encoding {job.pairs.name}, {job.encoding}",
        unit="pair" if job.encoding == "joint" else "text",
        disable=not PartialState().is_main_process,
    )
    written: list[int] = []
    with bar:
        for number in which:
            rows = [job.tokens[row] for row in batches[number]]
            encoded = _encode_now(job.model, job.encoding, job.precision, job.kept_tokens, rows)
            for row, text in zip(batches[number], encoded, strict=True):
                states[offsets[row] : offsets[row + 1]] = text
            bar.update(len(rows) * PartialState().num_processes)
            written.append(number)
            if len(written) == _BATCHES_BETWEEN_NOTES or number == which[-1]:
                if isinstance(states, np.memmap):
                    states.flush()
                done[written] = 1
                written = []


def _encode_now(
    model: ModernBertNliModel,
    encoding: Encoding,
    precision: Precision,
    kept_tokens: int | None,
    rows: Sequence[dict[str, list[int]]],
) -> list[np.ndarray]:
    """States of a batch of tokenised rows, (tokens, layers, hidden_size) each."""
    padded = model.tokenizer.pad(
        {key: [row[key] for row in rows] for key in rows[0]}, return_tensors="pt", return_attention_mask=True
    ).to(model.encoder.device)
    states = model.encoder_states(padded, encoding)
    kept = compact(states) if precision == "int8" else half(states)
    return [
        text[: kept_tokens or len(row["input_ids"])]
        for text, row in zip(kept.transpose(1, 2).cpu().numpy(), rows, strict=True)
    ]
