"""Calibrations that tests make up, and what they do with them: pipelines, labelled pairs, `calibrate.py`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from conftest import PAIRS, make_model, rows

from modernbert_nli.calibrating import command as calibrate
from modernbert_nli.configuration_modernbert_nli import LABELS
from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel
from modernbert_nli.training.calibration import calibration_of


def table(thresholds: dict[float, float | None], **shown: float | None) -> list[dict]:
    """The rows of a guarantee with these thresholds by target; what else is shown of them is made up."""
    shown = {"coverage": 0.5, "risk": 0.01, **shown}
    nothing = dict.fromkeys(shown)
    return [
        {"target_risk": target, "threshold": threshold, **(nothing if threshold is None else shown)}
        for target, threshold in thresholds.items()
    ]


def entry(thresholds: dict[float, float | None] | None = None, scores: Any = None) -> dict:
    """A calibration for an encoding by heads that are always right, or with these thresholds by target."""
    scores = np.linspace(0.1, 0.6, 500) if scores is None else scores
    labels = (list(LABELS) * len(scores))[: len(scores)]
    found = calibration_of(np.zeros(len(scores)), scores, labels, ["set"])
    return found if thresholds is None else {**found, "table": table(thresholds)}


def calibrated(base: str, entry_of: Callable[[list[float]], dict], threshold: float = 0.5) -> Any:
    """A pipeline with a calibration for each encoding, made from the uncertainties of `PAIRS`, sorted."""
    model = make_model(base, "separate")
    plain, calibration = model.as_pipeline(), {}
    for encoding in ("separate", "joint"):
        results = plain(PAIRS, encoding=encoding)
        calibration[encoding] = entry_of(sorted(result["uncertainty"] for result in results))
    model.set_calibration(calibration, threshold)
    return model.as_pipeline()


def answered(results: list[dict]) -> int:
    return sum(not result["abstain"] for result in results)


def judged_rows(checkpoint: str, base: str, count: int) -> list[tuple[dict, dict]]:
    """Pairs, each with what a checkpoint says of it."""
    model = ModernBertNliModel.from_pretrained(checkpoint, base_model_name_or_path=base)
    pairs = rows(count)
    results = model.as_pipeline()([(row["premise"], row["hypothesis"]) for row in pairs])
    return list(zip(pairs, results, strict=True))


def calibrator(folder: Path, data: str, base: str) -> Callable[..., int]:
    """A function that calibrates a checkpoint as the command does: flags, and options by name."""

    def run(*flags: str, **options: Any) -> int:
        given = {"model": folder, "data": data, "base": base, "device": "cpu", **options}
        return calibrate.main(
            [*(word for key, value in given.items() for word in (f"--{key}", str(value))), *flags]
        )

    return run
