"""What tells a base and its tokenizer from others of the same shape: what they make of a fixed short input.

The configuration keeps it as `base_fingerprint`:

    {"precision": "float32", "states": {"2": "0.412 -1.203 …", "4": …}, "tokens": "9f86d081884c"}

`states` has numbers of each layer that the heads read, `tokens` a digest of what the tokenizer gives.
Rounding moves the numbers by up to 0.02 (bfloat16) or 0.04 (int8 weights); another base, or this one with an
adapter or after a few steps of training, moves them further.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from .encoder import EncoderMismatch, layer_states, runs_graphs

if TYPE_CHECKING:
    from .modeling_modernbert_nli import ModernBertNliModel

_TOKENS = 16  # of the input, spread over the vocabulary: no tokenizer is needed for them
_NUMBERS = 8  # of each layer
# How far the numbers may be apart, by the coarser precision of the two: the root mean square of a difference,
# where that of the numbers themselves is about 1.
_TOLERANCE = {"float32": 0.005, "float16": 0.08, "int8": 0.15}
_TEXTS = ("The café's 2 dogs won't eat 1,250 g of naïve food.", "Nobody has met Anna in Paris since 1999?")

HOW = "python calibrate.py --model CHECKPOINT --data HELD_OUT_PAIRS"


def fixed_input(vocab_size: int) -> torch.Tensor:
    """The input, `(1, tokens)`."""
    return torch.tensor([[vocab_size * step // (_TOKENS + 1) for step in range(1, _TOKENS + 1)]])


def precision_of(encoder: Any) -> str:
    """`"float32"` (or better), `"float16"` (or bfloat16), or `"int8"` for whatever is quantised."""
    if hasattr(encoder, "int8"):  # an `OnnxEncoder`
        return "int8" if encoder.int8 else "float32"
    found = [getattr(module, "weight", None) for module in encoder.modules()]
    weights: list[Any] = [
        weight for weight in found if weight is not None and not isinstance(weight, nn.Module)
    ]
    if any(type(weight) not in (torch.Tensor, nn.Parameter) for weight in weights):
        return "int8"
    kinds = {weight.dtype for weight in weights}
    if not all(kind.is_floating_point and kind.itemsize > 1 for kind in kinds):
        return "int8"
    return "float32" if all(kind.itemsize >= 4 for kind in kinds) else "float16"


@torch.no_grad()
def fingerprint_of(model: "ModernBertNliModel") -> dict[str, Any] | None:
    """What tells the base of a model, as it is now, from others. One short pass.

    `None` where it has no weights to ask, on the device "meta", or its graph gives no states.
    """
    encoder = model.encoder
    layers = sorted({layer for read in model.config.encoder_layers.values() for layer in read})
    graphs = runs_graphs(encoder)
    if graphs:
        layers = model.config.encoder_layers.get("separate", [])
    elif any(part.is_meta for part in encoder.parameters()):
        # None, unless accelerate fetches them for each call.
        layers = layers if any(hasattr(part, "_hf_hook") for part in encoder.modules()) else []
    if not layers:
        return None
    ids = fixed_input(model.config.vocab_size).to(model.heads_device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.autocast(ids.device.type, enabled=False):
        if graphs:
            states = list(encoder.states(inputs, "separate").unbind(dim=1))
        else:
            states, _ = layer_states(encoder, layers, inputs, model.is_hooked, whole=False)
    numbers = numbers_of({layer: rows[0] for layer, rows in zip(layers, states, strict=True)})
    return {"precision": precision_of(encoder), "states": numbers}


def changed_base(model: "ModernBertNliModel") -> str | None:
    """Whether the base of a model is another than its heads': a sentence, or None."""
    known = model.config.base_fingerprint
    found = fingerprint_of(model) if known else None
    if known is None or found is None or same_base(known, found):
        return None
    apart, allowed = distance(known, found)
    return (
        f"is not, or no longer, the {model.config.base_model_name_or_path!r} that these heads know: what "
        f"it makes of a fixed input is {apart:.1%} off, and {allowed:.1%} may be rounding"
    )


def require_base(model: "ModernBertNliModel") -> None:
    """See `ModernBertNliModel.require_base`."""
    known = model.config.base_fingerprint
    if known is None and not runs_graphs(model.encoder):  # a checkpoint of version 0.2
        model.config.base_fingerprint = fingerprint_of(model)
    if known is None or "int8" in (known["precision"], precision_of(model.encoder)):
        return
    if problem := changed_base(model):
        raise EncoderMismatch(
            f"The encoder {problem}. Load the base that the heads name, with no adapter in it; or put "
            "new heads on this one, by `ModernBertNliModel.from_base`."
        )


def numbers_of(states: Mapping[int, torch.Tensor]) -> dict[str, str]:
    """By layer, what is kept of its states, `(tokens, hidden_size)`: random projections of all of them."""
    found = {}
    for layer, tokens in states.items():
        flat = nn.functional.layer_norm(tokens.cpu().double(), tokens.shape[-1:]).flatten()
        numbers = _projections(len(flat)) @ flat
        found[str(layer)] = " ".join(f"{number:.3f}" for number in numbers.tolist())
    return found


@lru_cache(maxsize=2)
def _projections(size: int) -> torch.Tensor:
    """As good as random, `(numbers, size)`, and the same in every release and on every machine."""
    rates = 0.6 + torch.arange(_NUMBERS, dtype=torch.float64) / math.pi
    squares = torch.arange(size, dtype=torch.float64) ** 2
    return (rates[:, None] * squares).cos() * (2 / size) ** 0.5


def tokens_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """A digest of what a tokenizer makes of two fixed texts, special tokens included."""
    ids = tokenizer(*_TEXTS)["input_ids"]
    return hashlib.sha256(str(ids).encode()).hexdigest()[:12]


def distance(known: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[float, float]:
    """How far two fingerprints are apart, in the layers that both have, and how far they may be."""
    pairs = [(known["states"][layer], found["states"].get(layer)) for layer in known["states"]]
    apart = 0.0
    for one, other in pairs:
        if other is not None:
            sides = [torch.tensor([float(number) for number in text.split()]) for text in (one, other)]
            apart = max(apart, (sides[0] - sides[1]).square().mean().sqrt().item())
    return apart, max(_TOLERANCE[each["precision"]] for each in (known, found))


def same_base(known: Mapping[str, Any] | None, found: Mapping[str, Any] | None) -> bool:
    """Whether two fingerprints may be of one base and tokenizer; where one is not known, they may."""
    if not known or not found:
        return True
    apart, allowed = distance(known, found)
    same_tokens = known.get("tokens", found.get("tokens")) == found.get("tokens", known.get("tokens"))
    return apart <= allowed and same_tokens


def heads_digest(heads: Mapping[str, torch.Tensor], config: Any) -> str:
    """What tells heads from all others: a SHA-256 of their tensors and of all else that makes `uncertainty`.

    Which texts are judged at all (`Familiarity`) is no part of it: more undecided pairs end no guarantee.

    Args:
        heads (`Mapping[str, torch.Tensor]`): By name, as in `model.safetensors`.
        config (`ModernBertNliConfig`): Their configuration.
    """
    how = {"abstention_weight": float(config.abstention_weight), "encoder_layers": config.encoder_layers}
    digest = hashlib.sha256(json.dumps(how, sort_keys=True).encode())
    judging = [item for item in heads.items() if not item[0].startswith("familiarity.")]
    for name, tensor in sorted(judging):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def stale(config: Any, digest: str) -> str | None:
    """What is wrong with the `calibration` and threshold of a configuration for the heads of this digest."""
    if config.calibrated_heads is None and config.calibration:
        return f"does not say which heads it was made for, so that it guarantees nothing. Calibrate: {HOW}"
    if config.calibrated_heads not in (None, digest):
        return (
            "was made for other heads: these were trained or changed since, so that it guarantees nothing. "
            f"Calibrate them: {HOW}"
        )
    return None
