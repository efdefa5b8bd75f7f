"""What the cases of `speed.py` measure with: a base, heads and a classifier on it, and real pairs."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    ModernBertConfig,
    set_seed,
)

from modernbert_nli import embedded
from modernbert_nli.configuration_modernbert_nli import LABELS, ModernBertNliConfig
from modernbert_nli.loading import load_pipeline
from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel
from modernbert_nli.tokenization import load_tokenizer, max_pair_length

from .timing import Pairs

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "runs" / "speed"
BATCH_SIZE = 32
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
GEOMETRIES = {"base": (768, 1152, 22, 12), "large": (1024, 2624, 28, 16)}  # ModernBERT's, with random weights


@dataclass
class Setup:
    """What was asked for on the command line."""

    files: list[Path]
    geometry: str = "minilm"
    count: int = 600
    repetitions: int = 5
    device: str = "cpu"
    dtype: str = "float32"
    exported: Path | None = None
    soak: float = 0
    peak_tflops: float | None = None

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """All pairs of all files."""
        lines = [line for path in self.files for line in path.read_text(encoding="utf-8").splitlines()]
        return [json.loads(line) for line in lines]

    @cached_property
    def some(self) -> list[dict[str, Any]]:
        """As many of them as were asked for, from all over the files."""
        return self.rows[:: max(1, len(self.rows) // self.count)][: self.count]

    @property
    def pairs(self) -> Pairs:
        return [(row["premise"], row["hypothesis"]) for row in self.some]

    def folder(self, what: str) -> str:
        """Of the base, the heads, or the classifier; what is not there yet is made."""
        if self.geometry == "minilm" and what != "classifier":
            return str(embedded.base_folder() if what == "base" else embedded.CHECKPOINT)
        path = WORK / f"{self.geometry}-{what}"
        if not path.exists():
            set_seed(0)
            {"base": self._make_base, "heads": self._make_heads, "classifier": self._make_classifier}[what](
                path
            )
        return str(path)

    def _make_base(self, path: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(embedded.base_folder(), model_max_length=8192)
        special = {
            name: getattr(tokenizer, name) for name in ("pad_token_id", "cls_token_id", "sep_token_id")
        }
        sizes: dict[str, int] = dict(zip(_SIZES, GEOMETRIES[self.geometry], strict=True))
        sizes |= {"max_position_embeddings": 8192, "vocab_size": len(tokenizer)}
        AutoModel.from_config(ModernBertConfig(**sizes, **special)).save_pretrained(path)
        tokenizer.save_pretrained(path)

    def _make_heads(self, path: Path) -> None:
        base = self.folder("base")
        config = ModernBertNliConfig.from_base(
            f"local/{Path(base).name}", None, base, head_type="alignment", encoding="separate"
        )
        ModernBertNliModel.from_base(config).save_pretrained(path)

    def _make_classifier(self, path: Path) -> None:
        base = self.folder("base")
        labels = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
        model = AutoModelForSequenceClassification.from_pretrained(base, **labels)
        load_tokenizer(base, model.config).save_pretrained(path)
        model.save_pretrained(path)

    def pipeline(self, backend: str | None = None, dtype: str | None = None) -> Any:
        """Ours; with a backend, by the graphs of `exported`."""
        if backend:
            return load_pipeline(str(self.exported), self.folder("base"), backend=backend, device="cpu")
        how = {"base_model_name_or_path": self.folder("base"), "dtype": getattr(torch, dtype or self.dtype)}
        model = ModernBertNliModel.from_pretrained(self.folder("heads"), **how)
        return model.eval().as_pipeline(device=self.device)

    def classifier(self) -> tuple[Any, Any]:
        """A classifier of pairs on the same base, and its tokenizer."""
        path = self.folder("classifier")
        dtype = getattr(torch, self.dtype)
        model = AutoModelForSequenceClassification.from_pretrained(path, dtype=dtype).to(self.device)
        return model.eval(), AutoTokenizer.from_pretrained(path)


def in_batches(tokenizer: Any, pairs: Pairs, window: int | None = None) -> list[Any]:
    """Padded batches of pairs of like length."""
    pairs = sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1]))
    return [
        tokenizer(
            *map(list, zip(*pairs[start : start + BATCH_SIZE], strict=True)),
            padding=True,
            truncation="only_first",
            max_length=window,
            return_tensors="pt",
        )
        for start in range(0, len(pairs), BATCH_SIZE)
    ]


def window_of(nli: Any) -> int:
    """Tokens of the longest pair that a pipeline judges whole."""
    return max_pair_length(nli.model.config.encoder_config, nli.tokenizer)


def judge(nli: Any, pairs: Pairs, encoding: str) -> Any:
    """Judge pairs that are new: no text is known from before."""
    nli.texts.clear()
    return nli(pairs, encoding=encoding, batch_size=BATCH_SIZE)
