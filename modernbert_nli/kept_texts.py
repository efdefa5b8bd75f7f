"""What a pipeline has read of texts, kept for its next calls: only as long as the model is what it was.

A model changes in more ways than its counters tell: a fused optimizer step, weights moved by `.data`, an
adapter that is switched, a hook, autocast, a part that is replaced. So the heads' weights themselves are
compared before anything is used again, and nothing is kept at all while the result of a pass depends on more
than weights.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from operator import is_, itemgetter, methodcaller
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules import module as torch_modules

from .separate import Ids, PreparedTexts, encode_ids, gathered, project_ids, token_ids
from .states import StateCache, Text, TokenStates

if TYPE_CHECKING:
    from .modeling_modernbert_nli import ModernBertNliModel

_BYTES = (64 * 2**20, 64 * 2**20, 256 * 2**20)  # of states, texts, and some 5,000 categories
# Where the modules of a model without adapters or quantization are defined, and what their weights are.
_OURS = f"{__name__.rpartition('.')[0]}."
_PLAIN = ("torch.nn.modules.", "transformers.", _OURS)
_PLAIN_TENSORS = (nn.Parameter, torch.Tensor, type(None))
_CONTENTS = ("_modules", "_parameters", "_buffers", "_forward_hooks", "_forward_pre_hooks")
_SAMPLE = 8  # numbers of each of the base's tensors, which are never trained, but may be replaced


class KeptTexts:
    """The texts that a pipeline's model has read."""

    def __init__(self) -> None:
        self._kept: ModelTexts | None = None

    def of(self, model: "ModernBertNliModel") -> "ModelTexts":
        """Those of a model as it is now: to be asked for anew by each call."""
        kept = self._kept
        if kept is not None and kept.is_of(model):
            return kept
        if not is_plain_now(model):
            return ModelTexts(model, keep=False)
        self._kept = ModelTexts(model)
        return self._kept

    def clear(self) -> None:
        """Forget all texts."""
        self._kept = None

    def __reduce__(self) -> Any:  # a copy of a pipeline has read nothing yet
        return type(self), ()


class ModelTexts:
    """Texts as the heads of a model know them, states of texts, and categories: each made once.

    Args:
        model (`ModernBertNliModel`): As it is now.
        keep (`bool`): Whether what is made is kept, up to a number of bytes, and found again.
    """

    def __init__(self, model: "ModernBertNliModel", keep: bool = True):
        self._model = model
        self._states, self._texts, self._prepared = (StateCache(room if keep else 0) for room in _BYTES)
        self._snapshot = _Snapshot(model) if keep else None

    def is_of(self, model: "ModernBertNliModel") -> bool:
        """Whether what is kept is what the model would make of the same texts."""
        return self._snapshot is not None and self._snapshot.shows(model)

    def encode(self, texts: Sequence[str], cut: bool = True) -> TokenStates:
        """As `separate.encode`, which is asked for those texts alone that are not kept."""
        ids = token_ids(self._model, texts, cut)
        states = _through(self._states, ids, partial(encode_ids, self._model))
        return gathered(self._model, [states[row] for row in ids])

    def read(self, texts: Sequence[str], batch_size: int = 32, cut: bool = True) -> list[Text]:
        """As `separate.read`, which is asked for those texts alone that are not kept."""
        ids = token_ids(self._model, texts, cut)
        known = self.project(ids, batch_size)
        return [known[row] for row in ids]

    def project(self, ids: Sequence[Ids], batch_size: int) -> dict[Ids, Text]:
        """Each distinct text, given as its tokens, as the heads know it."""
        return _through(self._texts, ids, partial(project_ids, self._model, batch_size=batch_size))

    def prepared(self, key: Any, make: Callable[[], PreparedTexts]) -> PreparedTexts:
        """Texts that are to meet many others, made once for a key that tells them apart."""
        return _through(self._prepared, [key], lambda _: {key: make()})[key]


class _Snapshot:
    """A model as it was when a pass depended on its weights and its texts alone.

    Each call waits for the comparison, so that nothing here walks through modules one by one in Python.
    """

    def __init__(self, model: "ModernBertNliModel"):
        modules = list(model.modules())
        self._model, self._setting, self._modules = model, _setting(model), modules
        self._classes = list(map(type, modules))
        self._own = list(map(vars, modules))
        self._sizes = list(map(len, self._own))  # another `forward`, say
        self._contents = list(self._of_each())
        self._full = [content for content in self._contents if content]
        self._empty = [content for content in self._contents if not content]
        self._values = tuple(self._inside())
        base = [*model.encoder.parameters(), *model.encoder.buffers()]
        heads = list(model.head_tensors())
        self._tensors = [*base, *heads]
        self._pointers = self._places()
        self._views = [_sampled(tensor) for tensor in base]
        self._sample = _joined(self._views)
        self._heads = list(map(_bits, heads))
        self._known_heads = [bits.clone() for bits in self._heads]

    def shows(self, model: "ModernBertNliModel") -> bool:
        """Whether it is that model, and still the same."""
        return (
            model is self._model
            and not _is_overlaid(model)
            and self._setting == _setting(model)
            and self._has_the_same_parts()
            and self._pointers == self._places()
            and torch.equal(self._sample, _joined(self._views))
            and all(map(torch.equal, self._heads, self._known_heads))
        )

    def _has_the_same_parts(self) -> bool:
        """Modules, parameters, hooks: the very same objects, none in training."""
        return (
            self._sizes == list(map(len, self._own))
            and not any(map(itemgetter("training"), self._own))
            and all(map(is_, self._classes, map(type, self._modules)))
            and all(map(is_, self._contents, self._of_each()))
            and not any(self._empty)
            and len(self._values) == sum(map(len, self._full))
            and all(map(is_, self._values, self._inside()))
        )

    def _of_each(self) -> chain[Any]:
        return chain.from_iterable(map(itemgetter(*_CONTENTS), self._own))

    def _inside(self) -> chain[Any]:
        return chain.from_iterable(map(methodcaller("values"), self._full))

    def _places(self) -> list[tuple[int, int, torch.dtype]]:
        """Where tensors are, and how often they were changed as far as they count that."""
        return [
            (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version, tensor.dtype)
            for tensor in self._tensors
        ]


def is_plain_now(model: "ModernBertNliModel") -> bool:
    """Whether a pass depends on weights and texts alone: not on hooks, adapters, dropout or autocast."""
    if _is_overlaid(model):
        return False
    for module in model.modules():
        if module.training or module._forward_pre_hooks or "forward" in vars(module):
            return False
        if not type(module).__module__.startswith(_PLAIN):
            return False
        for hook in module._forward_hooks.values():
            if not (isinstance(hook, partial) and hook.func.__module__.startswith(_OURS)):
                return False
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if type(tensor) not in _PLAIN_TENSORS:
                return False
    return True


def _through(cache: StateCache, keys: Sequence[Any], make: Callable[[list[Any]], Any]) -> dict[Any, Any]:
    """What a cache has for some keys, and what is made for the others, which it then keeps."""
    found = {key: cache.get(key) for key in dict.fromkeys(keys)}
    missing = [key for key, value in found.items() if value is None]
    for key, value in make(missing).items() if missing else ():
        found[key] = value
        cache.put(key, value)
    return found


def _setting(model: "ModernBertNliModel") -> tuple[Any, ...]:
    """What else states depend on."""
    config = model.config
    layers = tuple((name, *read) for name, read in config.encoder_layers.items())
    return (id(model.encoder), config.sep_token_id, config.pad_token_id, layers)


def _sampled(tensor: torch.Tensor) -> torch.Tensor:
    """A view of a few numbers of a tensor: it shows what becomes of them."""
    flat = tensor.detach().view(-1) if tensor.is_contiguous() else tensor.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // _SAMPLE)][:_SAMPLE]


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """A view of a tensor in which equal is what has the same bits, and is told in a third of the time."""
    if not tensor.is_contiguous():
        return tensor.detach()
    eight = tensor.nbytes % 8 == 0
    return tensor.detach().view(-1).view(torch.int64 if eight else torch.uint8)


def _joined(views: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat(list(views)) if views else torch.empty(0)


def _is_overlaid(model: "ModernBertNliModel") -> bool:
    """Whether autocast or hooks of all modules change what comes out."""
    hooks = torch_modules._global_forward_hooks or torch_modules._global_forward_pre_hooks
    return bool(hooks) or torch.is_autocast_enabled(model.device.type)
