"""The guarantee of a calibration: kept as often as it says, stored, used, and questioned where text "
"differs."""

import copy
import json
import math
import pickle
import re
import shutil
from pathlib import Path

import accelerate
import numpy as np
import pytest
from conftest import PAIRS, carried, fresh, make_model, rows, write
from guarantees import answered, calibrated, calibrator, entry, judged_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, DataCollatorWithPadding, Trainer, TrainingArguments, pipeline

import modernbert_nli.pipeline_modernbert_nli
from modernbert_nli import embedded
from modernbert_nli.calibrating import command as calibrate
from modernbert_nli.calibration import (
    check_calibration,
    compact,
    expanded,
    read_calibration,
)
from modernbert_nli.configuration_modernbert_nli import ENCODINGS, LABELS, ModernBertNliConfig
from modernbert_nli.drift import ENOUGH, drift_from
from modernbert_nli.loading import stored_config
from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel
from modernbert_nli.page.guarantee import choice, limit
from modernbert_nli.prediction import command as predict
from modernbert_nli.training.calibration import MIN_PAIRS, TARGETS, binomial_tail, calibration_of, risk_table
from modernbert_nli.training.data import Pairs

# The guarantee ----------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(0, 60), st.sampled_from(TARGETS))
def test_the_binomial_tail_is_exact(accepted, wrong, risk):
    """As summed term by term."""
    wrong = min(wrong, accepted)
    terms = (math.comb(accepted, k) * risk**k * (1 - risk) ** (accepted - k) for k in range(wrong + 1))
    assert binomial_tail(wrong, accepted, risk) == pytest.approx(sum(terms), rel=1e-9)


def test_the_binomial_tail_is_that_of_scipy():
    """Also for numbers whose terms are too small to be numbers."""
    binom = pytest.importorskip("scipy.stats").binom
    for accepted, wrong, risk in [
        (50_000, 5_200, 0.1),
        (200_000, 39_000, 0.2),
        (3_000, 2, 0.01),
        (10, 10, 0.3),
    ]:
        assert binomial_tail(wrong, accepted, risk) == pytest.approx(
            binom.cdf(wrong, accepted, risk), rel=1e-6
        )


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(MIN_PAIRS, 400), st.integers(1, 50), st.floats(0, 1))
def test_a_table_is_consistent(seed, count, steps, slope):
    """Greater targets have looser thresholds, and what was measured below each is within its target."""
    draw = np.random.default_rng(seed)
    uncertainty = draw.integers(0, steps + 1, count) / steps  # with ties, 0 and 1 among them
    table = risk_table(draw.random(count) < slope * uncertainty, uncertainty)
    assert [row["target_risk"] for row in table] == list(TARGETS)
    kept = [row for row in table if row["threshold"] is not None]
    assert kept == table[len(table) - len(kept) :]
    for row in kept:
        assert 0 <= row["threshold"] <= 1
        assert row["risk"] <= row["target_risk"]
    for key in ("threshold", "coverage"):
        assert [row[key] for row in kept] == sorted(row[key] for row in kept)


def test_what_cannot_be_guaranteed_is_not():
    """All wrong: nothing. All right: everything down to what so many pairs can show."""
    scores = np.linspace(0, 0.7, 500)
    assert all(row["threshold"] is None for row in risk_table(np.ones(500), scores))
    thresholds = {row["target_risk"]: row["threshold"] for row in risk_table(np.zeros(500), scores)}
    assert thresholds[0.05] == thresholds[0.3] == 1.0
    assert thresholds[0.01] == 1.0  # 400 right ones test: 0.99^400 is 2 %
    assert {row["threshold"] for row in risk_table(np.zeros(200), scores[:200])[:1]} == {
        None
    }  # 0.99^160: 20 %


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"errors": np.zeros(99), "uncertainty": np.zeros(99), "labels": ["a"] * 99}, "99 pairs are too few"),
        ({"uncertainty": np.full(200, np.nan)}, "between 0 and 1"),
        ({"uncertainty": np.full(200, 1.5)}, "between 0 and 1"),
        ({"labels": ["a"]}, "do not match"),
        ({"delta": 0.0}, "`delta` is a probability"),
    ],
)
def test_what_cannot_be_calibrated(changed, complaint):
    """Each is refused in a sentence."""
    given = {"errors": np.zeros(200), "uncertainty": np.zeros(200), "labels": ["a"] * 200, "data": ["set"]}
    with pytest.raises(ValueError, match=complaint):
        calibration_of(**{**given, **changed})


# In the configuration ---------------------------------------------------------------------------------------


def test_a_calibration_is_saved_and_loaded(tmp_path):
    """Exactly; without one there is none."""
    assert ModernBertNliConfig().calibration is None
    draw = np.random.default_rng(0)
    found = calibration_of(draw.random(300) < 0.1, draw.random(300), ["neutral"] * 300, ["a", "b"], 0.05)
    ModernBertNliConfig(calibration={"joint": found}).save_pretrained(tmp_path)
    again = ModernBertNliConfig.from_pretrained(tmp_path).calibration["joint"]
    assert again == found
    assert (again["n"], again["delta"], again["data"], again["labels"]) == (
        300,
        0.05,
        ["a", "b"],
        {"neutral": 1.0},
    )
    ModernBertNliConfig().save_pretrained(tmp_path)
    assert ModernBertNliConfig.from_pretrained(tmp_path).calibration is None


BROKEN = [
    ({"table": [{"target_risk": 0.1, "threshold": 0.5}]}, "each row of `table` needs coverage, risk"),
    ({"table": entry({0.1: 0.5, 0.2: 0.4})["table"]}, "a greater target of `table` has a lower threshold"),
    ({"table": entry({0.2: 0.5, 0.1: 0.6})["table"]}, "the targets of `table` must increase"),
    ({"table": entry({0.1: 1.5})["table"]}, "thresholds of `table` lie between 0 and 1"),
    ({"table": "none"}, "each row of `table`"),
    ({"quantiles": [0.5] * 100}, "`quantiles` are 101"),
    ({"quantiles": [0.5] * 100 + [0.4]}, "`quantiles` must increase"),
    ({"labels": ["neutral"]}, "`labels` are shares"),
    ({"delta": 1}, "`delta` lies between"),
    ({"n": "many"}, "`n` is a number"),
]


@pytest.mark.parametrize(("changed", "complaint"), BROKEN, ids=[complaint for _, complaint in BROKEN])
def test_a_broken_calibration_is_refused_on_loading(tmp_path, changed, complaint):
    """What is wrong with it is said, and what mends it."""
    ModernBertNliConfig().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    broken = {"separate": {**entry({0.1: 0.5}), **changed}}
    path.write_text(json.dumps({**json.loads(path.read_text()), "calibration": broken}))
    with pytest.raises(ValueError, match=complaint) as caught:
        ModernBertNliConfig.from_pretrained(tmp_path)
    assert "`calibration['separate']`" in str(caught.value)
    assert "calibrate.py" in str(caught.value)


@pytest.mark.parametrize("calibration", [[], "yes", {"apart": {}}, {"joint": None}, {"joint": {"n": 3}}])
def test_what_is_no_calibration_is_refused(calibration):
    """Another kind of value, another encoding, an entry without its parts."""
    with pytest.raises(ValueError, match="`calibration"):
        ModernBertNliConfig(calibration=calibration)


# As it is stored --------------------------------------------------------------------------------------------

RISKS = st.lists(st.sampled_from(TARGETS), unique=True).map(sorted)
FIGURES = st.floats(0, 1)


@st.composite
def tables(draw, more: tuple[str, ...] = ()) -> list[dict]:
    """Rows of a guarantee, some of which guarantee nothing."""
    targets = draw(RISKS)
    thresholds = sorted(draw(st.lists(FIGURES, min_size=len(targets), max_size=len(targets))))
    found = []
    for target, threshold in zip(targets, thresholds, strict=True):
        kept = draw(st.booleans())
        figures = {key: draw(FIGURES) if kept else None for key in ("coverage", "risk", *more)}
        found.append({"target_risk": target, "threshold": threshold if kept else None, **figures})
    return found


@st.composite
def entries(draw) -> dict:
    """Calibrations for an encoding."""
    found = {**entry(), "table": draw(tables()), "quantiles": sorted(draw(FIGURES) for _ in range(101))}
    if draw(st.booleans()):
        names = draw(st.lists(st.text(min_size=1).filter("calibration".__ne__), unique=True, max_size=3))
        found["groups"] = {name: {"n": draw(st.integers(1, 9)), "table": draw(tables())} for name in names}
    if draw(st.booleans()):
        each = [
            {"name": draw(st.text()), "pairs": 3, "error": draw(FIGURES), "coverage": 0.0, "risk": None}
            for _ in range(draw(st.integers(1, 3)))
        ]
        about = {"method": "m", "delta": 0.1, "n": len(each), "date": "2026-11-24", "at": None}
        found["domains"] = {**about, "table": draw(tables(("worst_risk", "broken"))), "each": each}
    return found


def near(found, expected, key: str = "") -> bool:
    """Equal but for figures after the sixth digit; what guarantees and how is equal to the last one."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(near(found[k], expected[k], k) for k in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(near, found, expected, [key] * len(found)))
    if isinstance(expected, float) and key not in ("threshold", "target_risk", "delta"):
        return found == pytest.approx(expected, rel=1e-5)
    return found == expected


@given(st.dictionaries(st.sampled_from(["joint", "separate"]), entries(), min_size=1))
def test_a_stored_calibration_is_the_one_that_was(calibration):
    """Rows and groups that guarantee nothing are there again; what is stored is stored the same next time."""
    stored = json.loads(json.dumps(compact(calibration)))
    again = expanded(stored)
    assert near(again, calibration)
    check_calibration(again, ENCODINGS)
    assert compact(again) == stored
    assert expanded(again) == again
    assert expanded(calibration) == calibration  # of an earlier version, in config.json


@pytest.fixture
def stored(tiny_modernbert, tmp_path) -> Path:
    """A calibrated checkpoint, as it is saved."""
    nli = calibrated(tiny_modernbert, lambda scores: entry({0.05: None, 0.1: 0.5}))
    nli.save_pretrained(tmp_path / "stored")
    return tmp_path / "stored"


def load_in(folder: Path, base: str) -> ModernBertNliModel:
    return ModernBertNliModel.from_pretrained(folder, base_model_name_or_path=base)


def test_a_calibration_is_read_when_it_is_asked_for(stored, tiny_modernbert, monkeypatch):
    """And not before: not by loading, judging or saying whether it is stale; and once."""
    asked = []
    reader = read_calibration
    module = "modernbert_nli.calibration.read_calibration"
    monkeypatch.setattr(module, lambda *args, **kwargs: asked.append(args) or reader(*args, **kwargs))
    nli = load_in(stored, tiny_modernbert).as_pipeline()
    assert nli(*PAIRS[0])["label"]
    assert nli.model.stale_calibration() is None
    assert not asked
    assert nli.threshold_for(0.1) == 0.5
    assert nli.threshold_for(0.1) == 0.5
    assert len(asked) == 1
    config = json.loads((stored / "config.json").read_text())
    assert "calibration" not in config
    assert config["calibrated_heads"] == nli.model.heads_digest()


@pytest.mark.parametrize("opened", ["config", "model", "auto class", "copied", "pickled", "saved again"])
def test_a_calibration_is_found_from_anywhere(stored, tiny_modernbert, opened, tmp_path):
    """However its configuration came about."""
    expected = expanded(json.loads((stored / "calibration.json").read_text())["calibration"])
    if opened == "config":
        config = ModernBertNliConfig.from_pretrained(stored)
    elif opened == "auto class":
        how = {"trust_remote_code": True, "base_model_name_or_path": tiny_modernbert}
        config = AutoModel.from_pretrained(stored, **how).config
    else:
        config = load_in(stored, tiny_modernbert).config
    config = carried(config, opened, tmp_path / "again")
    if opened == "saved again":
        assert (tmp_path / "again" / "calibration.json").read_bytes() == (
            stored / "calibration.json"
        ).read_bytes()
    assert config.calibration == expected


def test_a_calibration_in_config_json_is_still_read(stored, tiny_modernbert, tmp_path):
    """As earlier versions have it; saved, it goes where it belongs now."""
    config = stored_config(stored)
    before = config["calibration"]
    (stored / "calibration.json").unlink()
    (stored / "config.json").write_text(json.dumps(config))
    model = load_in(stored, tiny_modernbert)
    assert model.calibration == before
    assert stored_config(stored)["calibration"] == before
    model.save_pretrained(stored)
    assert "calibration" not in json.loads((stored / "config.json").read_text())
    assert load_in(stored, tiny_modernbert).calibration == before


def test_without_a_calibration_none_is_left_beside_the_heads(stored, tiny_modernbert):
    """Of an earlier save, whether the model had it from there or was given none."""
    model = load_in(stored, tiny_modernbert)
    model.set_calibration(None, 0.3)
    assert model.calibration is None
    model.save_pretrained(stored)
    assert not (stored / "calibration.json").exists()
    again = load_in(stored, tiny_modernbert)
    assert again.calibration is None
    assert again.config.abstention_threshold == 0.3


def test_a_calibration_of_other_heads_is_not_read(stored, tiny_modernbert, caplog):
    """Where files of two checkpoints were mixed, or a save was cut in between."""
    other = json.loads((stored / "calibration.json").read_text())
    (stored / "calibration.json").write_text(json.dumps({**other, "calibrated_heads": "0" * 64}))
    nli = load_in(stored, tiny_modernbert).as_pipeline()
    assert nli(*PAIRS[0])["label"]
    with pytest.raises(ValueError, match="not calibrated for separate"):
        nli.threshold_for(0.1)
    assert "calibration" not in stored_config(stored)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"calibration": 3}',
        '{"calibration": {"separate": {}}}',
        '{"calibration": {"separate": {"table": {"risk": [0.1]}}}}',
        '{"calibration": {"separate": {"table": {"target_risk": [0.1], "risk": []}, "targets": [0.1]}}}',
        '{"calibration": {"apart": {"table": []}}}',
    ],
)
def test_a_calibration_that_cannot_be_read_is_told(stored, tiny_modernbert, text):
    """Which file, and what to do, when it is asked for; judging goes on without it."""
    (stored / "calibration.json").write_text(text)
    nli = load_in(stored, tiny_modernbert).as_pipeline()
    assert nli(*PAIRS[0])["label"]
    with pytest.raises(ValueError, match=r"(?s)calibration\.json is no calibration.*calibrate\.py"):
        nli.threshold_for(0.1)


def ask_hub(name: str, base: str, cache: str) -> list:
    """What was downloaded of a calibration before it was asked for, and thresholds by it."""
    import pickle
    from pathlib import Path

    from transformers import AutoModel, pipeline

    how = {"trust_remote_code": True, "token": "hf_mine", "cache_dir": cache}
    model = AutoModel.from_pretrained(name, base_model_name_or_path=base, **how)
    before = list(Path(cache).rglob("calibration.json"))
    assert b"hf_mine" not in pickle.dumps(model.config)
    nli = model.as_pipeline()
    found = nli.threshold_for(0.1)
    kwargs = {"base_model_name_or_path": base, "cache_dir": cache}
    piped = pipeline(model=name, model_kwargs=kwargs, trust_remote_code=True, target_risk=0.1)
    return [len(before), found, piped.threshold]


def test_a_calibration_comes_from_the_hub_when_it_is_asked_for(stored, hub, tiny_modernbert, tmp_path):
    """From the same place, by the same token as the heads."""
    hub.add("tester/calibrated", stored)
    args = ("tester/calibrated", tiny_modernbert, str(tmp_path / "cache"))
    assert fresh(ask_hub, *args, home=tmp_path, HF_ENDPOINT=hub.url) == [0, 0.5, 0.5]
    tokens = {request.token for request in hub.requests if request.path.endswith("/calibration.json")}
    assert "hf_mine" in tokens


def test_the_quick_start_says_briefly_what_it_is():
    """Its configuration can be read at a glance, and its calibration is small."""
    config = json.loads((embedded.CHECKPOINT / "config.json").read_text())
    assert "calibration" not in config
    fitted = {key: config.pop(key) for key in ("evidence", "routing")}  # weights of their own
    assert len(json.dumps(config, indent=2)) <= 4_000
    assert all(fitted.values())
    assert (embedded.CHECKPOINT / "calibration.json").stat().st_size <= 20_000
    assert stored_config(embedded.CHECKPOINT)["calibration"]["separate"]["n"] > 1000


# In the pipeline --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nli(tiny_modernbert):
    """Calibrated so that targets of 10, 20 and 30 % accept 0, 1 and 2 of `PAIRS`, in each encoding."""
    return calibrated(
        tiny_modernbert,
        lambda doubts: entry({0.05: None, 0.1: doubts[0], 0.2: doubts[1], 0.3: doubts[2]}),
    )


def test_a_target_risk_is_a_threshold(nli):
    """That of the greatest target that is no greater, in the encoding of the call; given here or there."""
    for target, expected in ((0.1, 0), (0.199, 0), (0.2, 1), (0.25, 1), (0.3, 2), (0.9, 2)):
        for encoding in ("separate", "joint"):
            assert answered(nli(PAIRS, target_risk=target, encoding=encoding)) == expected
            other = nli.model.as_pipeline(target_risk=target, encoding=encoding)
            assert answered(other(PAIRS)) == expected
            assert other.threshold == nli.threshold_for(target, encoding)
    given = nli.model.as_pipeline(target_risk=0.2)
    assert answered(given(PAIRS, encoding="joint")) == 1  # whose thresholds are other ones
    assert answered(given(PAIRS, target_risk=0.3)) == 2
    assert answered(given(PAIRS, threshold=1.0)) == 3
    assert answered(nli.model.as_pipeline(threshold=1.0)(PAIRS, target_risk=0.2)) == 1
    assert set(given(*PAIRS[0])) == {"label", "confidence", "abstain", "uncertainty", "probs", "reason"}


def test_a_target_risk_goes_through_every_method(nli):
    """Of texts and of stored states, in either encoding."""
    premises = [premise for premise, _ in PAIRS]
    for other in (nli, nli.model.as_pipeline(encoding="joint")):
        claim = PAIRS[0][1]
        for target in (0.1, 0.3):
            expected = [
                result["abstain"]
                for result in other([(text, claim) for text in premises], target_risk=target)
            ]
            facts = other.validate_fact(premises, claim, target_risk=target)
            assert [fact["uncertain"] for fact in facts] == expected
    stored = nli.model.encode(premises)
    apart, joint = nli, nli.model.as_pipeline(encoding="joint", target_risk=0.3)
    uncertain = [fact["uncertain"] for fact in apart.validate_fact(stored, claim, target_risk=0.3)]
    assert [fact["uncertain"] for fact in joint.validate_fact(stored, claim)] == uncertain  # encoded apart


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ({"target_risk": 0.2, "threshold": 0.5}, "not both"),
        (
            {"target_risk": 0.05},
            r"A risk of 5.0% cannot be guaranteed with separate encoding: the lowest is 10.0%",
        ),
        ({"target_risk": 0.01, "encoding": "joint"}, "with joint encoding: the lowest is 10.0%, from 500"),
        ({"target_risk": 0}, "is a share of wrong answers"),
        ({"target_risk": 10}, "is a share of wrong answers"),
        ({"target_risk": "low"}, "is a share of wrong answers"),
        ({"target_risk": True}, "is a share of wrong answers"),
    ],
)
def test_a_risk_that_cannot_be_guaranteed(nli, how, complaint):
    """Refused at once, wherever it is given, with what can be."""
    calls = [
        lambda: nli(*PAIRS[0], **how),
        lambda: nli.model.as_pipeline(**how),
        lambda: nli(iter(PAIRS), **how),
    ]
    if "encoding" not in how:
        calls.append(lambda: nli.validate_fact(*PAIRS[0], **how))
    for call in calls:
        with pytest.raises(ValueError, match=complaint):
            call()


def test_without_calibration_there_is_no_guarantee(nli, model):
    """The error says which program makes one, and for which encoding there is one."""
    for call in (
        lambda: model.as_pipeline(target_risk=0.1),
        lambda: model.as_pipeline()(*PAIRS[0], target_risk=0.1),
        lambda: model.as_pipeline().drift(PAIRS),
    ):
        with pytest.raises(ValueError, match=r"not calibrated for \w+ encoding, .* python calibrate.py"):
            call()
    half = make_model(nli.model.config._base_override[0], "separate")
    half.set_calibration({"separate": nli.model.config.calibration["separate"]}, 0.5)
    with pytest.raises(ValueError, match=r"for joint encoding \(for separate it is\)"):
        half.as_pipeline()(PAIRS, target_risk=0.3, encoding="joint")


# The heads that it was made for -----------------------------------------------------------------------------


def _trained_by_trainer(model, folder: Path):
    """The heads after a plain Trainer taught them to say always the same."""
    rows = [dict(model.tokenizer(*pair), labels=0) for pair in PAIRS]
    arguments = TrainingArguments(
        str(folder / "run"), max_steps=2, learning_rate=0.1, use_cpu=True, report_to="none", save_steps=2
    )
    Trainer(
        model, arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(model.tokenizer)
    ).train()
    return folder / "run" / "checkpoint-2"


def _random_output(model, folder: Path):
    model.save_pretrained(folder / "own")
    where = {"base_model_name_or_path": model.config._base_override[0]}
    labels = {"num_labels": 4, "ignore_mismatched_sizes": True}
    ModernBertNliModel.from_pretrained(folder / "own", **where, **labels).save_pretrained(folder / "random")
    config = json.loads((folder / "random" / "config.json").read_text())
    config["id2label"]["0"], config["label2id"] = "entailment", {"entailment": 0}
    (folder / "random" / "config.json").write_text(json.dumps(config))
    return folder / "random"


def _edited_in_place(model, folder: Path):
    model.nli_output.weight.data.mul_(1.01)  # which no version counter sees
    model.save_pretrained(folder / "edited")
    return folder / "edited"


def _mixed_otherwise(model, folder: Path):
    model.config.abstention_weight = 0.25
    model.save_pretrained(folder / "mixed")
    return folder / "mixed"


def _without_digest(model, folder: Path):
    model.config.calibrated_heads = None
    model.save_pretrained(folder / "old")
    return folder / "old"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_trained_by_trainer, "made for other heads"),
        (_random_output, "made for other heads"),
        (_edited_in_place, "made for other heads"),
        (_mixed_otherwise, "made for other heads"),
        (_without_digest, "does not say which heads"),
    ],
)
def test_other_heads_guarantee_nothing(nli, change, reason, tiny_modernbert, tmp_path):
    """Whatever changed them: no risk, no drift, no table, until they are calibrated; and it is said."""
    model = copy.deepcopy(nli.model)
    where = {"base_model_name_or_path": tiny_modernbert}
    changed = ModernBertNliModel.from_pretrained(change(model, tmp_path), **where)
    pipe = changed.as_pipeline()
    for call in (
        lambda: pipe(PAIRS, target_risk=0.3),
        lambda: pipe.threshold_for(0.3),
        lambda: pipe.drift(PAIRS),
        lambda: changed.as_pipeline(target_risk=0.3),
        lambda: changed.calibration,
    ):
        with pytest.raises(ValueError, match=reason):
            call()
    assert choice(pipe) is None
    assert reason in limit(pipe, None).guarantee
    # Where to abstain is still known, as a plain threshold.
    assert pipe.threshold == nli.model.config.abstention_threshold
    changed.set_calibration(nli.model.config.calibration, 0.5)
    assert changed.as_pipeline()(PAIRS, target_risk=0.3)


def test_a_threshold_of_other_heads_is_questioned(nli, monkeypatch):
    """Once, in a sentence; not where it is right, nor where the caller chose one."""
    said = []
    warn = modernbert_nli.pipeline_modernbert_nli.logger
    monkeypatch.setattr(warn, "warning_once", said.append)
    model = copy.deepcopy(nli.model)
    model.as_pipeline()
    model.nli_output.bias.data.add_(0.5)
    model.as_pipeline(threshold=0.5)
    assert said == []
    model.as_pipeline()
    assert re.search("other heads.*abstains from an uncertainty of 0.5 upwards.*nothing of the risk", said[0])


def test_the_digest_outlives_what_changes_no_weight(nli, tiny_modernbert, tmp_path):
    """Saving, loading in another precision of the base, copies, pickles, training mode, freezing."""
    nli.model.save_pretrained(tmp_path)
    how = {"base_model_name_or_path": tiny_modernbert}
    digest = nli.model.config.calibrated_heads
    loaded = [
        ModernBertNliModel.from_pretrained(tmp_path, **how, dtype=dtype) for dtype in ("float32", "bfloat16")
    ]
    copies = [copy.deepcopy(nli.model).train().requires_grad_(False), pickle.loads(pickle.dumps(nli.model))]
    assert {model.heads_digest() for model in (nli.model, *loaded, *copies)} == {digest}
    offloaded = accelerate.cpu_offload(loaded[0])
    assert offloaded.nli_output.weight.is_meta
    assert offloaded.heads_digest() == digest


def test_a_calibrated_checkpoint_works_as_remote_code(nli, tiny_modernbert, tmp_path):
    """Saved with its code and its table, opened by transformers alone."""
    nli.model.save_pretrained(tmp_path)
    assert (tmp_path / "calibration.py").is_file()
    base = {"base_model_name_or_path": tiny_modernbert}
    again = pipeline(model=str(tmp_path), trust_remote_code=True, model_kwargs=base, target_risk=0.2)
    assert answered(again(PAIRS)) == 1
    assert again.drift(PAIRS * 20)["pairs"] == 60


# Drift ------------------------------------------------------------------------------------------------------


def test_a_drift_is_seen_and_its_absence_is_not():
    """Text like calibration's seldom alarms; higher scores or other labels do, in a sentence with figures."""
    draw = np.random.default_rng(0)
    known = entry({0.1: 0.5}, draw.beta(2, 5, 2000))
    known["labels"] = dict.fromkeys(LABELS, 1 / 3)

    def seen(scores, shares=(1 / 3, 1 / 3, 1 / 3)) -> dict:
        return drift_from(known, scores.tolist(), draw.choice(LABELS, len(scores), p=shares).tolist())

    alarms = [seen(draw.beta(2, 5, 400))["drifted"] is True for _ in range(200)]
    assert sum(alarms) <= 8  # 2 expected
    for found in (seen(draw.beta(2.6, 5, 400)), seen(draw.beta(2, 5, 400), (0.5, 0.3, 0.2))):
        assert found["drifted"] is True
        assert "guarantees for pairs like its own is not for these" in found["message"]
        assert f"Kolmogorov-Smirnov {found['statistic']:.3f}" in found["message"]
    same = seen(draw.beta(2, 5, 400))
    assert same["drifted"] is None  # never false, which would read as an all-clear
    assert "does not show that their risk is the guaranteed one" in same["message"]
    assert "--measure" in same["message"]
    assert set(same["labels"]) == set(LABELS)
    assert same["labels"]["neutral"]["calibration"] == pytest.approx(1 / 3)
    few = seen(draw.beta(8, 2, ENOUGH - 1))
    assert few["drifted"] is None
    assert "too few to tell" in few["message"]


def test_the_figures_of_a_drift_are_those_of_scipy():
    """Kolmogorov-Smirnov up to what 101 quantiles leave out, chi-square exactly."""
    stats = pytest.importorskip("scipy.stats")
    draw = np.random.default_rng(1)
    for shape, count in ((2, 300), (2.2, 1000), (3, 100)):
        known, here = draw.beta(2, 5, 3000), draw.beta(shape, 5, count)
        labels = draw.choice(LABELS, count, p=(0.4, 0.3, 0.3)).tolist()
        calibration = entry({0.1: 0.5}, known)
        found = drift_from(calibration, here.tolist(), labels)
        theirs = stats.ks_2samp(here, known)
        assert found["statistic"] == pytest.approx(theirs.statistic, abs=0.01)
        assert found["p_value"] == pytest.approx(theirs.pvalue, abs=0.1)
        counts = [[labels.count(name), calibration["labels"][name] * 3000] for name in LABELS]
        assert found["labels_p_value"] == pytest.approx(
            stats.chi2_contingency(counts, correction=False).pvalue
        )


@given(
    st.lists(st.integers(0, 5), min_size=MIN_PAIRS, max_size=130),
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(LABELS)), min_size=1, max_size=60),
)
@settings(max_examples=40)
def test_any_scores_can_be_compared(known, here):
    """Ties, single scores, labels that calibration never gave: figures lie between 0 and 1."""
    scores = np.array(known) / 5
    calibration = calibration_of(np.zeros(len(scores)), scores, ["neutral"] * len(scores), ["set"])
    found = drift_from(calibration, [step / 5 for step, _ in here], [label for _, label in here])
    for key in ("statistic", "p_value", "labels_p_value"):
        assert 0 <= found[key] <= 1
    same = drift_from(calibration, scores.tolist(), ["neutral"] * len(scores))
    assert same["statistic"] <= 0.02
    assert same["labels_p_value"] == 1


def test_results_and_pairs_are_compared_alike(nli):
    """By either encoding; nothing is no comparison."""
    results = nli(PAIRS * 20)
    assert nli.drift(results) == nli.drift(PAIRS * 20) == nli.drift(iter(results))
    assert nli.drift(results)["drifted"] is True  # random heads, against made up quantiles
    assert nli.drift(PAIRS * 20, encoding="joint") == nli.model.as_pipeline(encoding="joint").drift(
        PAIRS * 20
    )
    with pytest.raises(ValueError, match="no results"):
        nli.drift([])


# From the command line --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def held_out(checkpoints, tiny_modernbert, tmp_path_factory) -> str:
    """A file of pairs, of which the checkpoint `separate` judges the less certain half by chance."""
    judged = judged_rows(checkpoints["separate"], tiny_modernbert, 300)
    draw, middle = np.random.default_rng(0), np.median([result["uncertainty"] for _, result in judged])
    for row, result in judged:
        by_chance = result["uncertainty"] > middle
        row["label"] = str(draw.choice(LABELS)) if by_chance else result["label"]
    return write(tmp_path_factory.mktemp("held-out") / "held_out.jsonl", [row for row, _ in judged])


@pytest.fixture
def command(checkpoints, tiny_modernbert, held_out, tmp_path):
    """A copy of the checkpoint, and a function that calibrates it."""
    folder = Path(shutil.copytree(checkpoints["separate"], tmp_path / "checkpoint"))
    return folder, calibrator(folder, held_out, tiny_modernbert)


def test_a_checkpoint_is_calibrated_in_place(command, tiny_modernbert, capsys):
    """Its configuration has what was found, all else stays as it was, and its users can ask for a risk."""
    folder, run = command
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run(target_risk=0.15, delta=0.2) == 0
    told = capsys.readouterr()
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"config.json", "calibration.json"}
    old, new = (json.loads(files["config.json"]) for files in (before, after))
    assert {key for key in new if new[key] != old.get(key)} == set(calibrate.CALIBRATED) - {"calibration"}
    calibration = stored_config(folder)["calibration"]
    assert set(calibration) == {"separate", "joint"}
    found = calibration["separate"]
    assert (found["n"], found["delta"], found["data"]) == (300, 0.2, ["held_out"])

    base = {"base_model_name_or_path": tiny_modernbert}
    nli = ModernBertNliModel.from_pretrained(str(folder), **base).as_pipeline()
    assert new["abstention_threshold"] == nli.threshold_for(0.15) == nli.threshold
    kept = [row for row in found["table"] if row["threshold"] is not None]
    assert 0.3 < kept[0]["coverage"] < 0.7
    assert "with probability 80%" in told.out
    assert "Not covered" in told.out
    assert "cannot be guaranteed" in told.out
    assert "Only 300 pairs" in told.err

    pair = ("--model", str(folder), "--base", tiny_modernbert, *PAIRS[0], "--device", "cpu")
    assert predict.main([*pair, "--target_risk", "0.2"]) == 0
    assert f"threshold of {nli.threshold_for(0.2):.3g}" in capsys.readouterr().out
    assert predict.main([*pair, "--target_risk", "0.001"]) == 2
    assert f"the lowest is {kept[0]['target_risk']:.1%}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        predict.main([*pair, "--target_risk", "0.2", "--threshold", "0.5"])


def test_a_copy_is_calibrated(command, tmp_path):
    """The checkpoint itself stays; a folder that is not empty is left alone."""
    folder, run = command
    before = (folder / "config.json").read_bytes()
    assert run(target_risk=0.2, output=tmp_path / "calibrated") == 0
    assert (folder / "config.json").read_bytes() == before
    copied = {path.name for path in (tmp_path / "calibrated").iterdir()}
    assert copied == {"calibration.json", *(path.name for path in folder.iterdir())}
    assert ModernBertNliConfig.from_pretrained(tmp_path / "calibrated").calibration
    assert run(output=tmp_path / "calibrated") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calibrated", "checkpoint"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"target_risk": 0.001}, "A risk of 0.1% cannot be guaranteed with separate encoding: the lowest is"),
        ({"data": "few"}, "60 pairs are too few"),
        ({"data": "two-way"}, "entailment or not entailment"),
        ({"data": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"model": "owner/checkpoint"}, "is no folder: say by --output"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_calibrated_stays_as_it_was(
    command, tmp_path, monkeypatch, capsys, options, complaint
):
    """A sentence on the error stream, and not a byte changed."""
    folder, run = command
    if options.get("data") == "two-way":
        texts = ["a text"] * 200
        two_way = Pairs("hans", texts, texts, np.array([0, 3] * 100))
        monkeypatch.setattr("modernbert_nli.training.data.load_pairs", lambda source, group_by: two_way)
    elif options.get("data") == "few":
        options = {"data": write(tmp_path / "few.jsonl", rows(60))}
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run(**options) == 2
    assert complaint in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("option", [{"delta": 0}, {"delta": 1.5}, {"target_risk": 2}, {"batch_size": 0}])
def test_a_mistyped_option_is_told_at_once(command, option):
    """Before anything is loaded."""
    with pytest.raises(SystemExit):
        command[1](**option)
