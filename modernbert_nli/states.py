"""States of texts, kept: each text is encoded once, alone, and judged against any number of others.

passages = model.encode(texts)
passages.save("passages.safetensors")
passages = TokenStates.load("passages.safetensors")  # mapped, not read
model.classify(passages, model.encode("A person is making music."))
"""

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .fingerprint import same_base

_FORMAT = "modernbert_nli.token_states"
_OF_TEXTS = ("vectors", "familiarity")  # what projected texts have beside their tokens


def half(states: torch.Tensor) -> torch.Tensor:
    """In float16, the precision in which states are kept; beyond its range only outlier channels lie."""
    limit = torch.finfo(torch.float16).max
    return states.clamp(-limit, limit).to(torch.float16)


def mean_vector(states: torch.Tensor) -> torch.Tensor:
    """A text as one vector of length 1, (hidden_size,): the mean of its tokens in the last layer read.

    Args:
        states (`torch.Tensor` of shape `(tokens, layers, hidden_size)`): Of one text.
    """
    return torch.nn.functional.normalize(states[:, -1].float().mean(dim=0), dim=0)


class Text(NamedTuple):
    """What is kept of a text for heads that do not change.

    Args:
        tokens (`torch.Tensor` of shape `(tokens, size)`): As the heads project them.
        vector (`torch.Tensor` of shape `(hidden_size,)`): See `mean_vector`.
        familiarity (`torch.Tensor` of shape `()`): See `ModernBertNliModel.familiarity_of`.
    """

    tokens: torch.Tensor
    vector: torch.Tensor
    familiarity: torch.Tensor

    @property
    def nbytes(self) -> int:
        # Not the tensors' own, which torch.compile cannot read of what it traces.
        return sum(part.numel() * part.element_size() for part in self)


class StatesMismatch(ValueError):
    """States that another encoder, revision or choice of layers made, or that other heads projected."""


@dataclass
class TokenStates:
    """States of the tokens of some texts, without padding.

    Args:
        states (`torch.Tensor` of shape `(tokens of all texts, layers, hidden_size)`): In float16; of
            projected texts `(tokens of all texts, size)`.
        offsets (`torch.LongTensor` of shape `(texts + 1,)`): Where each text begins, and the last one ends.
        source (`dict`): What made them: `base`, `revision` and `layers`; of projected texts also `heads`.
        vectors (`torch.Tensor` of shape `(texts, hidden_size)`, *optional*): Of projected texts, in float16.
        familiarity (`torch.Tensor` of shape `(texts,)`, *optional*): Of projected texts.
    """

    states: torch.Tensor
    offsets: torch.Tensor
    source: dict[str, Any]
    vectors: torch.Tensor | None = None
    familiarity: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, which: Any) -> "TokenStates":
        """Some of the texts, by number, numbers or slice; a plain slice shares its memory with all."""
        every = range(len(self))
        if isinstance(which, slice) and every[which].step == 1:
            start, stop = every[which].start, max(every[which].start, every[which].stop)
            offsets = self.offsets[start : stop + 1]
            states = self.states[offsets[0] : offsets[-1]]
            some = TokenStates(states, offsets - offsets[0], self.source)
            return self._with_texts(some, slice(start, stop))
        if isinstance(which, slice):
            rows = list(every[which])
        else:
            one = isinstance(which, int) or getattr(which, "ndim", 1) == 0  # also a number of NumPy or torch
            rows = [every[row] for row in ([which] if one else which)]
        some = self.gather([self.text(row) for row in rows] or [self.states[:0]], self.source)[: len(rows)]
        return self._with_texts(some, rows)

    def _with_texts(self, some: "TokenStates", rows: Any) -> "TokenStates":
        parts = {name: getattr(self, name) for name in _OF_TEXTS}
        return replace(some, **{name: part[rows] for name, part in parts.items() if part is not None})

    @property
    def lengths(self) -> torch.Tensor:
        """Tokens of each text, `(texts,)`."""
        return self.offsets.diff()

    def text(self, index: int) -> torch.Tensor:
        """States of one text, `(tokens, layers, hidden_size)`, or projected, without a copy."""
        return self.states[self.offsets[index] : self.offsets[index + 1]]

    @classmethod
    def gather(cls, texts: Sequence[torch.Tensor], source: dict[str, Any]) -> "TokenStates":
        """From the states of each text, `(tokens, layers, hidden_size)`."""
        lengths = torch.tensor([0, *(len(text) for text in texts)])
        with torch.autocast(texts[0].device.type, enabled=False):  # which refuses float16 on a CPU
            return cls(torch.cat(list(texts)), lengths.cumsum(dim=0), source)

    def save(self, path: str | os.PathLike) -> None:
        """Write a safetensors file, aside first: an interruption leaves no half file under that name."""
        path = Path(path)
        aside = path.with_name(path.name + ".partial")
        metadata = {"format": _FORMAT, "source": json.dumps(self.source)}
        tensors = {"states": self.states.contiguous(), "offsets": self.offsets}
        parts = {name: getattr(self, name) for name in _OF_TEXTS}
        tensors |= {name: part.contiguous() for name, part in parts.items() if part is not None}
        save_file(tensors, aside, metadata)
        aside.replace(path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "TokenStates":
        """Map a file that `save` wrote: what is not looked at is not read.

        Raises:
            OSError: the file is missing, truncated or of another format.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no file {str(path)!r}.")
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise OSError(f"{path} holds no token states: write them with `TokenStates.save`.")
                parts = {name: file.get_tensor(name) for name in _OF_TEXTS if name in file.keys()}  # noqa: SIM118
                source = json.loads(metadata["source"])
                return cls(file.get_tensor("states"), file.get_tensor("offsets"), source, **parts)
        except SafetensorError as error:
            raise OSError(f"{path} cannot be read, it is truncated or of another format: {error}") from error

    def require(self, source: dict[str, Any]) -> None:
        """Raise `StatesMismatch`, naming both, unless these states come from `source`."""
        if not same_source(self.source, source):
            one, other = _named(self.source), _named(source)
            why = f"but the model reads {other}" if one != other else "but of another base of that name"
            raise StatesMismatch(f"These states are of {one}, {why}: encode the texts again.")


def same_source(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether states of two sources may stand side by side. Files of version 0.2 have no fingerprint."""
    return _named(one) == _named(other) and same_base(one.get("fingerprint"), other.get("fingerprint"))


def _named(source: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in source.items() if key != "fingerprint"}


def pair_rows(premises: int, hypotheses: int) -> torch.Tensor:
    """Rows of one to one, or of one to all, (pairs, 2)."""
    if 0 in (premises, hypotheses) or (premises != hypotheses and 1 not in (premises, hypotheses)):
        raise ValueError(
            f"{premises} premises, {hypotheses} hypotheses: give as many of each, one of either, or `rows`."
        )
    count = max(premises, hypotheses)
    sides = [
        torch.arange(count) if size == count else torch.zeros(count, dtype=torch.long)
        for size in (premises, hypotheses)
    ]
    return torch.stack(sides, dim=1)


class StateCache:
    """What was made last of texts, by their tokens, up to a number of bytes (`nbytes` of each)."""

    def __init__(self, max_bytes: int):
        self.max_bytes, self.bytes = max_bytes, 0
        self._texts: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, ids: Any) -> Any:
        with self._lock:
            if ids in self._texts:
                self._texts.move_to_end(ids)
            return self._texts.get(ids)

    def put(self, ids: Any, states: Any) -> None:
        with self._lock:
            if ids not in self._texts:
                self.bytes += states.nbytes
            self._texts[ids] = states
            while self.bytes > self.max_bytes:
                self.bytes -= self._texts.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        with self._lock:
            self._texts.clear()
            self.bytes = 0

    def __reduce__(self) -> Any:  # a copy of a model starts with an empty cache
        return type(self), (self.max_bytes,)
