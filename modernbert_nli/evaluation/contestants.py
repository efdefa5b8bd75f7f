"""Contestants behind one interface: pairs in, logits of entailment, neutral and contradiction out.

    for contestant in contestants(parse_model("ours=seed-1,seed-2?base=folder")):
        contestant.judge(pairs, encoding=None, batch_size=32)

A model is named `[name=]checkpoint[,checkpoint...][?option=value&...]`; several checkpoints are seeds of one
model. What kind it is is read from its configuration, but for a CrossEncoder, which is asked for.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, PretrainedConfig

from ..cloze import ClozeClassifier
from ..configuration_modernbert_nli import LABELS, ModernBertNliConfig
from ..loading import load_pipeline, register
from ..tokenization import load_tokenizer
from ..training.classifier import PairClassifier, digest_of, label_order
from ..training.report import head_parameters

KINDS = ("heads", "sequence-classification", "cross-encoder", "cloze")
_OPTIONS = ("kind", "labels", "base", "revision")


@dataclass(frozen=True)
class Model:
    """What one item of `--models` names."""

    text: str
    name: str
    checkpoints: tuple[str, ...]  # folders or repository ids, one for each seed
    kind: str | None = None
    labels: str | None = None  # its classes in its own order, by commas, where its configuration errs
    base: str | None = None  # for heads: where their base is, if not on the Hub
    revision: str | None = None


@dataclass
class ContestantOutput:
    """What a contestant says of pairs."""

    logits: np.ndarray  # (pairs, 3), float32: entailment, neutral, contradiction
    uncertainty: np.ndarray | None  # (pairs,), of a contestant that has one beside 1 - MaxProb


def parse_model(text: str) -> Model:
    """Read an item of `--models`.

    Raises:
        ValueError: an option that there is not, or no checkpoint.
    """
    where, _, query = text.partition("?")
    name, equals, places = where.partition("=")
    checkpoints = tuple(place for place in (places if equals else where).split(",") if place)
    options = {}
    for part in query.split("&") if query else ():
        key, _, value = part.partition("=")
        if key not in _OPTIONS or not value:
            raise ValueError(
                f"{text}: {part!r} is no option of a model: give {', '.join(_OPTIONS)}, each a value."
            )
        options[key] = value
    if options.get("kind", KINDS[0]) not in KINDS:
        raise ValueError(f"{text}: the kinds are {', '.join(KINDS)}.")
    if not checkpoints or (equals and not name):
        raise ValueError(f"{text!r} names no model: write a folder or repository id, or name=folder,folder.")
    if not equals:
        name = Path(checkpoints[0]).name
    return Model(text, name, checkpoints, **options)


class Contestant:
    """A checkpoint that judges pairs; its weights are loaded when it first does."""

    kind: str
    fine_tuned = True  # the whole encoder was trained for the task
    encodings: tuple[str | None, ...] = (None,)
    threshold: float | None = None  # it abstains from this uncertainty upwards

    def __init__(self, model: Model, checkpoint: str, config: dict[str, Any], device: str | None):
        self.model, self.checkpoint, self.config = model, checkpoint, config
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        noted = Path(checkpoint) / "results.json"  # what our training programs leave there
        self.noted: dict[str, Any] = json.loads(noted.read_text()) if noted.is_file() else {}

    @property
    def base(self) -> dict[str, Any] | None:
        """Name and revision of the pretrained encoder, where they are known."""
        return self.noted.get("base")

    @property
    def trained_parameters(self) -> int | None:
        """How many were trained for the task, where that is known."""
        raise NotImplementedError

    @property
    def tokenizer(self) -> Any:
        """With which to count tokens."""
        raise NotImplementedError

    def identity(self) -> list[Any]:
        """All that its judgements depend on."""
        base = self.model.base and digest_of(self.model.base)
        return [self.kind, digest_of(self.checkpoint), self.model.revision, base, self.model.labels]

    def judge(
        self, pairs: Sequence[tuple[str, str]], encoding: str | None, batch_size: int
    ) -> ContestantOutput:
        """Judge pairs, in their order.

        Raises:
            PairError: one that is no pair of texts, or too long; its position is named.
        """
        raise NotImplementedError

    def unload(self) -> None:
        """Let go of the weights: the next model needs the room."""
        for loaded in ("pipe", "classifier", "encoder"):
            self.__dict__.pop(loaded, None)

    @cached_property
    def _parsed_config(self) -> PretrainedConfig:
        register()  # checkpoints of this project are loaded by the code that is here
        return AutoConfig.from_pretrained(self.checkpoint, **self._hub)

    @property
    def _hub(self) -> dict[str, Any]:
        return {"revision": self.model.revision} if self.model.revision else {}


class Heads(Contestant):
    """A checkpoint of this project, the published design (the CLS head) among them."""

    kind = "heads"
    fine_tuned = False

    def __init__(self, *args: Any):
        super().__init__(*args)
        own = ModernBertNliConfig.from_dict(dict(self.config))
        self.encodings = tuple(own.encoder_layers)
        self.threshold = own.abstention_threshold
        self._base = {"name": own.base_model_name_or_path, "revision": own.base_model_revision}

    @property
    def base(self) -> dict[str, Any] | None:
        return self._base

    @cached_property
    def pipe(self) -> Any:
        """The pipeline, loaded."""
        return load_pipeline(self.checkpoint, self.model.base, self.model.revision, self.device)

    @property
    def trained_parameters(self) -> int | None:
        return head_parameters(self.pipe.model)

    @property
    def tokenizer(self) -> Any:
        return self.pipe.tokenizer

    def judge(
        self, pairs: Sequence[tuple[str, str]], encoding: str | None, batch_size: int
    ) -> ContestantOutput:
        self.pipe.texts.clear()  # or what was judged before would make this look faster
        results = self.pipe(list(pairs), encoding=encoding, batch_size=batch_size)
        probabilities = np.array([[result["probs"][label] for label in LABELS] for result in results])
        logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)).astype(np.float32)
        return ContestantOutput(logits, np.array([result["uncertainty"] for result in results]))


class Classifier(Contestant):
    """One that has its three classes in an order of its own."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.order = label_order(self._parsed_config, self.checkpoint, self.model.labels)


class SequenceClassifier(Classifier):
    """Any three-way classifier of pairs that `AutoModelForSequenceClassification` loads."""

    kind = "sequence-classification"

    @cached_property
    def classifier(self) -> PairClassifier:
        """The model and its tokenizer, loaded."""
        where = (self.model.revision, "float32", None, False, torch.device(self.device))
        return PairClassifier(self.checkpoint, self._parsed_config, *where)

    @property
    def trained_parameters(self) -> int | None:
        return self.classifier.model.num_parameters()

    @property
    def tokenizer(self) -> Any:
        return self.classifier.tokenizer

    def judge(
        self, pairs: Sequence[tuple[str, str]], encoding: str | None, batch_size: int
    ) -> ContestantOutput:
        return ContestantOutput(self.classifier(pairs, batch_size)[:, self.order], None)


class CrossEncoderPeer(Classifier):
    """The same checkpoints through `sentence_transformers.CrossEncoder`."""

    kind = "cross-encoder"

    @cached_property
    def encoder(self) -> Any:
        """The CrossEncoder, loaded."""
        try:
            from sentence_transformers import CrossEncoder
        except ImportError:
            raise ValueError(
                "`?kind=cross-encoder` needs sentence-transformers, which is not installed: run "
                "`pip install sentence-transformers`."
            ) from None
        return CrossEncoder(self.checkpoint, device=self.device, **self._hub)

    @property
    def trained_parameters(self) -> int | None:
        return sum(parameter.numel() for parameter in self.encoder.parameters())

    @property
    def tokenizer(self) -> Any:
        return self.encoder.tokenizer

    def judge(
        self, pairs: Sequence[tuple[str, str]], encoding: str | None, batch_size: int
    ) -> ContestantOutput:
        options = {"activation_fn": torch.nn.Identity(), "show_progress_bar": False}
        logits = self.encoder.predict(list(pairs), batch_size=batch_size, **options)
        return ContestantOutput(np.asarray(logits, np.float32)[:, self.order], None)


class Cloze(Contestant):
    """A masked language model, whose answer is read at [MASK]."""

    kind = "cloze"
    fine_tuned = False

    @cached_property
    def classifier(self) -> ClozeClassifier:
        """The model and its tokenizer, loaded."""
        return ClozeClassifier.from_pretrained(self.checkpoint, device_map=self.device, **self._hub)

    @property
    def trained_parameters(self) -> int | None:
        return None  # what its publisher trained, and on what, is not in its files

    @property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.checkpoint, self._parsed_config, **self._hub)

    def judge(
        self, pairs: Sequence[tuple[str, str]], encoding: str | None, batch_size: int
    ) -> ContestantOutput:
        return ContestantOutput(self.classifier.nli_log_probs(pairs, batch_size).numpy(), None)


_CLASSES: dict[str, type[Contestant]] = {
    contestant.kind: contestant for contestant in (Heads, SequenceClassifier, CrossEncoderPeer, Cloze)
}


def contestants(model: Model, device: str | None = None) -> Iterator[Contestant]:
    """One contestant for each checkpoint of a model; their kinds must agree.

    Raises:
        OSError: a checkpoint cannot be reached.
        ValueError: it is of no kind known here, or its labels cannot be told apart.
    """
    hub = {"revision": model.revision} if model.revision else {}
    for checkpoint in model.checkpoints:
        config = PretrainedConfig.get_config_dict(checkpoint, **hub)[0]
        if not config:
            raise OSError(
                f"{checkpoint!r} is no folder with a config.json, and no repository that can be reached."
            )
        kind = model.kind or _kind_of(config, checkpoint)
        yield _CLASSES[kind](model, checkpoint, config, device)


def _kind_of(config: dict[str, Any], checkpoint: str) -> str:
    if config.get("model_type") == ModernBertNliConfig.model_type:
        return "heads"
    architectures = [str(name) for name in config.get("architectures") or ()]
    if any(name.endswith("ForSequenceClassification") for name in architectures):
        return "sequence-classification"
    if any(name.endswith("ForMaskedLM") for name in architectures):
        return "cloze"
    raise ValueError(
        f"{checkpoint!r} is no model that judges pairs: its config.json names the architectures "
        f"{', '.join(architectures) or 'none'}. Choose how it is used by `?kind=`: {', '.join(KINDS)}."
    )


def public_name(checkpoint: str) -> str:
    """A checkpoint as results name it: a path from here, and of a folder elsewhere the last part."""
    if not os.path.isdir(checkpoint):
        return checkpoint
    path = os.path.relpath(checkpoint)
    return Path(path).name if path.startswith("..") else path
