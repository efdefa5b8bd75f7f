"""Selective prediction: what the answers of a classifier are worth that may decline to answer.

    metric = evaluate.load("modernbert_nli/metrics/selective_prediction")
    metric.compute(predictions=[0, 1, 2], references=[0, 1, 1], uncertainty=[0.1, 0.2, 0.7], threshold=0.5)

Risk is the share of wrong answers among those accepted, coverage the share of answers accepted. Answers are
accepted from the least uncertain upwards, those with equal uncertainty together, whatever the order of the
input.
"""

from typing import Any

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """\
How well a classifier tells its own errors: areas under the risk-coverage curve (AURC, E-AURC, AUGRC), AUROC \
of error detection, risk at a coverage and coverage at a risk, calibration (ECE, Brier), and what abstaining \
from an uncertainty upwards costs and brings. Answers with equal uncertainty are accepted together.
"""

_INPUTS = """
Args:
    predictions (`list[int]`): The label that was answered, of each pair or text.
    references (`list[int]`): The right label.
    uncertainty (`list[float]`): Any score that is higher where the answer is likelier to be wrong.
    confidences (`list[float]`): Instead of it, a score that is lower there; taken as `1 - confidences`.
    probabilities (`list[list[float]]`, *optional*): Of all classes, (n, classes): for ECE and Brier score.
    threshold (`float`, *optional*): Abstain where the uncertainty reaches it.

Returns:
    accuracy: of all answers.
    aurc, e_aurc, augrc: areas under the risk-coverage curves, lower is better.
    error_auroc: how often a wrong answer is more uncertain than a right one; `None` without one of each.
    risk_at_80_coverage: risk of the least uncertain answers that are at least 80 %.
    coverage_at_5_risk, coverage_at_10_risk: the greatest coverage with no more risk; 0 where there is none.
    ece, brier: given `probabilities`.
    coverage, selective_accuracy, abstention_precision, abstention_recall, abstention_f1: given `threshold`.
        The last three judge "abstain" as a detector of errors. `None` where there is nothing to divide by.

Examples:
    >>> metric = evaluate.load("modernbert_nli/metrics/selective_prediction")
    >>> results = metric.compute(
    ...     predictions=[0, 1, 2, 0], references=[0, 1, 1, 0], uncertainty=[0.1, 0.2, 0.7, 0.6], threshold=0.5
    ... )
    >>> results["coverage"], results["selective_accuracy"], results["abstention_precision"]
    (0.5, 1.0, 0.5)
"""

_CITATION = """\
@inproceedings{geifman2019bias,
  title={Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers},
  author={Geifman, Yonatan and Uziel, Guy and El-Yaniv, Ran},
  booktitle={International Conference on Learning Representations},
  year={2019},
  url={https://arxiv.org/abs/1805.08206}
}
@inproceedings{traub2024overcoming,
  title={Overcoming Common Flaws in the Evaluation of Selective Classification Systems},
  author={Traub, Jeremias and Bungert, Till J. and L{\\"u}th, Carsten T. and Baumgartner, Michael and
          Maier-Hein, Klaus H. and Maier-Hein, Lena and Jaeger, Paul F.},
  booktitle={Advances in Neural Information Processing Systems},
  year={2024},
  url={https://arxiv.org/abs/2407.01032}
}
"""

BINS = 15


def risk_coverage(errors: np.ndarray, uncertainty: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and selective risk, (n,) each, where each answer in turn is the last to be accepted.

    Args:
        errors (`np.ndarray` of shape `(n,)`): 1 for a wrong answer, 0 for a right one.
        uncertainty (`np.ndarray` of shape `(n,)`): Equal ones share a point of the curve.
    """
    order = np.argsort(uncertainty, kind="stable")
    ordered = np.asarray(uncertainty)[order]
    accepted = np.searchsorted(ordered, ordered, side="right")
    return accepted / len(order), np.cumsum(np.asarray(errors)[order])[accepted - 1] / accepted


def aurc(errors: np.ndarray, uncertainty: np.ndarray) -> float:
    """Area under the risk-coverage curve: the mean risk over all answers as the last to be accepted.

    As Geifman et al. 2019 (arXiv:1805.08206) define it for a sample.
    """
    return float(risk_coverage(errors, uncertainty)[1].mean())


def e_aurc(errors: np.ndarray, uncertainty: np.ndarray) -> float:
    """AURC beyond that of the best order of these answers, right ones first (the same paper); at least 0."""
    best = aurc(np.sort(errors), np.arange(len(errors)))
    return aurc(errors, uncertainty) - best


def augrc(errors: np.ndarray, uncertainty: np.ndarray) -> float:
    """Area under the generalised risk-coverage curve (Traub et al. 2024, arXiv:2407.01032).

    Generalised risk is the share of all answers that are accepted and wrong. The curve begins at (0, 0) and
    is straight between its points: the area is (1 - AUROC) · accuracy · error + error² / 2, also with ties.
    """
    coverage, risk = risk_coverage(errors, uncertainty)
    coverage, both = np.append(0, coverage), np.append(0, coverage * risk)
    return float((np.diff(coverage) * (both[1:] + both[:-1])).sum() / 2)


def error_auroc(errors: np.ndarray, uncertainty: np.ndarray) -> float | None:
    """How often a wrong answer is more uncertain than a right one, ties as half; `None` without both."""
    wrong = np.asarray(errors).astype(bool)
    of_wrong, of_right = np.asarray(uncertainty)[wrong], np.sort(np.asarray(uncertainty)[~wrong])
    if not len(of_wrong) or not len(of_right):
        return None
    below, up_to = (np.searchsorted(of_right, of_wrong, side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(of_right)))


def risk_at_coverage(errors: np.ndarray, uncertainty: np.ndarray, target: float) -> float:
    """Risk of the least uncertain answers, as few as make up the target coverage."""
    coverage, risk = risk_coverage(errors, uncertainty)
    return float(risk[np.argmax(coverage >= target)])


def coverage_at_risk(errors: np.ndarray, uncertainty: np.ndarray, target: float) -> float:
    """The greatest coverage whose risk is at most the target, 0 where there is none."""
    coverage, risk = risk_coverage(errors, uncertainty)
    return float(coverage[risk <= target].max(initial=0))


def expected_calibration_error(errors: np.ndarray, confidence: np.ndarray, bins: int = BINS) -> float:
    """Mean distance of confidence and accuracy over equally wide bins, weighted by size (arXiv:1706.04599).

    Args:
        errors (`np.ndarray` of shape `(n,)`): 1 for a wrong answer.
        confidence (`np.ndarray` of shape `(n,)`): Probability of the label that was answered.
        bins (`int`): A bin holds its upper end, the first one both of its ends.
    """
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, weights=confidence - (1 - np.asarray(errors)), minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def brier_score(probabilities: np.ndarray, references: np.ndarray) -> float:
    """Squared distance of probabilities, (n, classes), from the right answer, summed over classes: 0 to 2."""
    right = np.eye(probabilities.shape[1])[references]
    return float(((probabilities - right) ** 2).sum(axis=1).mean())


def abstention(errors: np.ndarray, uncertainty: np.ndarray, threshold: float) -> dict[str, float | None]:
    """What abstaining from an uncertainty upwards brings, and how well "abstain" finds the errors.

    Returns:
        `coverage` and `selective_accuracy` of the answers given; `abstention_precision`, the share of errors
        among the answers withheld; `abstention_recall`, the share of errors withheld; `abstention_f1`. `None`
        where there is nothing to divide by.
    """
    wrong, withheld = np.asarray(errors).astype(bool), np.asarray(uncertainty) >= threshold
    caught = int((wrong & withheld).sum())
    return {
        "coverage": float((~withheld).mean()),
        "selective_accuracy": _share(int((~wrong & ~withheld).sum()), int((~withheld).sum())),
        "abstention_precision": _share(caught, int(withheld.sum())),
        "abstention_recall": _share(caught, int(wrong.sum())),
        "abstention_f1": _share(2 * caught, int(wrong.sum() + withheld.sum())),
    }


def figures(
    errors: np.ndarray, uncertainty: np.ndarray, threshold: float | None = None
) -> dict[str, float | None]:
    """All figures that need no probabilities, by the names that the description of the metric gives them."""
    found: dict[str, float | None] = {
        "accuracy": float(1 - np.mean(errors)),
        "aurc": aurc(errors, uncertainty),
        "e_aurc": e_aurc(errors, uncertainty),
        "augrc": augrc(errors, uncertainty),
        "error_auroc": error_auroc(errors, uncertainty),
        "risk_at_80_coverage": risk_at_coverage(errors, uncertainty, 0.8),
        "coverage_at_5_risk": coverage_at_risk(errors, uncertainty, 0.05),
        "coverage_at_10_risk": coverage_at_risk(errors, uncertainty, 0.1),
    }
    return found if threshold is None else {**found, **abstention(errors, uncertainty, threshold)}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class SelectivePrediction(evaluate.Metric):
    """Selective prediction, for `evaluate.load`."""

    def _info(self) -> evaluate.MetricInfo:
        columns = {
            "predictions": datasets.Value("int64"),
            "references": datasets.Value("int64"),
            "uncertainty": datasets.Value("float64"),
            "probabilities": datasets.Sequence(datasets.Value("float64")),
        }
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(columns),
            reference_urls=["https://arxiv.org/abs/1805.08206", "https://arxiv.org/abs/2407.01032"],
        )

    def compute(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> Any:
        """Compute all figures, of what is given here or was added before."""
        if predictions is not None:
            kwargs = _columns(kwargs, [[]] * len(predictions))
        return super().compute(predictions=predictions, references=references, **kwargs)

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Add a batch of answers."""
        kwargs = _columns(kwargs, [[]] * len(predictions))
        super().add_batch(predictions=predictions, references=references, **kwargs)

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """Add an answer."""
        super().add(prediction=prediction, reference=reference, **_columns(kwargs, []))

    def _compute(
        self,
        predictions: Any,
        references: Any,
        uncertainty: Any,
        probabilities: Any,
        threshold: float | None = None,
    ) -> dict[str, float | None]:
        predictions, references = np.array(predictions), np.array(references)
        uncertainty = np.array(uncertainty)
        if np.isnan(uncertainty).any():
            raise ValueError(f"The uncertainty of answer {np.isnan(uncertainty).argmax()} is not a number.")
        errors = predictions != references
        found = figures(errors, uncertainty, threshold)
        if any(len(row) for row in probabilities):
            probabilities = _checked(probabilities, max(predictions.max(), references.max()))
            confidence = probabilities[np.arange(len(predictions)), predictions]
            found["ece"] = expected_calibration_error(errors, confidence)
            found["brier"] = brier_score(probabilities, references)
        return found


def _columns(given: dict[str, Any], no_probabilities: list[Any]) -> dict[str, Any]:
    """Every input that `evaluate` stores must be there: those that may be left out are filled in."""
    given = dict(given)
    if given.get("confidences") is not None:
        if given.get("uncertainty") is not None:
            raise ValueError("Give `uncertainty` or `confidences`, not both.")
        given["uncertainty"] = 1 - np.asarray(given["confidences"], dtype=float)
    given.pop("confidences", None)
    if given.get("uncertainty") is None:
        raise ValueError("Give `uncertainty`, or `confidences`: without them no answer can be ranked.")
    if given.get("probabilities") is None:
        given["probabilities"] = no_probabilities
    return given


def _checked(probabilities: Any, greatest_label: int) -> np.ndarray:
    classes = len(probabilities[0])
    if any(len(row) != classes for row in probabilities) or classes <= greatest_label:
        raise ValueError(
            "`probabilities` need a number for each class of every answer, got "
            f"{sorted({len(row) for row in probabilities})} numbers with a label {greatest_label}."
        )
    probabilities = np.array(probabilities)
    if not ((probabilities >= 0).all() and np.allclose(probabilities.sum(axis=1), 1, atol=1e-3)):
        raise ValueError("`probabilities` must be at least 0 and sum to 1 for every answer: logits do not.")
    return probabilities
