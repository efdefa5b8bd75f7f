"""Tokens to states: the frozen base encoder, loaded from its own repository and left as it is there."""

import logging as std_logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

Backend = Literal["torch", "onnx", "onnx-int8", "openvino"]  # what runs the base
BACKENDS: tuple[Backend, ...] = get_args(Backend)


class EncoderMismatch(ValueError):
    """The encoder is not the one that these heads belong to."""


def runs_graphs(encoder: Any) -> bool:
    """Whether it is an `OnnxEncoder`, of this code or of a checkpoint's own."""
    return hasattr(encoder, "judge_pairs")


def load_encoder(config: PretrainedConfig, **kwargs: Any) -> PreTrainedModel:
    """Load the base that a configuration names, or its override for this load.

    Args:
        config (`ModernBertNliConfig`): Configuration of the heads.
        **kwargs: Arguments of `AutoModel.from_pretrained` (dtype, device_map, attn_implementation, token, …).

    Raises:
        OSError: the base cannot be reached or read.
        EncoderMismatch: weights are missing, or its shape differs from the heads'.
        ValueError: `trust_remote_code`, for which a checkpoint could not ask again.
    """
    if kwargs.pop("trust_remote_code", False):
        raise ValueError(
            "A base that runs code of its own cannot be loaded again with its heads: leave out "
            "`trust_remote_code`, and take a base whose class transformers has."
        )
    name, revision = config.base_place
    try:
        with _quiet_load_report():
            encoder, info = AutoModel.from_pretrained(
                name, revision=revision, output_loading_info=True, trust_remote_code=False, **kwargs
            )
    except OSError as error:
        at = f" --revision {revision}" if revision else ""
        raise OSError(
            f"The frozen base encoder {name!r} (revision {revision or 'main'}) could not be loaded, and this "
            f"checkpoint stores the heads alone. Once online, run `hf download {name}{at}`; or give a local "
            f"copy as `base_model_name_or_path=<folder>`, or a loaded one as `encoder=`. The cause: {error}"
        ) from error
    # Otherwise transformers fills what is missing with random numbers. No pooler is ever read.
    missing = [key for key in info["missing_keys"] if "pooler" not in key]
    if missing or info.get("mismatched_keys"):
        raise EncoderMismatch(
            f"The base {name!r} is incomplete: {len(missing)} weights are missing, such as "
            f"{sorted(missing)[:3]}. Download it again, or name the right folder or repository."
        )
    check_encoder(encoder, config)
    return encoder


def check_encoder(encoder: PreTrainedModel, config: PretrainedConfig) -> None:
    """Raise `EncoderMismatch` where an encoder's shape differs from the one that the heads were made for."""
    for key in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size"):
        expected, found = getattr(config.encoder_config, key, None), getattr(encoder.config, key, None)
        if expected != found:
            raise EncoderMismatch(
                f"These heads were made for {config.base_model_name_or_path!r} with {key} = {expected}, but "
                f"{encoder.config._name_or_path!r} has {key} = {found}: load the base that the heads name."
            )


@contextmanager
def _quiet_load_report() -> Iterator[None]:
    """Hide that a masked-language-model checkpoint has a `head` and a `decoder`, which no encoder loads.

    A filter, because a raised level on this logger switches on an unrelated warning.
    """
    logger = std_logging.getLogger("transformers.modeling_utils")

    def hide(record: std_logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger.addFilter(hide)
    try:
        yield
    finally:
        logger.removeFilter(hide)


# Where the hooks of one call put what they see; None outside a call. A ContextVar keeps threads apart.
_recording: ContextVar[dict[int, torch.Tensor] | None] = ContextVar("_recording", default=None)
_stop_after: ContextVar[int | None] = ContextVar("_stop_after", default=None)


class _Stop(Exception):
    """Raised by the last layer that is needed: the layers above it are not run."""


# Their layers pad or transpose what they return, which only the model itself puts right.
_OWN_SHAPES = ("longformer", "xlnet", "canine", "funnel", "led", "big_bird")


def install_hooks(encoder: PreTrainedModel, layers: Sequence[int]) -> bool:
    """Let `layer_states` see the outputs of these layers; false where they cannot be told apart."""
    stack = layer_stack(encoder)
    if stack is None or encoder.config.model_type in _OWN_SHAPES:
        return False
    for layer in sorted(set(layers)):
        if 0 < layer < len(stack):
            hooks = stack[layer - 1]._forward_hooks.values()
            # One encoder can carry many heads, one after the other.
            if not any(isinstance(hook, partial) and hook.func is record_states for hook in hooks):
                stack[layer - 1].register_forward_hook(partial(record_states, layer))
    return True


def record_states(layer: int, _module: nn.Module, _args: Any, output: Any) -> None:
    recording = _recording.get()
    if recording is not None:
        recording[layer] = output[0] if isinstance(output, tuple) else output
        if _stop_after.get() == layer:
            raise _Stop


def layer_stack(encoder: PreTrainedModel) -> nn.ModuleList | None:
    """The blocks of a base, or `None` where they cannot be told."""
    depth = encoder.config.num_hidden_layers
    stacks = [
        module for module in encoder.modules() if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    return stacks[0] if len(stacks) == 1 else None


def layer_states(
    encoder: PreTrainedModel,
    layers: Sequence[int],
    inputs: dict[str, Any],
    hooked: bool,
    whole: bool,
    learns: bool = False,
) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """Run the frozen encoder and keep the states of some layers.

    Args:
        encoder (`PreTrainedModel`): The base, after `install_hooks`.
        layers (`Sequence[int]`): `k` is the k-th layer's output, 0 the embeddings, the last
            one `last_hidden_state`.
        inputs (`dict`): Arguments of the encoder's forward.
        hooked (`bool`): What `install_hooks` returned.
        whole (`bool`): Run all layers. Otherwise those above the last one needed are left out.
        learns (`bool`, *optional*): Let a loss flow back, into an adapter.

    Returns:
        One tensor of shape (batch, tokens, hidden_size) for each layer, and `last_hidden_state` if all layers
        ran.
    """
    depth = encoder.config.num_hidden_layers
    with torch.set_grad_enabled(learns):
        if set(layers) == {depth}:
            last = encoder(**inputs).last_hidden_state
            return [last] * len(layers), last
        # The compiler cannot trace context variables and exceptions; embeddings have no hook.
        if not hooked or 0 in layers or torch.compiler.is_compiling():
            output = encoder(**inputs, output_hidden_states=True)
            # Not in every release is the last of the hidden states the one after the final norm.
            states = {depth: output.last_hidden_state}
            return [states.get(layer, output.hidden_states[layer]) for layer in layers], states[depth]
        recording: dict[int, torch.Tensor] = {}
        tokens = _recording.set(recording), _stop_after.set(None if whole else max(layers))
        try:
            recording[depth] = encoder(**inputs).last_hidden_state
        except _Stop:
            pass
        finally:
            _recording.reset(tokens[0])
            _stop_after.reset(tokens[1])
        return [recording[layer] for layer in layers], recording.get(depth)
