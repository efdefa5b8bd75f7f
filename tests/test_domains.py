"""The guarantee for text of a kind never seen, and for each group: kept, stored, asked for, and shown."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import PAIRS, write
from guarantees import answered, calibrated, calibrator, entry, judged_rows, table
from hypothesis import given, settings
from hypothesis import strategies as st

from modernbert_nli.calibrating import command as calibrate
from modernbert_nli.calibrating.over_domains import (
    MIN_ACCEPTED,
    breaks,
    domain_guarantee,
    guaranteed,
    left_out,
    score,
)
from modernbert_nli.configuration_modernbert_nli import LABELS, ModernBertNliConfig
from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel
from modernbert_nli.prediction import command as predict
from modernbert_nli.training.calibration import calibration_of, measured_risk

TARGETS = (0.05, 0.1, 0.2, 0.3)


def some_domains(seed: int, count: int, pairs: int, spread: float, steps: int | None = None) -> dict:
    """Of random difficulty; with `steps`, uncertainties are tied, 0 and 1 among them."""
    draw = np.random.default_rng(seed)
    domains = {}
    for number in range(count):
        uncertainty = draw.random(pairs) if steps is None else draw.integers(0, steps + 1, pairs) / steps
        errors = draw.random(pairs) < uncertainty * np.exp(draw.normal(-1, spread))
        domains[f"domain {number}"] = (errors, uncertainty)
    return domains


# The table --------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(9, 22), st.integers(1, 300), st.floats(0, 2), st.integers(1, 50))
def test_a_table_is_consistent(seed, count, pairs, spread, steps):
    """Thresholds grow with the target, and at each no more than a share delta of the domains is broken."""
    domains = some_domains(seed, count, pairs, spread, steps)
    found = domain_guarantee(domains, 0.1, TARGETS)
    kept = [row for row in found["table"] if row["threshold"] is not None]
    assert kept == found["table"][len(TARGETS) - len(kept) :]
    for key in ("threshold", "coverage"):
        assert [row[key] for row in kept] == sorted(row[key] for row in kept)
    for row in kept:
        target, threshold = row["target_risk"], row["threshold"]
        broken = [name for name, arrays in domains.items() if breaks(*arrays, threshold, target)]
        assert row["broken"] == len(broken) / count <= 0.1
    ModernBertNliConfig(calibration={"joint": {**entry(), "domains": found}})  # is not refused


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 400), st.floats(0, 2), st.integers(1, 50), st.floats(0.001, 1))
def test_no_threshold_up_to_the_score_breaks_the_target(seed, pairs, spread, steps, threshold):
    """And the one just above does, unless nothing can be stricter or looser."""
    ((errors, uncertainty),) = some_domains(seed, 1, pairs, spread, steps).values()
    for target in TARGETS:
        reached = score(errors, uncertainty, target)
        if threshold <= reached:
            assert not breaks(errors, uncertainty, threshold, target)
        if 0 < reached < 1:
            assert breaks(errors, uncertainty, np.nextafter(reached, 2), target)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.sampled_from([0.05, 0.1, 0.3]))
def test_left_out_in_turn_at_most_a_share_delta_is_below_what_the_others_guarantee(scores, delta):
    """Whatever the scores are, ties among them: the theorem, by counting."""
    below = 0
    for row, own in enumerate(scores):
        threshold = guaranteed(scores[:row] + scores[row + 1 :], delta)
        below += threshold is not None and own < threshold
    assert below <= delta * len(scores) + 1e-9


def test_left_out_domains_beside_the_guarantee_for_pairs():
    """One hopeless domain breaks what pairs of the others guarantee; who broke it is named."""
    domains = some_domains(0, 20, 400, 0.2)
    draw = np.random.default_rng(1)
    domains["hopeless"] = (draw.random(400) < 0.8, draw.random(400))
    found = left_out(domains, 0.1, TARGETS)
    for over_domains, over_pairs in zip(found["domains"], found["pairs"], strict=True):
        assert over_domains["broken"] <= 0.1
        assert over_domains["broken"] == len(over_domains["which"]) / 21
        assert "hopeless" in over_pairs["which"]
    assert found["pairs"][-1]["worst_risk"] == pytest.approx(0.8, abs=0.1)


def test_what_cannot_be_guaranteed_over_domains():
    """Too few domains, values that cannot be meant; a risk that no threshold keeps gives a row of nulls."""
    right = (np.zeros(100), np.linspace(0, 0.9, 100))
    with pytest.raises(ValueError, match=r"8 domains are too few .* delta of 0\.1: give 9 or more"):
        domain_guarantee({str(number): right for number in range(8)})
    with pytest.raises(ValueError, match="7: an uncertainty lies between"):
        domain_guarantee({**{str(number): right for number in range(9)}, "7": (right[0], right[1] + 1)})
    with pytest.raises(ValueError, match="are no pairs of one domain"):
        domain_guarantee({**{str(number): right for number in range(9)}, "7": (right[0], right[1][1:])})
    nothing = domain_guarantee({str(number): (np.ones(100), right[1]) for number in range(9)})
    assert {row["threshold"] for row in nothing["table"]} == {None}
    assert nothing["at"] is None
    few = (np.zeros(MIN_ACCEPTED - 1), np.linspace(0, 0.9, MIN_ACCEPTED - 1))
    assert score(*few, 0.1) == 0
    everything = domain_guarantee({str(number): right for number in range(9)})
    assert {row["threshold"] for row in everything["table"]} == {1.0}
    assert everything["at"] == 0.1


# Asked for --------------------------------------------------------------------------------------------------


def domains_entry(thresholds: dict[float, float | None]) -> dict:
    """A guarantee over nine domains with these thresholds by target."""
    found = domain_guarantee(some_domains(0, 9, 100, 0))
    return {**found, "table": table(thresholds, worst_risk=0.2, broken=0.0)}


@pytest.fixture(scope="module")
def nli(tiny_modernbert):
    """New kinds of text accept 0, 1, pairs like calibration's 1, 2, a group's 2, 3 of `PAIRS` at 10, 20 %."""
    return calibrated(
        tiny_modernbert,
        lambda doubts: {
            **entry({0.01: None, 0.05: doubts[0], 0.1: doubts[1], 0.2: doubts[2]}),
            "groups": {"news": {"n": 200, "table": table({0.1: doubts[2], 0.2: 1.0})}},
            "domains": domains_entry({0.05: None, 0.1: doubts[0], 0.2: doubts[1]}),
        },
    )


@pytest.mark.parametrize("encoding", ["separate", "joint"])
def test_a_target_risk_means_text_of_a_kind_never_seen(nli, encoding):
    """Unless `like` says what the pairs are like, for a call or for the pipeline."""
    expected = {None: (0, 1), "calibration": (1, 2), "news": (2, 3)}
    for like, counts in expected.items():
        for target, count in zip((0.1, 0.2), counts, strict=True):
            found = nli(PAIRS, target_risk=target, like=like, encoding=encoding)
            assert answered(found) == count
            other = nli.model.as_pipeline(target_risk=target, like=like, encoding=encoding)
            assert answered(other(PAIRS)) == count
            assert other.threshold == nli.threshold_for(target, encoding, like)
    given = nli.model.as_pipeline(target_risk=0.2, like="news", encoding=encoding)
    assert answered(given(PAIRS, target_risk=0.1)) == 2
    assert answered(given(PAIRS, like="calibration")) == 2
    assert answered(given(PAIRS, threshold=1.0)) == 3


def test_every_method_takes_what_the_pairs_are_like(nli):
    """For pairs and for facts, in either encoding."""
    premises, claim = [premise for premise, _ in PAIRS], PAIRS[0][1]
    for pipe in (nli, nli.model.as_pipeline(encoding="joint")):
        for like in (None, "calibration", "news"):
            how = {"target_risk": 0.2, "like": like}
            expected = [result["abstain"] for result in pipe([(text, claim) for text in premises], **how)]
            assert [fact["uncertain"] for fact in pipe.validate_fact(premises, claim, **how)] == expected


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        (
            {"target_risk": 0.05},
            r"5\.0% cannot be guaranteed with separate encoding for text of a kind never seen: the lowest is "
            r"10\.0%, from 9 kinds of text.* It can for pairs drawn as calibration's: `like='calibration'`",
        ),
        ({"target_risk": 0.01}, r"kind never seen: the lowest is 10\.0%, from 9 kinds of text[^`]*$"),
        (
            {"target_risk": 0.01, "like": "calibration"},
            r"separate encoding: the lowest is 5\.0%, from 500 cal",
        ),
        (
            {"target_risk": 0.05, "like": "news"},
            r"for pairs like those of 'news': the lowest is 10\.0%, from 200",
        ),
        ({"target_risk": 0.1, "like": "fiction"}, r"a group of its pairs \(news\), got 'fiction'"),
        ({"target_risk": 0.1, "like": ["news"]}, r"got \['news'\]"),
        ({"like": "news"}, "give `target_risk` too"),
        ({"threshold": 0.2, "like": "news"}, "no `threshold` needs it"),
    ],
)
def test_what_is_not_guaranteed_is_told_with_what_is(nli, how, complaint):
    """At once, for a call, a pipeline and a fact."""
    for call in (
        lambda: nli(*PAIRS[0], **how),
        lambda: nli.model.as_pipeline(**how),
        lambda: nli.validate_fact(*PAIRS[0], **how),
    ):
        with pytest.raises(ValueError, match=complaint):
            call()


BROKEN = [
    ({"groups": {"calibration": {"n": 3, "table": []}}}, "none of which is 'calibration'"),
    ({"groups": {"news": {"n": 3}}}, r"in `groups\['news'\]`, it needs n, table"),
    ({"groups": {"news": {"n": 0, "table": []}}}, r"in `groups\['news'\]`, `n` is a number"),
    ({"domains": {"n": 3}}, "in `domains`, it needs at, date, delta, each"),
    ({"domains": {**domains_entry({0.1: 0.5}), "table": table({0.1: 0.5})}}, "needs broken, .*, worst_risk"),
    ({"domains": {**domains_entry({0.1: 0.5}), "n": 10}}, "`each` has 10 rows of coverage, error, name"),
    ({"domains": domains_entry({0.1: 0.5, 0.2: 0.4})}, "in `domains`, a greater target"),
]


@pytest.mark.parametrize(("changed", "complaint"), BROKEN, ids=[complaint for _, complaint in BROKEN])
def test_a_broken_guarantee_is_refused_on_loading(changed, complaint):
    """What is wrong with it is said."""
    with pytest.raises(ValueError, match=complaint):
        ModernBertNliConfig(calibration={"separate": {**entry(), **changed}})


# Groups -----------------------------------------------------------------------------------------------------


def test_each_group_has_a_guarantee_of_its_own():
    """A good and a bad one, and one that is too small; a single group has none; no name hides all pairs."""
    draw = np.random.default_rng(0)
    uncertainty = draw.random(1050)
    groups = ["calibration"] * 500 + ["bad"] * 500 + ["small"] * 50
    errors = (draw.random(1050) < 0.5) & (np.array(groups) == "bad")
    labels = ["neutral"] * 1050
    found = calibration_of(errors, uncertainty, labels, ["set"], groups=groups)["groups"]
    at = {
        name: {row["target_risk"]: row["threshold"] for row in group["table"]}
        for name, group in found.items()
    }
    assert at["calibration (group)"][0.1] == 1.0
    assert at["bad"][0.3] is at["small"][0.3] is None
    assert (found["bad"]["n"], found["small"]["n"]) == (500, 50)
    assert "groups" not in calibration_of(errors, uncertainty, labels, ["set"], groups=["one"] * 1050)
    with pytest.raises(ValueError, match="3 groups of 1050 pairs"):
        calibration_of(errors, uncertainty, labels, ["set"], groups=["one"] * 3)


def test_the_interval_is_that_of_clopper_and_pearson():
    """By their definition: at each bound, what was seen or worse has a probability of 2.5 %."""
    stats = pytest.importorskip("scipy.stats")
    errors, uncertainty = np.arange(100) < 9, np.arange(100) / 100
    found = measured_risk(errors, uncertainty, 0.6)
    assert (found["pairs"], found["accepted"], found["wrong"], found["risk"]) == (100, 60, 9, 0.15)
    assert stats.binom.sf(8, 60, found["low"]) == pytest.approx(0.025, rel=1e-4)
    assert stats.binom.cdf(9, 60, found["high"]) == pytest.approx(0.025, rel=1e-4)
    assert measured_risk(errors, uncertainty, 0.0)["risk"] is None
    assert measured_risk(np.zeros(10), np.zeros(10), 1.0)["low"] == 0


# From the command line --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def held_out(checkpoints, tiny_modernbert, tmp_path_factory) -> str:
    """400 pairs: "easy" ones labelled as the checkpoint judges them, the least certain, "hard", by chance."""
    judged = judged_rows(checkpoints["separate"], tiny_modernbert, 400)
    draw = np.random.default_rng(0)
    certain = sorted(result["uncertainty"] for _, result in judged)[299]
    for row, result in judged:
        easy = result["uncertainty"] <= certain
        row["genre"] = "easy" if easy else "hard"
        row["label"] = result["label"] if easy else str(draw.choice(LABELS))
    return write(tmp_path_factory.mktemp("held-out") / "held_out.jsonl", [row for row, _ in judged])


@pytest.fixture
def command(checkpoints, tiny_modernbert, held_out, tmp_path):
    """A copy of the checkpoint that has a guarantee over domains, and a function that calibrates it."""
    folder = Path(shutil.copytree(checkpoints["separate"], tmp_path / "checkpoint"))
    config = json.loads((folder / "config.json").read_text())
    before = {**entry(), "domains": domains_entry({0.1: 0.3})}
    config |= {"calibration": {"separate": before}, "abstention_threshold": 0.99}
    (folder / "config.json").write_text(json.dumps(config))
    return folder, calibrator(folder, held_out, tiny_modernbert)


def test_a_checkpoint_is_calibrated_by_group(command, tiny_modernbert, capsys):
    """The report and the checkpoint have each genre, and who asks for it gets it."""
    folder, run = command
    assert run(group_by="genre", target_risk=0.3) == 0
    told = capsys.readouterr().out
    assert "separate encoding, easy, 300 pairs" in told
    assert "separate encoding, hard, 100 pairs\nnothing can be guaranteed" in told
    assert "text of a kind never seen is given up" in told
    base = {"base_model_name_or_path": tiny_modernbert}
    nli = ModernBertNliModel.from_pretrained(str(folder), **base).as_pipeline()
    found = nli.model.config.calibration["separate"]
    assert "domains" not in found
    assert set(found["groups"]) == {"easy", "hard"}
    assert nli.threshold_for(0.02, like="easy") == 1.0
    assert nli.threshold_for(0.3) == nli.threshold_for(0.3, like="calibration") == nli.threshold
    pair = ("--model", str(folder), "--base", tiny_modernbert, *PAIRS[0], "--device", "cpu")
    assert predict.main([*pair, "--target_risk", "0.02", "--like", "easy"]) == 0
    assert "decides: does not abstain" in capsys.readouterr().out
    assert predict.main([*pair, "--target_risk", "0.3", "--like", "hard"]) == 2
    assert "for pairs like those of 'hard': nor can any other" in capsys.readouterr().err
    assert predict.main([*pair, "--target_risk", "0.3", "--like", "tales"]) == 2
    assert "a group of its pairs (easy, hard), got 'tales'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        predict.main([*pair, "--like", "easy"])


def test_several_sources_are_groups(command, tmp_path, held_out, capsys):
    """Without a column each source is one; a column that is not there, or of too many values, is told."""
    _, run = command
    other = write(
        tmp_path / "other.jsonl", [json.loads(line) for line in Path(held_out).read_text().splitlines()]
    )
    assert set(calibrate.load([held_out, other])["groups"]) == {"held_out", "other"}
    assert set(calibrate.load([held_out, other], "genre")["groups"]) == {"easy", "hard"}
    assert run(group_by="topic") == 2
    assert "no column 'topic' to group by, there are" in capsys.readouterr().err
    many = [
        {**json.loads(line), "id": number}
        for number, line in enumerate(Path(held_out).read_text().splitlines())
    ]
    assert run(group_by="id", data=write(tmp_path / "many.jsonl", many)) == 2
    assert "400 pairs in 400 groups: 50 are the most" in capsys.readouterr().err
    gap = write(tmp_path / "gap.jsonl", [{**many[0], "genre": None}, *many[1:]])
    assert calibrate.load([gap], "genre")["groups"][:3] == ["no genre", "easy", "easy"]


def test_few_labelled_pairs_say_what_the_risk_is_now(command, tmp_path, held_out, capsys):
    """In a sentence, also where they cannot calibrate; with --measure nothing else is done."""
    folder, run = command
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    few = [json.loads(line) for line in Path(held_out).read_text().splitlines()[:60]]
    few = write(tmp_path / "few.jsonl", few)
    assert run(data=few) == 2
    told = capsys.readouterr()
    assert "60 pairs are too few" in told.err
    sentence = next(line for line in told.out.splitlines() if line.startswith("Abstaining from"))
    assert "0.99 upwards, as now, it answers" in sentence
    assert "of these 60 pairs" in sentence
    assert run("--measure", data=few) == 0
    assert capsys.readouterr().out.strip() == sentence
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "abstention_threshold": 0.0}))
    assert run("--measure", data=few) == 0
    assert "it answers none of these 60 pairs" in capsys.readouterr().out
