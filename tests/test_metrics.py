"""Selective prediction: figures that no order of the answers changes, and that agree with other programs."""

import json
import re
import socket

import evaluate
import numpy as np
import pytest
import yaml
from conftest import PACKAGE, ROOT
from hypothesis import given
from hypothesis import strategies as st

from modernbert_nli.metrics.selective_prediction import selective_prediction as metric_file
from modernbert_nli.metrics.selective_prediction.selective_prediction import (
    abstention,
    augrc,
    aurc,
    brier_score,
    coverage_at_risk,
    e_aurc,
    error_auroc,
    expected_calibration_error,
    figures,
    risk_at_coverage,
    risk_coverage,
)
from modernbert_nli.training import metrics as training_metrics
from modernbert_nli.training.metrics import decisions, max_prob_uncertainty

FOLDER = PACKAGE / "metrics" / "selective_prediction"
ANSWERS = {"predictions": [0, 1, 2, 0], "references": [0, 1, 1, 0], "uncertainty": [0.1, 0.2, 0.7, 0.6]}

answers = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=30)  # with many ties


def arrays(outcomes) -> tuple[np.ndarray, np.ndarray]:
    """Errors and uncertainty."""
    return np.array([wrong for wrong, _ in outcomes]), np.array([step / 7 for _, step in outcomes])


@pytest.fixture
def metric(monkeypatch):
    """The metric, as `evaluate` loads it where nothing can be reached."""

    def refuse(*_):
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return evaluate.load(str(FOLDER), keep_in_memory=True)


def test_it_loads_offline_and_answers_by_name(metric):
    """All figures for plain lists, as numbers that JSON knows."""
    results = metric.compute(**ANSWERS, probabilities=np.eye(3)[ANSWERS["predictions"]], threshold=0.5)
    assert results["accuracy"] == 0.75
    assert (results["coverage"], results["selective_accuracy"]) == (0.5, 1.0)
    assert (results["abstention_precision"], results["abstention_recall"]) == (0.5, 1.0)
    assert (results["ece"], results["brier"]) == (0.25, 0.5)
    assert results["error_auroc"] == 1.0
    json.dumps(results, allow_nan=False)


def test_what_is_added_in_parts_is_computed_as_a_whole(metric):
    """Batches, single answers, confidences instead of uncertainty."""
    probabilities = np.eye(3)[ANSWERS["predictions"]].tolist()
    whole = metric.compute(**ANSWERS, probabilities=probabilities, threshold=0.5)
    confidences = [1 - value for value in ANSWERS["uncertainty"]]
    first, second = slice(0, 2), slice(2, 3)
    for part in (first, second):
        metric.add_batch(
            predictions=ANSWERS["predictions"][part],
            references=ANSWERS["references"][part],
            confidences=confidences[part],
            probabilities=probabilities[part],
        )
    metric.add(prediction=0, reference=0, uncertainty=0.6, probabilities=probabilities[3])
    assert metric.compute(threshold=0.5) == pytest.approx(whole)
    assert set(whole) - set(metric.compute(**ANSWERS)) == {
        *("ece", "brier", "coverage", "selective_accuracy"),
        *("abstention_precision", "abstention_recall", "abstention_f1"),
    }


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"uncertainty": None}, "Give `uncertainty`, or `confidences`"),
        ({"confidences": [0.5] * 4}, "not both"),
        ({"uncertainty": [0.1, float("nan"), 0.2, 0.3]}, "uncertainty of answer 1 is not a number"),
        ({"uncertainty": [0.1]}, "Mismatch in the number"),
        ({"probabilities": [[2.0, -1.0, 0.0]] * 4}, "logits do not"),
        ({"probabilities": [[0.5, 0.5]] * 4}, "with a label 2"),
        ({"probabilities": [[0.5, 0.5, 0.0]] * 3 + [[1.0]]}, "a number for each class"),
    ],
)
def test_inputs_that_cannot_be_meant(metric, changed, complaint):
    """Each is refused in a sentence."""
    with pytest.raises(ValueError, match=complaint):
        metric.compute(**{**ANSWERS, **changed})


def test_the_card_tells_all_figures_and_its_example_runs(monkeypatch):
    """What the metric returns is in the table of its card, whose front matter is that of a metric's Space."""
    card = (FOLDER / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    assert set(yaml.safe_load(front)["tags"]) == {"evaluate", "metric"}
    monkeypatch.chdir(ROOT)
    example: dict = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], example)
    named = set(re.findall(r"`(\w+)`", re.search(r"\| Key(.*?)\n\n", text, re.DOTALL)[1]))
    assert {*example["results"], "ece", "brier"} <= named


@given(answers, st.randoms())
def test_the_order_of_the_answers_does_not_matter(outcomes, random):
    """Equally uncertain answers are accepted together."""
    shuffled = list(outcomes)
    random.shuffle(shuffled)
    found = [figures(*arrays(some), threshold=0.5) for some in (outcomes, shuffled)]
    assert found[0] == pytest.approx(found[1])


@given(answers)
def test_the_areas_are_those_of_their_definitions(outcomes):
    """Computed answer by answer, threshold by threshold, pair by pair."""
    errors, uncertainty = arrays(outcomes)
    accepted = uncertainty[None, :] <= uncertainty[:, None]
    coverage, risk = accepted.mean(axis=1), (accepted & errors).sum(axis=1) / accepted.sum(axis=1)
    order = uncertainty.argsort()
    np.testing.assert_allclose(risk_coverage(errors, uncertainty), (coverage[order], risk[order]))
    assert aurc(errors, uncertainty) == pytest.approx(risk.mean())
    enough = np.where(coverage >= 0.8, coverage, 2).argmin()
    assert risk_at_coverage(errors, uncertainty, 0.8) == pytest.approx(risk[enough])
    for target in (0.05, 0.1, 0.5):
        assert coverage_at_risk(errors, uncertainty, target) == max([0, *coverage[risk <= target]])

    doubts = [[uncertainty[row] for row in np.flatnonzero(errors == wrong)] for wrong in (True, False)]
    wins = [(one > other) + (one == other) / 2 for one in doubts[0] for other in doubts[1]]
    auroc, error = error_auroc(errors, uncertainty), errors.mean()
    assert auroc == (pytest.approx(np.mean(wins)) if wins else None)
    assert augrc(errors, uncertainty) == pytest.approx(
        (1 - (auroc or 0)) * error * (1 - error) + error**2 / 2
    )


@given(answers)
def test_a_score_is_only_an_order(outcomes):
    """Another scale changes nothing; no order is better than the best, which E-AURC takes away."""
    errors, uncertainty = arrays(outcomes)
    assert figures(errors, uncertainty) == figures(errors, np.exp(3 * uncertainty) - 5)
    assert e_aurc(errors, uncertainty) >= -1e-12
    assert e_aurc(errors, errors + np.linspace(0, 0.5, len(errors))) == pytest.approx(0)


@given(answers, st.integers(0, 7))
def test_abstention_is_a_detector_of_errors(outcomes, step):
    """As scikit-learn judges the detector; coverage and accuracy are of those accepted."""
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the dev extra")
    errors, uncertainty = arrays(outcomes)
    threshold = step / 7
    found = abstention(errors, uncertainty, threshold)
    kept = uncertainty < threshold
    assert found["coverage"] == kept.mean()
    assert found["selective_accuracy"] == (pytest.approx(1 - errors[kept].mean()) if kept.any() else None)
    expected = sklearn.precision_recall_fscore_support(errors, ~kept, average="binary", zero_division=0)[:3]
    names = ("abstention_precision", "abstention_recall", "abstention_f1")
    assert [found[name] or 0 for name in names] == pytest.approx(expected)


def test_it_agrees_with_scikit_learn():
    """AUROC and Brier score, with ties."""
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the dev extra")
    draw = np.random.default_rng(0)
    probabilities = draw.dirichlet(np.ones(3), 500).round(2)
    probabilities[:, 2] = 1 - probabilities[:, :2].sum(axis=1)
    labels = draw.integers(3, size=500)
    errors, doubt = probabilities.argmax(axis=1) != labels, 1 - probabilities.max(axis=1)
    assert error_auroc(errors, doubt) == pytest.approx(sklearn.roc_auc_score(errors, doubt))
    ours = brier_score(probabilities, labels)
    assert ours == pytest.approx(
        sum(sklearn.brier_score_loss(labels == k, probabilities[:, k]) for k in range(3))
    )


def test_calibration_error_by_hand():
    """Bins of a fifteenth, an upper end in its bin; zero for a coin that knows it is one."""
    errors = np.array([0, 1] * 50)
    assert expected_calibration_error(errors, np.full(100, 0.5)) == pytest.approx(0)
    assert expected_calibration_error(errors, np.full(100, 0.9)) == pytest.approx(0.4)
    halves = np.where(errors, 0.2, 0.8)  # in two bins, each 0.2 off
    assert expected_calibration_error(errors, halves) == pytest.approx(0.2)
    one_bin = expected_calibration_error(np.array([0, 1]), np.array([0.0, 1 / 15]))
    assert one_bin == pytest.approx(0.5 - 1 / 30)


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_torch_uncertainty(seed):
    """Its areas are trapezoids from the first answer on, rescaled: the sums of ours say what they must be."""
    try:
        from torch_uncertainty.metrics.classification import AUGRC, AURC, CovAt5Risk, RiskAt80Cov
    except Exception as error:  # an install without its vision parts fails with other errors too
        pytest.skip(f"torch-uncertainty is no dependency of this project, and cannot be imported: {error!r}")
    import torch

    draw = np.random.default_rng(seed)
    logits, labels = draw.normal(size=(400, 3)) * 2, draw.integers(3, size=400)
    labels = np.where(draw.random(400) < 0.6, logits.argmax(axis=1), labels)
    errors, doubt = logits.argmax(axis=1) != labels, max_prob_uncertainty(logits)
    _, risk = risk_coverage(errors, doubt)

    def theirs(metric) -> float:
        metric.update(torch.tensor(logits).softmax(dim=-1), torch.tensor(labels))
        return metric.compute().item()

    count = len(errors)
    assert theirs(AURC()) == pytest.approx(
        (count * risk.mean() - (risk[0] + risk[-1]) / 2) / (count - 1), rel=1e-5
    )
    before = errors[doubt.argmin()] / count**2 / 2  # the triangle up to the first answer
    assert theirs(AUGRC()) == pytest.approx((augrc(errors, doubt) - before) * count / (count - 1), rel=1e-5)
    assert theirs(RiskAt80Cov()) == pytest.approx(risk_at_coverage(errors, doubt, 0.8), rel=1e-5)
    assert np.nan_to_num(theirs(CovAt5Risk())) == pytest.approx(
        coverage_at_risk(errors, doubt, 0.05), rel=1e-5
    )


def test_training_has_no_figures_of_its_own():
    """One implementation; what a user gets at a threshold is told by its names."""
    for name in ("aurc", "risk_coverage", "coverage_at_risk"):
        assert getattr(training_metrics, name) is getattr(metric_file, name)
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(200, 3)), draw.integers(3, size=200)
    doubt = max_prob_uncertainty(logits)
    found = decisions(logits, labels, doubt, 0.4)
    errors = logits.argmax(axis=1) != labels
    assert found == {"pairs": 200, **figures(errors, doubt, 0.4), "aurc_max_prob": aurc(errors, doubt)}
