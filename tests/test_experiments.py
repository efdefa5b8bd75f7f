"""What measures beside the product: specs, figures and tables. Nothing is trained or timed here."""

import json

import numpy as np
import pytest
from conftest import ROOT

from experiments.figures import LeftOutPredictions
from experiments.run import Spec, figures, text
from experiments.timing import compared, markdown
from modernbert_nli.calibrating import domains, left_out
from modernbert_nli.calibrating.over_domains import domain_guarantee
from modernbert_nli.training.arguments import HeadArguments
from modernbert_nli.training.mix import EVALUATION, FOLDS, MIXES

SPECS = sorted((ROOT / "experiments" / "specs").glob("*.json"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_specs_can_be_run(path):
    """Mixes, folds and options of heads that there are."""
    spec = Spec.read(path)
    assert spec.left_out in ("each", None, *range(FOLDS))
    for options in spec.runs.values():
        options = dict(options)
        assert options.pop("mix", spec.mix) in MIXES
        HeadArguments(**options)


def test_a_spec_that_is_wrong_is_refused(tmp_path):
    """A key that there is not, and a run to compare with that there is not."""
    path = tmp_path / "spec.json"
    right = json.loads(SPECS[0].read_text())
    for changed, complaint in (({"seed": 1}, "seed"), ({"compare_with": "nothing"}, "none of its runs")):
        path.write_text(json.dumps({**right, **changed}))
        with pytest.raises(ValueError, match=complaint):
            Spec.read(path)


def said(seed: int, skill: float, pairs: int = 300) -> dict:
    """Judgements of heads that are right as often as `skill`."""
    random = np.random.default_rng(seed)
    labels = np.arange(pairs) % 3
    answers = np.where(random.random(pairs) < skill, labels, (labels + 1) % 3)
    logits = np.eye(3)[answers] * random.uniform(1, 4, (pairs, 1))
    uncertainty = 1 - np.exp(logits).max(axis=1) / np.exp(logits).sum(axis=1)
    return {"logits": logits, "labels": labels, "uncertainty": uncertainty, "tested": labels > 0}


def test_figures_and_their_table():
    """Of two runs over two seeds: accuracy, the difference with its interval, AURC beside MaxProb."""
    spec = Spec("Two.", {"one": {}, "two": {}}, "one", "home", [1, 2], 1.0)
    runs = {
        run: [
            left_out.Judgements({name: {"joint": said(seed, skill)} for name in EVALUATION}, {})
            for seed in (1, 2)
        ]
        for run, skill in (("one", 0.6), ("two", 0.8))
    }
    found = figures(spec, runs)
    row = found["two"]["joint"]["sets"]["snli_test_a"]
    assert row["difference"] == pytest.approx(0.2, abs=0.05)
    assert row["interval"][0] < row["difference"] < row["interval"][1]
    assert row["aurc"]["ratio"] == pytest.approx(1)
    assert "difference" not in found["one"]["joint"]["sets"]["snli_test_a"]
    results = {"what": "Two.", "compare_with": "one", "seeds": [1, 2], "epochs": 1.0, "figures": found}
    results |= {"date": "2026-01-01", "command": "python x", "runs": {"one": {"parameters": 1000}}}
    assert "| one | joint | 1,000 | 6" in text(results)
    right = LeftOutPredictions.read([{"set": {"joint": said(1, 1.0)}}], ["set"], "joint")
    assert right.accuracy == right.balanced == right.auroc == [1.0]
    assert right.tested_alone().errors.shape == (1, 200)


def test_rows_to_a_table():
    """A column for each key of any row; of what was measured several times the median, least and most."""
    rows = [
        compared("theirs / ours", [1.0, 2.0, 4.0], [2.0, 2.0, 4.0]),
        {"The other / ours": "more", "MB": 2000},
    ]
    lines = markdown(rows).splitlines()
    assert lines[0] == "| The other / ours | ours | the other | ratio | MB |"
    assert lines[2] == "| theirs / ours | 2 | 2 | 1 (1 to 2) |  |"
    assert lines[3] == "| more |  |  |  | 2,000 |"


def test_what_is_guaranteed_for_new_kinds_of_text_is_reported(tmp_path, monkeypatch):
    """For each kind that was left out, with what pairs alone would guarantee."""
    monkeypatch.setattr(domains, "RESULTS", tmp_path)
    random = np.random.default_rng(0)
    judged = {f"kind {row}": (random.random(200) < 0.02, random.random(200)) for row in range(12)}
    domains.report(judged, domain_guarantee(judged), "joint")
    written = (tmp_path / "guarantee-domains-further-joint.md").read_text()
    assert "| kind 11 | 200 |" in written
    assert "12 domains left out; 10% may break a guarantee." in written
    errors, uncertainty = domains.sample(
        [{"a": {"joint": said(1, 0.5)}, "b": {"joint": said(2, 0.5)}}], ["a", "b"], "joint"
    )
    assert errors.shape == uncertainty.shape == (600,)
