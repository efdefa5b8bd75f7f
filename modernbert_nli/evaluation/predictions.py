"""What contestants say of sets, kept in files: an interrupted evaluation goes on, pictures can be redrawn."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ..tokenization import PairError
from ..training.data import Pairs
from .contestants import Contestant

_FORMAT = 1
_PAIRS_AT_ONCE = 2048  # between two steps of the progress bar, sorted by length together


@dataclass
class Predictions:
    """Of one checkpoint on one set, in one encoding."""

    logits: np.ndarray  # (pairs, 3)
    labels: np.ndarray  # (pairs,), see `Pairs`
    uncertainty: np.ndarray | None  # (pairs,), of a contestant with an uncertainty of its own
    threshold: float | None
    trained_parameters: int | None


def predictions_of(
    contestant: Contestant, pairs: Pairs, encoding: str | None, folder: Path, batch_size: int = 32
) -> Predictions:
    """Judge a set, or read what was said of it before.

    Args:
        folder (`Path`): Where predictions are kept, a file for each checkpoint, set and encoding. Its name
            depends on all that they depend on.

    Raises:
        ValueError: a pair that cannot be judged; set and pair are named.
    """
    identity = [_FORMAT, *contestant.identity(), encoding, pairs.digest().hex()]
    fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    path = folder / f"{contestant.model.name}-{pairs.name}-{encoding or 'pairs'}-{fingerprint}.npz"
    if not path.exists():
        _judge(contestant, pairs, encoding, batch_size, path)
    with np.load(path) as arrays:
        facts = json.loads(str(arrays["facts"]))
        uncertainty = arrays.get("uncertainty")
        # The labels are not part of the identity: those of the set as it is now count.
        return Predictions(arrays["logits"], pairs.labels, uncertainty, contestant.threshold, **facts)


def _judge(contestant: Contestant, pairs: Pairs, encoding: str | None, batch_size: int, path: Path) -> None:
    texts = list(zip(pairs.premises, pairs.hypotheses, strict=True))
    what = f"{contestant.model.name}, {pairs.name}" + (f", {encoding}" if encoding else "")
    parts = []
    with tqdm(total=len(texts), desc=what, unit="pair", disable=None) as bar:
        for start in range(0, len(texts), _PAIRS_AT_ONCE):
            part = texts[start : start + _PAIRS_AT_ONCE]
            try:
                parts.append(contestant.judge(part, encoding, batch_size))
            except PairError as error:
                raise ValueError(f"{pairs.name}, pair {start + error.row + 1}: {error.reason}") from None
            bar.update(len(part))
    arrays: dict[str, Any] = {"logits": np.concatenate([part.logits for part in parts])}
    if not np.isfinite(arrays["logits"]).all():
        raise ValueError(f"{what}: the logits are not finite. The checkpoint is broken, or overflows.")
    own = [part.uncertainty for part in parts if part.uncertainty is not None]
    if own:
        arrays["uncertainty"] = np.concatenate(own)
    arrays["facts"] = np.array(json.dumps({"trained_parameters": contestant.trained_parameters}))
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.new")
    with aside.open("wb") as file:
        np.savez_compressed(file, **arrays)
    aside.replace(path)
