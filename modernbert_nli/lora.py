"""A low-rank update of the base for NLI alone (LoRA, Hu et al. 2022, arXiv:2106.09685), beside the heads.

On while states are made that the heads read, off for everything else: the base's weights are never touched,
so that embeddings stay, bit for bit, those of the plain base. `train.py --adapter lora` trains it, with this
very code; it is stored with the heads, and peft is needed for neither.

`adapter` in the configuration says where it is:

    {"rank": 16, "alpha": 32, "targets": {"encoder.layer.0.attention.self.query": [384, 384], …}}
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import nn


class LowRank(nn.Module):
    """The update of one linear layer: two matrices, whose product is 0 at first.

    Args:
        size_in, size_out (`int`): Of the layer.
        rank (`int`): Of the product.
    """

    def __init__(self, size_in: int, size_out: int, rank: int):
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, size_in) * size_in**-0.5)
        self.up = nn.Parameter(torch.zeros(size_out, rank))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states.to(self.down.dtype) @ self.down.T @ self.up.T


class LowRankAdapter(nn.Module):
    """The updates of all layers that `adapter` of a configuration names.

    Args:
        rank (`int`), alpha (`float`): The update is scaled by `alpha / rank`.
        targets (`Mapping`): By the path of a linear layer in the base, its sizes (out, in).
    """

    def __init__(self, rank: int, alpha: float, targets: Mapping[str, Any]):
        super().__init__()
        self.scale = alpha / rank
        # A dot would be a level of modules.
        updates = {path.replace(".", "/"): LowRank(size[1], size[0], rank) for path, size in targets.items()}
        self.updates = nn.ModuleDict(updates)
        self.requires_grad_(False)  # until a training says otherwise

    @property
    def trains(self) -> bool:
        """Whether what is computed with it now is learnt from."""
        return torch.is_grad_enabled() and any(update.requires_grad for update in self.parameters())

    def install(self, encoder: nn.Module) -> None:
        """Let the layers of a base be updated while this adapter (or another) is `applied`.

        Raises:
            ValueError: the base has no such layers, as where ONNX Runtime runs it.
        """
        modules = dict(encoder.named_modules())
        for path in (name.replace("/", ".") for name in self.updates):
            layer = modules.get(path)
            if layer is None:
                raise ValueError(
                    f"The adapter of these heads updates {path!r}, which this base does not have: load the "
                    "base that they name, by torch."
                )
            hooks = layer._forward_hooks.values()
            if not any(isinstance(hook, partial) and hook.func is add_update for hook in hooks):
                layer.register_forward_hook(partial(add_update, path.replace(".", "/")))

    def digest(self) -> str:
        """SHA-256 of its weights: what the states that it makes depend on."""
        digest = hashlib.sha256(str(self.scale).encode())
        for name, tensor in sorted(self.state_dict().items()):
            values = tensor.detach().cpu().float().contiguous().reshape(-1)
            digest.update(name.encode() + values.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


# Which adapter is on, in this thread: one base may carry those of several heads.
_applied: ContextVar[LowRankAdapter | None] = ContextVar("_applied", default=None)


@contextmanager
def applied(adapter: LowRankAdapter | None) -> Iterator[None]:
    """Within, the base that it was installed in computes with this adapter."""
    token = _applied.set(adapter)
    try:
        yield
    finally:
        _applied.reset(token)


def add_update(name: str, _layer: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor | None:
    adapter = _applied.get()
    if adapter is None or name not in adapter.updates:
        return None
    return output + (adapter.updates[name](args[0]) * adapter.scale).to(output.dtype)


def low_rank(encoder: nn.Module, layers: nn.ModuleList, last: int, rank: int) -> dict[str, Any]:
    """`adapter` of a configuration for all linear layers of a base's first blocks.

    Args:
        encoder (`nn.Module`): The base.
        layers (`nn.ModuleList`): Its blocks.
        last (`int`): How many of them the heads' states are made by.
        rank (`int`): Of each update.
    """
    within = {id(module) for block in layers[:last] for module in block.modules()}
    targets = {
        path: [module.out_features, module.in_features]
        for path, module in encoder.named_modules()
        if id(module) in within and isinstance(module, nn.Linear)
    }
    return {"rank": rank, "alpha": 2 * rank, "targets": targets}
