"""A sample of what heads were fitted to, as they summarise it: see `replay.py`."""

import numpy as np
import torch

from ..modeling_modernbert_nli import ModernBertNliModel
from ..replay import MOST_BYTES, ReplaySample, summariser
from .states import PairStates, collate

_BATCH = 64
_ROOM_FOR_NAMES = 4096  # bytes of the file's header


def replay_sample_of(model: ModernBertNliModel, fitted: PairStates, seed: int) -> ReplaySample:
    """As many pairs as the file may hold, at random, each in one of the encodings.

    Args:
        model (`ModernBertNliModel`): Whose heads summarise them.
        fitted (`PairStates`): What they were fitted to, a pair as often as it was seen in an epoch.
        seed (`int`): Of the draw.
    """
    rows = np.random.default_rng(seed).permutation(len(fitted))
    encodings = list(fitted.encoded)
    found: dict[str, torch.Tensor] = {}
    labels: dict[str, torch.Tensor] = {}
    for number, encoding in enumerate(encodings):
        part = fitted.only(encoding)
        size = summaries_of_states(model, part, encoding, rows[:1]).shape[1] + 4 + 1  # a scale, and the label
        most = (MOST_BYTES - _ROOM_FOR_NAMES) // size // len(encodings)
        own = rows[number :: len(encodings)][:most]
        found[encoding] = summaries_of_states(model, part, encoding, own)
        labels[encoding] = torch.from_numpy(fitted.labels[own]).long()
    return ReplaySample(found, labels, summariser(model.head_state(), model.config))


@torch.no_grad()
def summaries_of_states(
    model: ModernBertNliModel, pairs: PairStates, encoding: str, rows: np.ndarray
) -> torch.Tensor:
    """Some pairs in one encoding, as the heads of a model summarise them, (pairs, size).

    Args:
        model (`ModernBertNliModel`): Whose heads.
        pairs (`PairStates`): In that encoding alone.
        encoding (`str`): Its name.
        rows (`np.ndarray`): Numbers of the pairs.
    """
    was_training = model.training
    model.eval()
    parts: list[torch.Tensor] = []
    for start in range(0, len(rows), _BATCH):
        batch = collate(pairs.__getitems__(rows[start : start + _BATCH].tolist()))
        layers = [layer.to(model.heads_device) for layer in batch["encoder_states"][encoding].unbind(dim=1)]
        segments = batch["segments"][encoding].to(model.heads_device)
        summaries = model.nli_hidden.summary(model.project(layers, encoding), segments)
        parts.append(summaries.float().cpu())
    model.train(was_training)
    return torch.cat(parts)
