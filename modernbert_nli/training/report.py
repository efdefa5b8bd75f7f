"""What a run says at its end."""

import resource
import sys
from typing import Any

import psutil
import torch
from transformers import TrainerCallback

from ..modeling_modernbert_nli import ModernBertNliModel


def report(results: dict[str, Any], folder: str) -> str:
    """What was trained, on what, how good it is, what it took, and what to type next."""
    fitted, held_out = results["pairs"]["fitted"], results["pairs"]["held_out"]
    lines = [
        f"\n{results['parameters']:,} parameters of heads on {results['base']['name']}, fitted to {fitted:,} "
        f"pairs of {', '.join(results['train'])}; {held_out:,} held out.",
        f"\n{'set':<40} {'pairs':>7} {'accuracy':>9} {'coverage':>9} {'selective accuracy':>19}",
    ]
    for name, encodings in {"held out": results["held_out"], **results["evaluation"]}.items():
        for encoding, row in encodings.items():
            selective = (
                "none given" if row["selective_accuracy"] is None else f"{row['selective_accuracy']:.1%}"
            )
            shown = f"{row['accuracy']:>9.1%} {row['coverage']:>9.1%} {selective:>19}"
            lines.append(f"{name + ', ' + encoding:<40} {row['pairs']:>7,} {shown}")
    took = ", ".join(f"{name} {seconds:,.0f} s" for name, seconds in results["seconds"].items())
    memory = ", ".join(f"{size / 1e9:.1f} GB {what}" for what, size in results["peak_memory"].items())
    lines.append(f"\nTook: {took}. Memory at most: {memory}.")
    lines.append(f"Saved in {folder}. Try it: python predict.py --model {folder} PREMISE HYPOTHESIS")
    return "\n".join(lines)


def head_parameters(model: ModernBertNliModel) -> int:
    """Parameters of the heads, which are all that a checkpoint stores."""
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith("encoder."))


class MemoryWatch(TrainerCallback):
    """The most memory that a run took, sampled whenever Trainer logs or evaluates."""

    def __init__(self) -> None:
        self.private = 0

    def sample(self) -> None:
        """Look now: for what Trainer does not see."""
        info = psutil.Process().memory_info()
        # What is mapped of the state cache is resident too, but the system takes it back when it is needed.
        self.private = max(self.private, info.rss - getattr(info, "shared", 0))

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        self.sample()

    def on_evaluate(self, *args: Any, **kwargs: Any) -> None:
        self.sample()

    def peak(self) -> dict[str, int]:
        """Bytes: of this process alone, with what it mapped of the state cache, and of its GPU."""
        self.sample()
        unit = 1 if sys.platform == "darwin" else 1024
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        peak = {"of its own": self.private, "with mapped states": resident}
        if torch.cuda.is_available():
            peak["of the GPU"] = torch.cuda.max_memory_allocated()
        return peak
