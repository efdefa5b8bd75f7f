"""benchmarks/abstention.py: scores beside MaxProb, on answers whose errors are known."""

import numpy as np
import pytest
from conftest import ROOT

from modernbert_nli.evaluation import predictions


@pytest.fixture(scope="module")
def abstention():
    import sys

    sys.path.insert(0, str(ROOT / "benchmarks"))
    import abstention

    return abstention


def judged(abstention, seed: int, pairs: int = 600, skill: float = 0.0):
    """Answers of random confidence; the head knows an error with probability `skill`, else it guesses."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=2.0, size=(pairs, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    labels = np.array([random.choice(3, p=row) for row in probabilities])
    errors = logits.argmax(axis=-1) != labels
    head = np.where(random.random(pairs) < skill, errors, random.random(pairs))
    max_prob = 1 - probabilities.max(axis=-1)
    run = predictions.Predictions(logits, labels, 0.5 * head + 0.5 * max_prob, 0.5, None)
    return abstention.Judged(run, weight=0.5), head


def test_a_head_that_knows_beats_maxprob_and_one_that_guesses_does_not(abstention):
    """The ratio and its interval say so; and the head is told apart from its mean with MaxProb."""
    knowing, head = judged(abstention, 1, skill=0.5)
    np.testing.assert_allclose(knowing.head, head, atol=1e-9)
    ratios = abstention.compared([knowing], draws=100)["ratios"]
    assert ratios["uncertainty, as it ships"]["high"] < 1
    guessing, _ = judged(abstention, 1, skill=0.0)
    row = abstention.compared([guessing], draws=100)
    assert row["ratios"]["abstention head alone"]["low"] > 1
    assert row["ratios"]["uncertainty, as it ships"]["ratio"] > 1
    assert row["errors"] == pytest.approx(guessing.errors.mean())


def test_scores_of_probabilities(abstention):
    """Margin and entropy rank as MaxProb does where two classes share all; an ensemble needs two seeds."""
    one, _ = judged(abstention, 1)
    logits = np.column_stack([np.linspace(0, 6, 50), np.zeros(50), np.full(50, -60.0)])
    run = predictions.Predictions(logits, np.zeros(50, int), np.zeros(50), 0.5, None)
    two_classes = abstention.Judged(run, weight=0.5)
    for score in (two_classes.margin(), two_classes.entropy(), two_classes.energy()):
        assert (np.argsort(score, kind="stable") == np.argsort(two_classes.max_prob, kind="stable")).all()
    assert "all seeds' heads (an ensemble)" not in abstention.compared([one], draws=20)["ratios"]
    np.testing.assert_allclose(one.of_all([one, one]), one.max_prob)


def test_the_table_marks_what_is_better(abstention):
    """A row for each score, and bold where the interval says that it beats MaxProb."""
    knowing, _ = judged(abstention, 1, skill=0.5)
    row = {"model": "heads", "set": "pairs", **abstention.compared([knowing, knowing], draws=50)}
    results = {"date": "2026-01-01", "command": "python x", "sets": {"pairs": 600}, "rows": [row]}
    lines = abstention.table(results).splitlines()
    assert lines[2].startswith("| heads (2 seeds) | MaxProb | AURC 0.")
    assert len(lines) == 3 + len(abstention.SCORES) + 2
    assert "**" in next(line for line in lines if "as it ships" in line)
    assert "**" not in next(line for line in lines if "energy" in line)
