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
from torch.nn.functional import cross_entropy, mse_loss
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig

import quickstart
from configuration_modernbert_nli import LABELS, ModernBertNliConfig
from tokenization_modernbert_nli import PairError, encode_pairs, load_tokenizer, max_pair_length
from training.data import Pairs

_BATCHES_BETWEEN_NOTES = 16
_FORMAT = 1  # of the stored file, part of its name
_READ_BY_THE_TEACHER = (".json", ".safetensors", ".bin", ".txt", ".model", ".py")


def distillation_loss(
    logits: torch.Tensor, labels: torch.Tensor, teacher_logits: torch.Tensor, alpha: float, beta: float
) -> torch.Tensor:
    """alpha × cross-entropy of the labels + beta × mean squared error to the teacher's logits.

    Logits are matched rather than probabilities (Ba & Caruana 2014, arXiv:1312.6184), as in the recipe of the
    FineCat-NLI models. Each row is centred first, the heads' and the teacher's: a number added to all three
    logits changes neither the probabilities nor the cross-entropy, so it says nothing that is worth learning.

    Args:
        logits (`torch.Tensor` of shape `(batch, 3)`): Of the heads.
        labels (`torch.Tensor` of shape `(batch,)`): Classes.
        teacher_logits (`torch.Tensor` of shape `(batch, 3)`): Of the same pairs, see the function below.
        alpha, beta (`float`): Weights of the two.
    """
    wanted = teacher_logits.to(logits)
    distance = mse_loss(
        logits - logits.mean(dim=-1, keepdim=True), wanted - wanted.mean(dim=-1, keepdim=True)
    )
    return alpha * cross_entropy(logits, labels) + beta * distance


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
    config = AutoConfig.from_pretrained(teacher, revision=revision, trust_remote_code=trust_remote_code)
    order = label_order(config, teacher, labels)
    # The commit that the name stands for today, so that tomorrow's does not get today's logits.
    revision = getattr(config, "_commit_hash", None) or revision
    identity = [
        _FORMAT,
        _digest(teacher),
        revision,
        order,
        dtype,
        base and _digest(base),
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
        judge = _Teacher(teacher, config, revision, dtype, base, trust_remote_code, device)
        _fill(logits, judge, pairs, order, batch_size)
        partial.rename(path)
        return np.array(logits)


def label_order(config: PretrainedConfig, teacher: str, labels: str | None = None) -> list[int]:
    """For entailment, neutral and contradiction, which of the teacher's classes it is.

    Raises:
        ValueError: it has not three classes, or neither it nor `labels` names them.
    """
    names = [str(config.id2label.get(index, f"LABEL_{index}")) for index in range(config.num_labels)]
    if len(names) != len(LABELS):
        raise ValueError(
            f"The teacher {teacher!r} has {len(names)} classes ({', '.join(names)}), and three are needed: "
            f"{', '.join(LABELS)}. Take a teacher that knows all of them."
        )
    given = [name.strip().lower() for name in (names if labels is None else labels.split(","))]
    if sorted(given) == sorted(LABELS):
        return [given.index(label) for label in LABELS]
    if labels is not None:
        raise ValueError(
            f"{labels!r} does not order the teacher's classes: write {', '.join(LABELS)} in its order, with "
            "commas between."
        )
    raise ValueError(
        f"The teacher {teacher!r} calls its classes {', '.join(names)}, which does not say which is which: "
        "give their order, which its model card may tell, as `labels` (`--teacher_labels`): for instance "
        "contradiction,entailment,neutral."
    )


class _Teacher:
    """A loaded classifier with its tokenizer: texts to logits."""

    def __init__(
        self,
        name: str,
        config: PretrainedConfig,
        revision: str | None,
        dtype: str,
        base: str | None,
        trust_remote_code: bool,
        device: torch.device,
    ):
        hub = {"revision": revision, "trust_remote_code": trust_remote_code}
        own = config.model_type == ModernBertNliConfig.model_type
        if own and base is None:
            base = quickstart.embedded_folder(config.base_model_name_or_path, config.base_model_revision)
        where = {"base_model_name_or_path": base} if own and base else {}
        model, info = AutoModelForSequenceClassification.from_pretrained(
            name, config=config, dtype=dtype, output_loading_info=True, **hub, **where
        )
        if info["missing_keys"]:  # transformers leaves these random
            raise ValueError(
                f"The teacher {name!r} is no trained classifier: it lacks {sorted(info['missing_keys'])[:3]}."
            )
        self.model = model.to(device).eval()
        encoder_config = config.encoder_config if own else config
        self.tokenizer = load_tokenizer(name, encoder_config, **hub)
        if self.tokenizer.pad_token is None:
            raise ValueError(
                f"The tokenizer of the teacher {name!r} has no padding token, which batches need."
            )
        self.window = max_pair_length(encoder_config, self.tokenizer)
        self.apart = own and config.encoding == "separate"

    @torch.inference_mode()
    def __call__(self, texts: list[tuple[str, str]], batch_size: int, bar: tqdm) -> np.ndarray:
        """Logits `(texts, 3)`, in the teacher's order."""
        tokens = encode_pairs(self.tokenizer, texts, self.window, self.apart)
        order = np.argsort([len(ids) for ids in tokens["input_ids"]], kind="stable")
        logits = np.empty((len(texts), len(LABELS)), np.float32)
        for rows in np.split(order, range(batch_size, len(order), batch_size)):
            batch = {key: [values[row] for row in rows] for key, values in tokens.items()}
            padded = self.tokenizer.pad(batch, return_tensors="pt").to(self.model.device)
            logits[rows] = self.model(**padded).logits.float().cpu().numpy()
            bar.update(len(rows))
        return logits


def _fill(logits: np.ndarray, judge: _Teacher, pairs: Pairs, order: list[int], batch_size: int) -> None:
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
                judged = judge([texts[row] for row in rows], batch_size, bar)
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


def _digest(teacher: str) -> str:
    """Of a repository, its name, which its revision completes; of a folder, what is in it."""
    if not Path(teacher).is_dir():
        return teacher
    digest = hashlib.sha256()
    for path in sorted(Path(teacher).iterdir()):
        if path.suffix in _READ_BY_THE_TEACHER and path.is_file():
            digest.update(f"{path.name} {path.stat().st_size} ".encode())
            with path.open("rb") as file:
                for block in iter(lambda: file.read(2**20), b""):
                    digest.update(block)
    return digest.hexdigest()
