"""Adapting to a few labelled pairs: learnt, cross-validated, calibrated, saved, and little forgotten."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import NOUNS, carried, make_model, rows, write
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from scipy.stats import binom
from transformers import pipeline

from modernbert_nli.adapting import classes_of
from modernbert_nli.configuration_modernbert_nli import ModernBertNliConfig
from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel
from modernbert_nli.replay import FILES, MOST_BYTES, ReplaySample
from modernbert_nli.risk_control import binomial_tail, pairs_needed
from modernbert_nli.separate import known_texts
from modernbert_nli.training import pilot_command as pilot
from modernbert_nli.training.command import main
from modernbert_nli.training.data import load_pairs
from modernbert_nli.training.selecting import representatives, spread_out

LABEL2ID = {"entailment": 0, "neutral": 1, "contradiction": 2}
OWN = {
    "entailment": "somebody sees this {} on the phone",
    "neutral": "people and politics , a {}",
    "contradiction": "science : {} is eating",
}


def own_pairs(count: int, seed: int = 0) -> tuple[list[tuple[str, str]], list[str]]:
    """Of another kind than `rows`: their label can be read off other words, and their premises are others."""
    draw = np.random.default_rng(seed)
    labels = [str(label) for label in draw.choice(list(OWN), count)]
    nouns = draw.choice(NOUNS, count)
    pairs = [
        (f"this is about science {seed} {number}", OWN[label].format(noun))
        for number, (label, noun) in enumerate(zip(labels, nouns, strict=True))
    ]
    return pairs, labels


@pytest.fixture(scope="module")
def start(tmp_path_factory, tiny_modernbert) -> str:
    """Folder of heads that know one kind of pairs."""
    folder = tmp_path_factory.mktemp("adapt")
    options = {
        "--train_data": write(folder / "train.jsonl", rows(400)),
        "--output_dir": str(folder / "start"),
        "--cache_dir": str(folder / "states"),
        "--base_model": "tester/tiny-base",
        "--base_folder": tiny_modernbert,
        "--held_out": "0.2",
        "--learning_rate": "5e-3",
        "--per_device_train_batch_size": "16",
    }
    main([word for option in options.items() for word in option])
    return str(folder / "start")


@pytest.fixture(scope="module")
def nli(start, tiny_modernbert):
    return load(start, tiny_modernbert)


@pytest.fixture(scope="module")
def mine(nli):
    """Adapted. Shared: not to be changed."""
    return nli.adapt(*own_pairs(150))


def load(folder, base):
    return ModernBertNliModel.from_pretrained(folder, base_model_name_or_path=base).as_pipeline(device="cpu")


def share_right(pipe, pairs, labels, **options) -> float:
    return float(
        np.mean([said["label"] == label for said, label in zip(pipe(pairs, **options), labels, strict=True)])
    )


def test_it_learns_and_does_not_forget(nli, mine):
    """Better on unseen pairs of the new kind, in both encodings, and as good as ever at home."""
    new, old = own_pairs(100, seed=7), rows(100, seed=1)
    home = [(row["premise"], row["hypothesis"]) for row in old], [row["label"] for row in old]
    for encoding in ("separate", "joint"):
        assert share_right(mine, *new, encoding=encoding) > share_right(nli, *new, encoding=encoding) + 0.05
        assert share_right(mine, *home, encoding=encoding) > share_right(nli, *home, encoding=encoding) - 0.05
    report = mine.model.config.adaptation
    assert 0 < report["strength"] <= 1
    assert report["after"]["separate"] > report["before"]["separate"]
    # What cross-validation expected is what came.
    assert share_right(mine, *new) == pytest.approx(report["after"]["separate"], abs=0.15)
    assert "Adapted to 150 pairs" in report["message"]


def test_the_pipeline_that_was_asked_stays_what_it_is(start, tiny_modernbert):
    """Heads, configuration and answers; also while the adapted one judges, and under inference mode."""
    pipe = load(start, tiny_modernbert)
    before = {key: value.clone() for key, value in pipe.model.state_dict().items()}
    config, pairs = pipe.model.config.to_dict(), own_pairs(30)
    answers = pipe(pairs[0])
    with torch.inference_mode():
        adapted = pipe.adapt(*own_pairs(60, seed=2))
    assert adapted(pairs[0]) != answers
    assert pipe(pairs[0]) == answers
    assert pipe.model.config.to_dict() == config
    for key, value in pipe.model.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert adapted.model.encoder is pipe.model.encoder


def test_one_seed_gives_one_result(nli, mine):
    """Whatever was drawn at random before."""
    torch.manual_seed(5)
    again = nli.adapt(*own_pairs(150))
    for key, value in again.model.head_state().items():
        assert torch.equal(value, mine.model.head_state()[key]), key


def test_only_what_is_concluded_from_a_summary_changes(nli, mine):
    """So that texts which were projected once stay valid, and so does the sample of what was learnt from."""
    before, after = nli.model.head_state(), mine.model.head_state()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert {key.split(".")[1] for key in changed} <= {"aggregation", "weight", "bias", "output"}
    texts = nli.model.project_states(nli.model.encode(["the dog runs", "nobody is outside"]))
    assert len(known_texts(mine.model, texts)) == 2
    assert mine.model.replay_sample is not None


def test_it_is_saved_like_any_other(mine, tiny_modernbert, tmp_path):
    """Heads, guarantee, report and sample, loaded by `pipeline` with the code that was saved beside them."""
    mine.save_pretrained(tmp_path / "mine")
    assert (tmp_path / "mine" / FILES[0]).stat().st_size <= MOST_BYTES
    loaded = pipeline(
        model=str(tmp_path / "mine"),
        trust_remote_code=True,
        model_kwargs={"base_model_name_or_path": tiny_modernbert},
    )
    pairs, _ = own_pairs(20, seed=3)
    assert loaded(pairs) == mine(pairs)
    assert "message" not in (tmp_path / "mine" / "config.json").read_text()  # the report has its own file
    assert loaded.model.config.adaptation == mine.model.config.adaptation
    assert len(loaded.model.replay_sample) == len(mine.model.replay_sample)
    further = loaded.adapt(*own_pairs(40, seed=4))
    assert type(further) is type(loaded)
    assert further.model.config.adaptation["pairs"] == 40


@pytest.mark.parametrize("how", ["copied", "pickled", "saved again", "of an earlier version", "registered"])
def test_its_report_is_found_wherever_its_configuration_goes(mine, tiny_modernbert, tmp_path, how):
    """From its own file, or from config.json, where version 0.2 has it."""
    expected, folder = mine.model.config.adaptation, tmp_path / "mine"
    mine.save_pretrained(folder)
    if how == "of an earlier version":
        stored = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**stored, "adaptation": expected}))
        (folder / "adaptation.json").unlink()
    config = ModernBertNliConfig.from_pretrained(folder)
    assert expected["message"] not in repr(config)
    config = carried(config, how, tmp_path / "again")
    if how == "saved again":
        shutil.rmtree(folder)
        config = ModernBertNliConfig.from_pretrained(tmp_path / "again")
    elif how == "registered":  # AutoConfig then makes it of the contents of config.json alone
        config = ModernBertNliConfig.from_dict(json.loads((folder / "config.json").read_text()))
        where = {"config": config, "base_model_name_or_path": tiny_modernbert}
        config = ModernBertNliModel.from_pretrained(folder, **where).config
    assert config.adaptation == expected


def test_no_report_of_other_heads_stays_beside_a_checkpoint(mine, nli, tmp_path):
    """Heads that were not adapted have none, in a folder of some that were."""
    mine.save_pretrained(tmp_path)
    assert (tmp_path / "adaptation.json").is_file()
    (tmp_path / "adaptation.json").rename(tmp_path / "elsewhere")
    assert ModernBertNliConfig.from_pretrained(tmp_path).adaptation is None
    (tmp_path / "elsewhere").rename(tmp_path / "adaptation.json")
    nli.save_pretrained(tmp_path)
    assert not (tmp_path / "adaptation.json").exists()
    assert ModernBertNliConfig.from_pretrained(tmp_path).adaptation is None


def known_pairs(pipe, count: int) -> tuple[list[tuple[str, str]], list[str]]:
    """Pairs that the start tells right."""
    pairs = [(row["premise"], row["hypothesis"]) for row in rows(count, seed=1)]
    said = zip(pipe(pairs), pipe(pairs, encoding="joint"), rows(count, seed=1), pairs, strict=True)
    right = [
        (pair, row["label"])
        for one, other, row, pair in said
        if one["label"] == other["label"] == row["label"]
    ]
    return [pair for pair, _ in right], [label for _, label in right]


def test_where_nothing_can_be_gained_the_start_is_kept(nli):
    """All is told right already: the heads stay, and it is said."""
    kept = nli.adapt(*known_pairs(nli, 50))
    report = kept.model.config.adaptation
    assert report["strength"] == 0
    assert "kept as they were" in report["message"]
    assert report["before"] == report["after"]
    for key, value in kept.model.head_state().items():
        assert torch.equal(value, nli.model.head_state()[key]), key


def test_labels_that_say_only_whether_it_is_entailed(nli):
    """True and false, or names: learnt, and told in sentences of two."""
    pairs, labels = own_pairs(400, seed=6)
    two_way = [label == "entailment" for label in labels]
    mine = nli.adapt(pairs, two_way)
    new, truth = own_pairs(100, seed=8)
    right = {
        name: np.mean(
            [
                (said["label"] == "entailment") == (label == "entailment")
                for said, label in zip(pipe(new), truth, strict=True)
            ]
        )
        for name, pipe in (("before", nli), ("after", mine))
    }
    assert right["after"] > right["before"]
    assert mine.model.config.adaptation["two_way"]
    named = nli.adapt(pairs, ["entailment" if label else "Not entailment" for label in two_way])
    assert torch.equal(named.model.nli_output.weight, mine.model.nli_output.weight)


def test_the_same_call_calibrates(mine, nli):
    """The guarantee is of these heads and pairs, or it is said how many more pairs it takes."""
    config, report = mine.model.config, mine.model.config.adaptation
    assert mine.model.stale_calibration() is None
    assert mine.threshold == report["threshold"] == config.abstention_threshold
    if report["more_pairs"] == 0:
        assert mine.threshold_for(0.1) == report["threshold"]
    few = nli.adapt(*known_pairs(nli, 50)).model.config
    assert few.calibration is None
    assert few.adaptation["more_pairs"] == 100 - few.adaptation["pairs"]
    assert f"about {few.adaptation['more_pairs']:,} more pairs would do" in few.adaptation["message"]


def test_without_a_sample_little_is_changed(start, tiny_modernbert, tmp_path):
    """Of an older checkpoint: nothing shows what it costs, which is said."""
    folder = shutil.copytree(start, tmp_path / "older")
    (folder / FILES[0]).unlink()
    pipe = load(folder, tiny_modernbert)
    assert pipe.model.replay_sample is None
    report = pipe.adapt(*own_pairs(100)).model.config.adaptation
    assert report["strength"] <= 0.25
    assert report["replay"] is None
    assert report["strength"] == 0 or "no sample of what it learnt from" in report["message"]


@pytest.mark.parametrize("head_type", ["cls", "alignment"])
def test_heads_of_other_families(tiny_modernbert, head_type):
    """A CLS head concludes from its first token; an error head stays as it is."""
    nli = make_model(tiny_modernbert, head_type).as_pipeline()
    mine = nli.adapt(*own_pairs(60))
    assert mine.model.config.adaptation["after"].keys() == nli.model.config.encoder_layers.keys()
    for key, value in mine.model.abstention_head.state_dict().items():
        assert torch.equal(value, nli.model.abstention_head.state_dict()[key])


@pytest.mark.parametrize(
    ("pairs", "labels", "complaint"),
    [
        (own_pairs(19)[0], own_pairs(19)[1], "19 labelled pairs are too few"),
        (own_pairs(30)[0], own_pairs(29)[1], "30 pairs and 29 labels do not match"),
        (own_pairs(30)[0], ["entailment"] * 29 + ["maybe"], "label 29: 'maybe' is none of entailment"),
        (own_pairs(30)[0], [None] * 30, "label 0: None is none of"),
        ([*own_pairs(29)[0], ("a", 1)], own_pairs(30)[1], "29"),
        ([*own_pairs(29)[0], "a text"], own_pairs(30)[1], "29"),
        ("a text", ["entailment"], "Give a list of pairs, not str"),
        (5, ["entailment"], "Give a list of pairs, not int"),
    ],
)
def test_what_cannot_be_learnt_from(nli, pairs, labels, complaint):
    """Each is named before anything is computed."""
    with pytest.raises(ValueError, match=complaint):
        nli.adapt(pairs, labels)


@pytest.mark.parametrize("risk", [0, 1, True, "10%"])
def test_a_risk_that_is_no_share(nli, risk):
    """It is refused for pairs and for routes."""
    with pytest.raises(ValueError, match="`target_risk` is a share"):
        nli.adapt(*own_pairs(30), target_risk=risk)
    with pytest.raises(ValueError, match="`target_risk` is a share"):
        nli.adapt_routes(["a"], ["b"], ["b"], target_risk=risk)


def test_labels_however_they_are_written():
    """Names in any case, numbers (NumPy's too), two-way names, true and false."""
    labels = [
        "Entailment",
        " neutral",
        "CONTRADICTION",
        "non_entailment",
        "not entailment",
        np.int64(1),
        True,
        False,
    ]
    assert classes_of(labels, LABEL2ID).tolist() == [0, 1, 2, 3, 3, 1, 0, 3]


# What the heads had learnt from -----------------------------------------------------------------------------


def test_the_sample_is_of_these_heads_alone(start, tiny_modernbert, tmp_path):
    """Heads that summarise otherwise have none, and do not save it; those that conclude otherwise do."""
    model = ModernBertNliModel.from_pretrained(start, base_model_name_or_path=tiny_modernbert)
    with torch.no_grad():
        model.nli_output.bias += 1
    model.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / FILES[0]).exists()
    with torch.no_grad():
        model.nli_hidden.projection[0].bias += 1
    assert model.replay_sample is None
    model.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / FILES[0]).exists()


def test_a_sample_of_version_0_2_is_read(start, tiny_modernbert, tmp_path):
    """Under its name there, which is gone where the heads are saved anew."""
    folder = Path(shutil.copytree(start, tmp_path / "old"))
    (folder / FILES[0]).rename(folder / FILES[1])
    model = ModernBertNliModel.from_pretrained(str(folder), base_model_name_or_path=tiny_modernbert)
    assert len(model.replay_sample) == len(ReplaySample.load(f"{start}/{FILES[0]}"))
    model.save_pretrained(folder)
    assert [(folder / name).exists() for name in FILES] == [True, False]


def test_a_sample_that_cannot_be_read_is_named(start, tmp_path):
    """Truncated, or of another format."""
    whole = ReplaySample.load(f"{start}/{FILES[0]}")
    assert whole.summaries["joint"].shape[0] == len(whole.labels["joint"])
    broken = tmp_path / FILES[0]
    broken.write_bytes((tmp_path.parent / start / FILES[0]).read_bytes()[:500])
    with pytest.raises(OSError, match="truncated"):
        ReplaySample.load(broken)
    with pytest.raises(OSError, match="no sample"):
        ReplaySample.load(f"{start}/model.safetensors")
    assert "replay" not in " ".join(load_file(f"{start}/model.safetensors"))


# How many more ----------------------------------------------------------------------------------------------


@given(st.integers(1, 3000), st.floats(0, 1), st.floats(0.005, 0.6))
def test_the_tail_is_that_of_scipy(accepted, share, risk):
    """Also far out, where terms are too small to be numbers."""
    wrong = round(share * accepted)
    assert binomial_tail(wrong, accepted, risk) == pytest.approx(binom.cdf(wrong, accepted, risk), abs=1e-9)


def test_more_pairs_are_asked_for_where_more_of_them_help():
    """Fewer for a greater risk, what no error at all asks for at least, and never for hopeless heads."""
    draw = np.random.default_rng(0)
    uncertainty = torch.from_numpy(draw.random(200))
    errors = torch.from_numpy(draw.random(200) < 0.3 * uncertainty.numpy())
    strict, loose = (pairs_needed(errors, uncertainty, target) for target in (0.1, 0.2))
    assert strict > loose >= 13
    assert pairs_needed(torch.ones(200, dtype=torch.bool), uncertainty, 0.1) is None


# Routes -----------------------------------------------------------------------------------------------------

CATEGORIES = {
    "dog": "the dog runs",
    "phone": "people are talking on the phone",
    "food": "a man is eating food",
}


def routed(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    draw = np.random.default_rng(seed)
    labels = [str(label) for label in draw.choice([*CATEGORIES, "none"], count)]
    texts = {**CATEGORIES, "none": "nobody is outside , politics and science"}
    return [f"{texts[label]} {number}" for number, label in enumerate(labels)], labels


@pytest.fixture(scope="module")
def by_risk(nli):
    """The same texts, for several risks and seeds. Shared: not to be changed."""
    texts, labels = routed(400)
    keys = [(0.02, 0), (0.1, 0), (0.3, 0), (0.1, 1)]
    return {
        (risk, seed): nli.adapt_routes(texts, labels, CATEGORIES, target_risk=risk, seed=seed)
        for risk, seed in keys
    }


def test_routes_are_fitted_and_calibrated(nli, by_risk):
    """For one's own texts and categories, which alone a risk is guaranteed for; pairs are judged as "
    "before."""
    mine = by_risk[0.1, 0]
    report = mine.model.config.adaptation["routes"]
    assert (report["texts"], report["target_risk"], report["more_texts"]) == (400, 0.1, 0)
    assert report["after"] >= report["before"]
    calibration = mine.model.config.routing["separate"]["calibration"]
    assert calibration["heads"] == mine.model.heads_digest()
    assert (calibration["n"], calibration["of"]) == (400, len(CATEGORIES))

    new, truth = routed(200, seed=1)
    kept = [row for row in calibration["table"] if row["threshold"] is not None]
    assert 0.1 in [row["target_risk"] for row in kept]
    for row in kept:
        said = mine.route(new, CATEGORIES, target_risk=row["target_risk"])
        assert said == mine.route(new, CATEGORIES, threshold=row["threshold"])
        answered = [
            (one["category"], label) for one, label in zip(said, truth, strict=True) if one["category"]
        ]
        assert answered
        assert np.mean([category != label for category, label in answered]) <= row["target_risk"]
    assert mine.route(new, CATEGORIES) == mine.route(new, CATEGORIES, target_risk=0.1)
    with pytest.raises(ValueError, match="other categories"):
        mine.route(new, {**CATEGORIES, "park": "the park"}, target_risk=0.1)
    with pytest.raises(ValueError, match="not calibrated"):
        nli.route(new, CATEGORIES, target_risk=0.1)
    pairs, _ = own_pairs(10)
    assert mine(pairs) == nli(pairs)
    assert nli.model.config.routing is None


def test_the_risk_sets_the_threshold_of_routes_and_nothing_else(by_risk):
    """Weights and calibration are those of the texts; the seed is that of folds and of what tests."""
    entries = {key: pipe.model.config.routing["separate"] for key, pipe in by_risk.items()}
    thresholds = [entries[risk, 0]["threshold"] for risk in (0.02, 0.1, 0.3)]
    assert thresholds == sorted(thresholds)
    assert len(set(thresholds)) > 1
    first = entries[0.1, 0]
    for (risk, seed), entry in entries.items():
        assert {key for key in entry if entry[key] != first[key]} <= (
            {"threshold"} if seed == 0 else {"threshold", "calibration"}
        )
        report = by_risk[risk, seed].model.config.adaptation["routes"]
        assert report["target_risk"] == risk
        for row in entry["calibration"]["table"]:
            if row["target_risk"] == risk:
                assert entry["threshold"] == row["threshold"]


def test_a_pipeline_with_routes_of_its_own_is_saved(by_risk, tiny_modernbert, tmp_path):
    """With what was guaranteed, for these heads and categories."""
    mine, (new, _) = by_risk[0.1, 0], routed(20, seed=2)
    mine.save_pretrained(tmp_path / "mine")
    assert load(tmp_path / "mine", tiny_modernbert).route(new, CATEGORIES, target_risk=0.1) == mine.route(
        new, CATEGORIES, target_risk=0.1
    )


def test_routes_that_cannot_be_fitted(nli):
    """Too few texts, or not as many labels."""
    texts, labels = routed(30)
    with pytest.raises(ValueError, match="15 labelled texts are too few"):
        nli.adapt_routes(texts[:15], labels[:15], CATEGORIES)
    with pytest.raises(ValueError, match="30 texts and 29 labels do not match"):
        nli.adapt_routes(texts, labels[:29], CATEGORIES)
    with pytest.raises(ValueError, match="Pair 29: the label 'dgo' is none of the categories"):
        nli.adapt_routes(texts, [*labels[:29], "dgo"], CATEGORIES)


# What to label ----------------------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 5.0]), min_size=1, max_size=30),
    st.integers(1, 40),
    st.integers(0, 5),
)
def test_what_is_chosen_is_distinct_and_spread_out(values, count, seed):
    """No row twice; as long as there is another vector, none is chosen that equals one before it."""
    vectors = torch.tensor(values)[:, None]
    chosen = spread_out(vectors, count, seed)
    assert len(chosen) == len(set(chosen.tolist())) == min(count, len(values))
    distinct = len(set(values))
    assert len({values[row] for row in chosen[:distinct]}) == min(distinct, len(chosen))


@given(st.lists(st.sampled_from([0.0, 1.0, 9.0]), min_size=1, max_size=30), st.integers(1, 40))
def test_each_kind_is_represented_and_the_most_common_comes_first(values, count):
    """As far as there are kinds, and rows; none comes twice."""
    vectors = torch.tensor(values)[:, None]
    chosen = representatives(vectors, count, 0)
    assert len(chosen) == len(set(chosen.tolist())) == min(count, len(values))
    if count >= 3:
        kinds = [values[row] for row in chosen[: len(set(values))]]
        assert sorted(kinds) == sorted(set(values))
        assert values.count(kinds[0]) == max(map(values.count, values))


def test_pairs_are_chosen_from_files_and_can_be_labelled(start, tiny_modernbert, tmp_path, capsys):
    """A table with an empty column; what is filled in is labelled data, what is not is left out."""
    pairs, _ = own_pairs(60)
    source = write(tmp_path / "texts.jsonl", [{"premise": p, "hypothesis": h} for p, h in [*pairs, pairs[0]]])
    words = ["--unlabelled", source, "--choose", "20", "--init_from", start, "--base_folder", tiny_modernbert]
    words += ["--output_dir", str(tmp_path / "out"), "--cache_dir", str(tmp_path / "states")]
    pilot.main(words)
    assert "Chose 20 pairs" in capsys.readouterr().out
    table = tmp_path / "out" / "to_label.csv"
    lines = table.read_text().splitlines()
    assert lines[0] == "premise,hypothesis,label"
    assert len(lines) == len(set(lines)) == 21
    with pytest.raises(FileExistsError, match="perhaps with labels"):
        pilot.main(words)
    table.write_text("\n".join([lines[0], *(f"{line}neutral" for line in lines[1:13]), *lines[13:]]))
    loaded = load_pairs(str(table))
    assert (len(loaded), loaded.dropped) == (12, {"no label": 8})


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "Give `--train_data` to score"),
        (["--unlabelled", "a.jsonl", "--train_data", "b.jsonl"], "Give `--train_data` to score"),
        (["--unlabelled", "a.jsonl", "--choose", "0"], "`--choose` must be 1 or more"),
        (["--unlabelled", "a.txt"], r"a\.txt is no file that ends in"),
        (["--train_data", "b.jsonl", "--init_from", "x"], "`--init_from` goes with `--unlabelled`"),
    ],
)
def test_options_of_choosing_that_cannot_be_meant(tmp_path, words, complaint):
    """Each is refused in a sentence."""
    with pytest.raises(ValueError, match=complaint):
        pilot.main([*words, "--output_dir", str(tmp_path / "out")])


def test_a_row_that_is_no_pair_is_named(tmp_path):
    """By file and row."""
    source = write(tmp_path / "texts.jsonl", [{"premise": "a", "hypothesis": "b"}, {"premise": "a"}])
    with pytest.raises(ValueError, match=r"texts\.jsonl, row 2"):
        pilot.main(["--unlabelled", source, "--output_dir", str(tmp_path / "out")])
