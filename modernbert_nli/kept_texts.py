"""What a pipeline has read of texts, kept for its next calls: only as long as the model is what it was.

A model changes in more ways than its counters tell: a fused optimizer step, weights moved by `.data`, an
adapter that is switched, a hook, autocast, a part that is replaced. So the heads' weights themselves are
compared before anything is used again, and nothing is kept at all while the result of a pass depends on more
than weights.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_modules

from .encoder import record_states
from .lora import add_update
from .states import StateCache, Text, TokenStates
from .texts import Ids, Known, ModernBertNliTexts

_CATEGORY_BYTES = 256 * 2**20  # some 5,000 categories, prepared
_OUR_HOOKS = (record_states, add_update)  # of which the second does nothing outside our own passes
# Where the modules of a model without adapters or quantization are defined, and what their weights are.
_PLAIN = ("torch.nn.modules.", "transformers.", f"{__name__.rpartition('.')[0]}.")
_PLAIN_TENSORS = (nn.Parameter, torch.Tensor, type(None))
_SAMPLE = 8  # numbers of each of the base's tensors, which are never trained, but may be replaced


class KeptTexts:
    """Texts as the heads know them, states of texts, and categories, each up to a number of bytes."""

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def clear(self) -> None:
        """Forget all texts."""
        self._kept = None

    def encode(self, model: ModernBertNliTexts, texts: Sequence[str], cut: bool = True) -> TokenStates:
        """As `model.encode`, which is asked for those texts alone that are not kept."""
        ids = model.token_ids(texts, cut)
        kept = self._of(model)
        states = _through(
            None if kept is None else kept.states, ids, lambda missing: model.encode_ids(missing)
        )
        return model.gather([states[row] for row in ids])

    def read(
        self, model: ModernBertNliTexts, texts: Sequence[str], batch_size: int = 32, cut: bool = True
    ) -> list[Text]:
        """As `model.read`, which is asked for those texts alone that are not kept."""
        ids = model.token_ids(texts, cut)
        known = self.project(model, ids, batch_size)
        return [known[row] for row in ids]

    def project(self, model: ModernBertNliTexts, ids: Sequence[Ids], batch_size: int) -> dict[Ids, Text]:
        """Each distinct text, given as its tokens, as the heads know it."""
        kept = self._of(model)
        return _through(
            None if kept is None else kept.texts, ids, lambda missing: model.project_ids(missing, batch_size)
        )

    def prepared(self, model: ModernBertNliTexts, key: Any, make: Callable[[], Known]) -> Known:
        """Texts that are to meet many others, made once for a key that tells them apart."""
        kept = self._of(model)
        return _through(None if kept is None else kept.prepared, [key], lambda _: {key: make()})[key]

    def _of(self, model: ModernBertNliTexts) -> "_Kept | None":
        """What is kept of the model as it is now; `None` where nothing may be."""
        if not is_plain_now(model):
            return None
        kept = self._kept
        if kept is None or not kept.holds(model):
            kept = self._kept = _Kept(model)
        return kept

    def __reduce__(self) -> Any:  # a copy of a pipeline has read nothing yet
        return type(self), ()


class _Kept:
    """What was made by a model, and the weights that it had then."""

    def __init__(self, model: ModernBertNliTexts):
        self.states, self.texts, self.prepared = StateCache(), StateCache(), StateCache(_CATEGORY_BYTES)
        self._made_by = _identity(model)
        self._heads = [tensor.detach().clone() for tensor in model.head_tensors()]
        self._views = [_sampled(tensor) for tensor in _tensors(model.encoder)]
        self._base = self._sample()

    def holds(self, model: ModernBertNliTexts) -> bool:
        return (
            self._made_by == _identity(model)
            and all(map(torch.equal, self._heads, model.head_tensors()))
            and torch.equal(self._base, self._sample())
        )

    def _sample(self) -> torch.Tensor:
        return torch.cat([view.double() for view in self._views]) if self._views else torch.empty(0)


def is_plain_now(model: ModernBertNliTexts) -> bool:
    """Whether a pass depends on weights and texts alone: not on hooks, adapters, dropout or autocast."""
    if torch.is_autocast_enabled(model.device.type) or _has_global_hooks():
        return False
    for module in _modules(model):
        if module.training or module._forward_pre_hooks or "forward" in vars(module):
            return False
        if not type(module).__module__.startswith(_PLAIN):
            return False
        for hook in module._forward_hooks.values():
            if not (isinstance(hook, partial) and hook.func in _OUR_HOOKS):
                return False
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if type(tensor) not in _PLAIN_TENSORS:
                return False
    return True


def _through(cache: StateCache | None, keys: Sequence[Any], make: Callable[[list[Any]], Any]) -> dict:
    """What a cache has for some keys, and what is made for the others, which it then keeps."""
    found = {key: None if cache is None else cache.get(key) for key in dict.fromkeys(keys)}
    missing = [key for key, value in found.items() if value is None]
    for key, value in make(missing).items() if missing else ():
        found[key] = value
        if cache is not None:
            cache.put(key, value)
    return found


def _identity(model: ModernBertNliTexts) -> tuple[Any, ...]:
    """What tells models apart that have the same weights: their parts, and how these are to be used."""
    config = model.config
    tensors = (
        (id(tensor), tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version, tensor.dtype)
        for tensor in _tensors(model.encoder)
    )
    layers = tuple((name, *read) for name, read in config.encoder_layers.items())
    return (id(model.encoder), model.device, config.sep_token_id, config.pad_token_id, layers, *tensors)


def _sampled(tensor: torch.Tensor) -> torch.Tensor:
    """A view of a few numbers of a tensor: it shows what becomes of them."""
    flat = tensor.detach().view(-1) if tensor.is_contiguous() else tensor.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // _SAMPLE)][:_SAMPLE]


def _modules(module: nn.Module) -> Iterator[nn.Module]:
    """As `module.modules()`, in a fraction of its time, for which each call of a router would wait."""
    yield module
    for child in module._modules.values():
        if child is not None:
            yield from _modules(child)


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    for part in _modules(module):
        for tensors in (part._parameters, part._buffers):
            yield from (tensor for tensor in tensors.values() if tensor is not None)


def _has_global_hooks() -> bool:
    return bool(torch_modules._global_forward_hooks or torch_modules._global_forward_pre_hooks)
