"""The published format, `task_heads.pt`, to a checkpoint of this project with the same logits."""

from pathlib import Path

import torch
from torch.nn import functional

from ..files import folder_aside
from ..modeling_modernbert_nli import ModernBertNliModel
from ..published_heads import from_head_file, read_heads

TOLERANCE = 1e-6
_PAIRS = (
    ("A man is playing guitar on stage.", "A person is making music."),
    ("It rains.", "The ground is wet."),
    ("The bridge opened in 1932, after a long delay.", "The bridge is new."),
)


def convert(
    heads: Path, output: Path, base: str, base_revision: str | None = None, base_folder: str | None = None
) -> float:
    """Write a checkpoint and load it again.

    Args:
        heads (`Path`): `.pt`, of which no code is run, or `.safetensors`.
        output (`Path`): A new folder.
        base (`str`), base_revision, base_folder (`str`, *optional*): See `from_head_file`.

    Returns:
        The greatest difference between its logits and those of the published layers, on a few pairs.

    Raises:
        OSError: the file or the base cannot be read, or the folder not be written.
        ValueError: the file holds something other than published heads, or the logits differ.
    """
    model = from_head_file(heads, base, base_revision, base_folder).eval()
    with folder_aside(output) as aside:
        model.save_pretrained(aside)
        again = ModernBertNliModel.from_pretrained(aside, encoder=model.encoder).eval()
        difference = _difference(again, read_heads(heads))
        if not difference <= TOLERANCE:  # nor is it no number
            raise ValueError(
                f"The logits of the checkpoint differ from those of {heads} by {difference:.2g}."
            )
    return difference


@torch.no_grad()
def _difference(model: ModernBertNliModel, heads: dict[str, torch.Tensor]) -> float:
    """Between the logits of a model and those of the layers as their file names them."""

    def linear(name: str, states: torch.Tensor) -> torch.Tensor:
        return functional.linear(states, heads[f"{name}.weight"].float(), heads[f"{name}.bias"].float())

    def block(name: str, states: torch.Tensor) -> torch.Tensor:
        states = linear(f"{name}.0", states)
        weight, bias = (heads[f"{name}.1.{part}"].float() for part in ("weight", "bias"))
        return functional.gelu(functional.layer_norm(states, weight.shape, weight, bias))

    differences = []
    tokenizer = model.load_tokenizer()
    for pair in _PAIRS:
        inputs = tokenizer(*pair, return_tensors="pt")
        hidden = block("nli_hidden", model(**inputs, mode="embed").float())
        logits = linear("nli_output", hidden)
        doubt = linear("abstention_head.4", block("abstention_head", torch.cat([hidden, logits], dim=-1)))
        for found, expected in zip(model(**inputs, mode="abstention"), (logits, doubt), strict=True):
            differences.append((found - expected).abs().flatten())
    return torch.cat(differences).max().item()  # NaN, if one of them is
