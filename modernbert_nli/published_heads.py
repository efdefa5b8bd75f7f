"""The published loader: from `task_heads.pt`, or a checkpoint of this project; and one pair at a time.

    from load_model import load_modernbert_nli, predict_with_abstention

    model, tokenizer = load_modernbert_nli("task_heads.pt")
    predict_with_abstention(model, tokenizer, premise="A man plays guitar.", hypothesis="He makes music.")

For many pairs use the pipeline, which judges them in batches: `model.as_pipeline(tokenizer)`.
"""

import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .configuration_modernbert_nli import DEFAULT_BASE, DEFAULT_BASE_REVISION, ModernBertNliConfig
from .modeling_modernbert_nli import ModernBertNliModel

_PREFIXES = ("nli_hidden.", "nli_output.", "abstention_head.")


def load_modernbert_nli(
    heads: str | os.PathLike = "task_heads.pt",
    base: str | None = None,
    device: str | torch.device | None = None,
    encoder: PreTrainedModel | None = None,
) -> tuple[ModernBertNliModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer.

    Args:
        heads (`str` or `os.PathLike`): A file of published heads, `.pt` (read with `weights_only=True`) or
            `.safetensors`, or a checkpoint of this project: a folder or repository id.
        base (`str`, *optional*): The base encoder, a repository id or folder. Defaults to ModernBERT-large
            for a file of heads, and to the base that a checkpoint names.
        device (`str` or `torch.device`, *optional*): Where the model goes.
        encoder (`PreTrainedModel`, *optional*): The base, already loaded; `base` says where its tokenizer is.

    Raises:
        OSError: a file, the checkpoint or the base cannot be read.
        ValueError: the file holds something other than published heads, or heads for another base.
    """
    if Path(heads).suffix in (".pt", ".safetensors"):
        model = from_head_file(Path(heads), base, encoder=encoder)
    else:
        where: dict[str, Any] = {} if base is None else {"base_model_name_or_path": base}
        model = ModernBertNliModel.from_pretrained(heads, encoder=encoder, **where)
    return model.to(device or model.device).eval(), model.load_tokenizer()


def predict_with_abstention(
    model: ModernBertNliModel,
    tokenizer: PreTrainedTokenizerBase,
    premise: str,
    hypothesis: str,
    threshold: float | None = None,
) -> dict[str, Any]:
    """Judge one pair.

    Args:
        model (`ModernBertNliModel`), tokenizer (`PreTrainedTokenizerBase`): From `load_modernbert_nli`.
        premise (`str`), hypothesis (`str`): The pair.
        threshold (`float`, *optional*): Abstain from this uncertainty upwards; defaults to the checkpoint's.

    Returns:
        `dict`: `label`; `confidence`, its probability; `abstain`; `uncertainty`, 0 to 1; `probs`, by label.
    """
    return model.as_pipeline(tokenizer, device=model.device)(premise, hypothesis, threshold=threshold)


def read_heads(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file of published heads, by name.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds anything but those tensors. No code in it is run.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    try:
        heads = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        )
    except pickle.UnpicklingError as error:
        # Of torch's text the cause alone: it goes on to recommend to run the code.
        cause = re.search(r"WeightsUnpickler error:\s*(.+?)(\. |\n|$)", str(error))
        raise ValueError(
            f"{path} was refused: it is no file of tensors, or asks for code to be run"
            f"{f' ({cause[1]})' if cause else ''}. None of it was run."
        ) from None
    except Exception as error:  # a broken file fails in as many ways as it can be broken
        raise OSError(f"{path} cannot be read: it is truncated or of another format ({error}).") from error
    if not isinstance(heads, dict) or not all(isinstance(value, torch.Tensor) for value in heads.values()):
        raise ValueError(f"{path} is no flat dictionary of tensors.")
    unknown = sorted(str(key) for key in heads if not str(key).startswith(_PREFIXES))
    if unknown or not all(any(key.startswith(prefix) for key in heads) for prefix in _PREFIXES):
        raise ValueError(
            f"{path} holds no published heads: their names begin with {', '.join(_PREFIXES)}"
            + (f", but it has {unknown[:3]}." if unknown else ", and it has not all of them.")
        )
    return heads


def from_head_file(
    path: Path,
    base: str | None = None,
    base_revision: str | None = None,
    base_folder: str | None = None,
    encoder: PreTrainedModel | None = None,
) -> ModernBertNliModel:
    """A model from a file of published heads.

    Args:
        path (`Path`): See `read_heads`.
        base (`str`, *optional*), base_revision (`str`, *optional*): The base that the heads belong to, and
            its commit. Defaults to ModernBERT-large.
        base_folder (`str`, *optional*): A local copy of it, read instead of the Hub.
        encoder (`PreTrainedModel`, *optional*): The base, already loaded.

    Raises:
        OSError: the file or the base cannot be read.
        ValueError: the file holds something other than published heads, or heads for another base.
    """
    heads = read_heads(path)
    try:
        nli_hidden_size, hidden_size = heads["nli_hidden.0.weight"].shape
        sizes: dict[str, Any] = {
            "nli_hidden_size": nli_hidden_size,
            "abstention_hidden_size": heads["abstention_head.0.weight"].shape[0],
        }
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path} holds no published heads: its first layers are not where they belong ({error})."
        ) from None
    base = base or DEFAULT_BASE
    if base == DEFAULT_BASE:
        base_revision = base_revision or DEFAULT_BASE_REVISION
    if (base, base_revision, base_folder) == (DEFAULT_BASE, DEFAULT_BASE_REVISION, None):
        config = ModernBertNliConfig(**sizes)  # its shape is known: nothing has to be asked for
    else:
        config = ModernBertNliConfig.from_base(base, base_revision, base_folder, **sizes)
    if config.hidden_size != hidden_size:
        raise ValueError(
            f"{path} holds heads for an encoder of width {hidden_size}, but the width of "
            f"{config.base_model_name_or_path!r} is {config.hidden_size}: name their own base."
        )
    model = ModernBertNliModel.from_base(config, encoder=encoder)
    try:
        missing, unexpected = model.load_state_dict(heads, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold the published layers: {error}") from None
    missing = [key for key in missing if key.startswith(_PREFIXES)]
    if missing or unexpected:
        raise ValueError(
            f"{path} does not hold the published layers: missing {missing}, unknown {unexpected}."
        )
    return model
