"""What a larger model says of the pairs: its logits, computed once, and the loss of heads that learn from it.

logits = teacher_logits(pairs, "cross-encoder/nli-deberta-v3-large", Path("runs/states"))
loss = distillation_loss(model(**batch).logits, batch["labels"], batch["teacher_logits"], alpha=0.5, beta=0.5)
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch.nn.functional import mse_loss
from tqdm.auto import tqdm
from transformers import AutoConfig

from ..configuration_modernbert_nli import LABELS
from ..heads import label_loss
from ..loading import register
from ..tokenization import PairError
from .classifier import PairClassifier, digest_of, label_order
from .data import Pairs

_BATCHES_BETWEEN_NOTES = 16
_FORMAT = 1  # of the stored file, part of its name


def distillation_loss(
    logits: torch.Tensor, labels: torch.Tensor, teacher_logits: torch.Tensor, alpha: float, beta: float
) -> torch.Tensor:
    """alpha × cross-entropy of the labels + beta × mean squared error to the teacher's logits.

    Logits are matched rather than probabilities (Ba & Caruana 2014, arXiv:1312.6184), as in the recipe of the
    FineCat-NLI models. Each row is centred first, the heads' and the teacher's: a number added to all three
    logits changes neither the probabilities nor the cross-entropy, so it says nothing that is worth learning.

    Args:
        logits (`torch.Tensor` of shape `(batch, 3)`): Of the heads.
        labels (`torch.Tensor` of shape `(batch,)`): As for `label_loss`.
        teacher_logits (`torch.Tensor` of shape `(batch, 3)`): Of the same pairs, see the function below.
        alpha, beta (`float`): Weights of the two.
    """
    wanted = teacher_logits.to(logits)
    distance = mse_loss(
        logits - logits.mean(dim=-1, keepdim=True), wanted - wanted.mean(dim=-1, keepdim=True)
    )
    return alpha * label_loss(logits, labels) + beta * distance


def teacher_logits(
    pairs: Pairs,
    teacher: str,
    cache_dir: Path,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    revision: str | None = None,
    labels: str | None = None,
    dtype: str = "float32",
    base: str | None = None,
    trust_remote_code: bool = False,
) -> np.ndarray:
    """The logits that a teacher gives to pairs, computed where they are not in the cache yet.

    An interrupted computation goes on where it was; a finished one is never written again.

    Args:
        pairs (`Pairs`): What to judge.
        teacher (`str`):
            A classifier of pairs that `AutoModelForSequenceClassification` loads: repository id or folder. A
            checkpoint of this project is one, given `trust_remote_code`.
        cache_dir (`Path`): Folder of all caches.
        batch_size (`int`, *optional*, defaults to 32): Pairs in a batch; long ones meet long ones.
        device (`str` or `torch.device`, *optional*): Defaults to the GPU where there is one.
        revision (`str`, *optional*): Commit of the teacher.
        labels (`str`, *optional*):
            The teacher's classes in its own order, such as `"contradiction,entailment,neutral"`, where its
            configuration does not name them, or names them wrongly.
        dtype (`str`, *optional*, defaults to `"float32"`): Its precision; bfloat16 is faster on a GPU.
        base (`str`, *optional*):
            For a checkpoint of this project, where its base is if not on the Hub: a repository id or folder.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Run code that comes with the teacher.

    Returns:
        `np.ndarray` of shape `(pairs, 3)`, float32: logits of entailment, neutral, contradiction.

    Raises:
        OSError: the teacher cannot be reached or read.
        ValueError: it is no three-way classifier, its classes are not named, a pair does not fit it, or the
            stored file cannot be read.
    """
    register()  # checkpoints of this project are loaded by the code that is here
    config = AutoConfig.from_pretrained(teacher, revision=revision, trust_remote_code=trust_remote_code)
    order = label_order(config, teacher, labels)
    # The commit that the name stands for today, so that tomorrow's does not get today's logits.
    revision = getattr(config, "_commit_hash", None) or revision
    identity = [
        _FORMAT,
        digest_of(teacher),
        revision,
        order,
        dtype,
        base and digest_of(base),
        pairs.digest().hex(),
    ]
    fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    path = cache_dir / f"{pairs.name}-teacher-{fingerprint}.npy"
    cache_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):  # another process may be at it
        if path.exists():
            return np.array(_open(path, len(pairs), "r"))
        partial = path.with_name(f"{path.stem}.partial.npy")
        if not partial.exists():
            np.save(partial, np.full((len(pairs), len(LABELS)), np.nan, np.float32))
        logits = _open(partial, len(pairs), "r+")
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        judge = PairClassifier(teacher, config, revision, dtype, base, trust_remote_code, device)
        _fill(logits, judge, pairs, order, batch_size)
        partial.rename(path)
        return np.array(logits)


def _fill(logits: np.ndarray, judge: PairClassifier, pairs: Pairs, order: list[int], batch_size: int) -> None:
    """Judge the pairs that have no logits yet: NaN stands where none are, and no other note is needed."""
    texts = list(zip(pairs.premises, pairs.hypotheses, strict=True))
    # The longest first: what does not fit, in the window or in memory, is told at once.
    longest_first = np.argsort(
        [-len(premise) - len(hypothesis) for premise, hypothesis in texts], kind="stable"
    )
    left = longest_first[np.isnan(logits[longest_first]).any(axis=1)]
    bar = tqdm(total=len(texts), initial=len(texts) - len(left), desc=f"Teacher, {pairs.name}", unit="pair")
    part = _BATCHES_BETWEEN_NOTES * batch_size
    with bar:
        for start in range(0, len(left), part):
            rows = left[start : start + part]
            try:
                judged = judge([texts[row] for row in rows], batch_size)
            except PairError as error:
                raise ValueError(f"{pairs.name}, pair {rows[error.row] + 1}: {error.reason}") from None
            if not np.isfinite(judged).all():
                row = rows[np.flatnonzero(~np.isfinite(judged).all(axis=1))[0]]
                raise ValueError(
                    f"{pairs.name}, pair {row + 1}: the teacher's logits are not finite. Give it another "
                    "precision, such as float32."
                )
            logits[rows] = judged[:, order]
            logits.flush()  # type: ignore[attr-defined]  # a mapped file
            bar.update(len(rows))


def _open(path: Path, rows: int, mode: Any) -> np.ndarray:
    try:
        logits = np.load(path, mmap_mode="r")  # to be sure first: "r+" fills up with zeros what is cut off
        if logits.shape == (rows, len(LABELS)) and logits.dtype == np.float32:
            return np.load(path, mmap_mode=mode)
        problem = f"it holds {logits.dtype} of shape {logits.shape}"
    except (ValueError, EOFError) as error:  # which of them depends on where the file ends
        problem = str(error)
    raise ValueError(
        f"The teacher's logits in {path} cannot be read ({problem}): delete it to compute them anew."
    )
