"""A sample of what the heads learnt from, so that adapting them to other text can keep what they knew.

It holds no texts: of each pair the summary that its label is concluded from (see `heads.py`),
in int8, and the label. `train.py` writes it beside the heads, as `replay.safetensors`, of at most 1 MiB. It
fits all heads that summarise pairs as those did that it was made by, adapted ones among them.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

FILES = ("replay.safetensors", "home.safetensors")  # the latter is version 0.2's
MOST_BYTES = 2**20
_FORMAT, _OLD_FORMAT = "modernbert_nli.replay_sample", "modernbert_nli.home"


@dataclass
class ReplaySample:
    """Pairs in one of their encodings each.

    Args:
        summaries (`dict[str, torch.Tensor]`): By encoding, (pairs, size).
        labels (`dict[str, torch.LongTensor]`): By encoding, (pairs,): classes, or `num_labels` for "any but
            entailment".
        summarised_by (`str`): See `summariser`.
    """

    summaries: dict[str, torch.Tensor]
    labels: dict[str, torch.Tensor]
    summarised_by: str

    def __len__(self) -> int:
        return sum(map(len, self.labels.values()))

    def save(self, folder: str | os.PathLike) -> None:
        """Write the file into the folder of a checkpoint, aside first."""
        tensors = {f"{encoding}.labels": labels.to(torch.int8) for encoding, labels in self.labels.items()}
        for encoding, values in self.summaries.items():
            scale = (values.abs().amax(dim=1, keepdim=True) / 127).clamp_min(1e-12)
            tensors[f"{encoding}.nli"] = (values / scale).round().to(torch.int8)
            tensors[f"{encoding}.nli.scale"] = scale.float()
        path = Path(folder) / FILES[0]
        aside = path.with_name(f"{path.name}.partial")
        save_file(tensors, aside, {"format": _FORMAT, "summarised_by": self.summarised_by})
        aside.replace(path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "ReplaySample":
        """Read such a file.

        Raises:
            OSError: it is truncated or of another format.
        """
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise OSError(f"{path} is truncated or of another format: {error}") from error
        if metadata.get("format") not in (_FORMAT, _OLD_FORMAT):
            raise OSError(
                f"{path} holds no sample of what heads learnt from: train them again, or remove it."
            )
        encodings = [key.partition(".")[0] for key in tensors if key.endswith(".labels")]
        summaries = {
            encoding: tensors[f"{encoding}.nli"].float() * tensors[f"{encoding}.nli.scale"]
            for encoding in encodings
        }
        labels = {encoding: tensors[f"{encoding}.labels"].long() for encoding in encodings}
        return cls(summaries, labels, metadata["summarised_by"])


def summariser(heads: Mapping[str, torch.Tensor], config: Any) -> str:
    """What tells heads that summarise pairs alike: SHA-256 of all weights before the summary, and the layers.

    Args:
        heads (`Mapping[str, torch.Tensor]`): By name, as in `model.safetensors`.
        config (`ModernBertNliConfig`): Their configuration.
    """
    digest = hashlib.sha256(f"{config.head_type} {sorted(config.encoder_layers.items())}".encode())
    for name, tensor in sorted(heads.items()):
        part = name.split(".")
        before = part[0] == "nli_hidden" and config.head_type != "cls" and part[1] != "aggregation"
        if before or part[0] == "adapter":
            values = tensor.detach().cpu().float().contiguous().reshape(-1)
            digest.update(name.encode() + values.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
