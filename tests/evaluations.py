"""Results files as the programs of this repository write them, small and invented, for tests of the page."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from modernbert_nli.training.calibration import calibration_of

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c636060606000000005000195b7a2ed0000000049454e44ae426082"
)


def spread(mean: float) -> dict[str, float]:
    """A figure over seeds, with its interval."""
    return {"mean": mean, "sd": 0.01, "low": mean - 0.02, "high": mean + 0.02}


def result(model: str, name: str, accuracy: float, encoding: str | None = None) -> dict[str, Any]:
    """A row of `results`; one with an encoding has a score to abstain by."""
    selective = {key: spread(0.5) for key in ("aurc", "coverage", "selective_accuracy", "ece", "brier")}
    selective["coverage"] = None if model == "others" else selective["coverage"]
    f1 = {key: spread(accuracy - 0.01) for key in ("f1_macro", "f1_micro")}
    own = {"encoding": encoding, "selective": selective if encoding else None, "per_class": {}}
    return {"model": model, "set": name, "accuracy": spread(accuracy), **f1, **own}


def evaluation(base: dict[str, str], checkpoint: str = "checkpoints/mine") -> dict[str, Any]:
    """evaluation.json of a checkpoint beside a fully fine-tuned model and the heads of somebody else."""
    snli = {"id": "stanfordnlp/snli", "name": "SNLI", "config": "plain_text", "split": "test"}

    def model(kind: str, **kwargs: Any) -> dict[str, Any]:
        known = {"base": None, "checkpoint": kind, "trained_parameters": None, "fine_tuned": False}
        return {"kind": kind, **known, "seeds": [1], **kwargs}

    return {
        "date": "2026-11-21",
        "command": "python evaluate_nli.py --output_dir docs/results",
        "threads": 2,
        "versions": {"torch": "2.13.0"},
        "sets": {
            "snli_test": {"pairs": 4912, "dataset": {**snli, "revision": "c" * 40}},
            "local": {"pairs": 300, "dataset": None},
        },
        "models": {
            "ours": model(
                "heads", base=base, checkpoint=checkpoint, trained_parameters=12_345, seeds=[1, 2, 3]
            ),
            "tuned": model("sequence-classification", trained_parameters=395_000_000, fine_tuned=True),
            "others": model("heads", base={"name": "other/base", "revision": "b" * 40}),
        },
        "results": [
            result("ours", "snli_test", 0.81, "separate"),
            result("ours", "local", 0.61, "separate"),
            result("ours", "snli_test", 0.82, "joint"),
            result("ours", "local", 0.62, "joint"),
            result("tuned", "snli_test", 0.91),
            result("tuned", "local", 0.71),
            result("others", "snli_test", 0.99, "joint"),
        ],
        "speed": None,
    }


def write_evaluation(folder: Path, results: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(results))
    (folder / "risk_coverage.png").write_bytes(PNG)
    return folder


def training_results(base: dict[str, str]) -> dict[str, Any]:
    """results.json, as far as the page reads it."""
    figures = ("accuracy", "coverage", "selective_accuracy", "aurc", "aurc_max_prob")
    measured = {"pairs": 500, **dict.fromkeys(figures, 0.5), "selective_accuracy": None}
    return {
        "date": "2026-11-20",
        "command": "python train.py --train_data snli mine.jsonl --output_dir runs/mine",
        "base": base,
        "seed": 7,
        "train": {"snli": 1000, "mine": 50},
        "pairs": {"fitted": 900, "held_out": 100, "calibration": 50},
        "evaluation": {"hans": {"separate": measured}},
        "versions": {"torch": "2.13.0"},
    }


def calibration() -> dict[str, Any]:
    """`calibration` of a configuration: 4,000 pairs whose errors are as frequent as they are uncertain."""
    draw = np.random.default_rng(0)
    uncertainty = draw.uniform(0, 0.5, 4000)
    errors = draw.uniform(size=4000) < uncertainty
    labels = draw.choice(["entailment", "neutral", "contradiction"], 4000).tolist()
    entry = calibration_of(errors, uncertainty, labels, ["held"], 0.1)
    return {"separate": entry, "joint": entry}
