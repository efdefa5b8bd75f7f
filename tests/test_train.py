"""Training: checked data, states computed once, and two stages that end in a checkpoint that has learnt."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, make_model
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModel

import quickstart
import training.states as states_module
from train import main
from training.data import Pairs, load_pairs, random_part, summary
from training.metrics import aurc, max_prob_uncertainty, risk_coverage, threshold_for_risk
from training.states import PairStates, cache_states, collate
from training.trainers import fit_temperature

NOUNS = ["man", "dog", "cat", "people", "phone", "park", "food", "example"]
HYPOTHESES = {
    "entailment": "the {} is here",
    "neutral": "a {} likes sports",
    "contradiction": "nobody is outside {}",
}


def rows(count: int, seed: int = 0) -> list[dict]:
    """Pairs whose label can be read off the hypothesis."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(list(HYPOTHESES), count)
    nouns = draw.choice(NOUNS, count)
    return [
        {
            "premise": f"the {noun} number {number} runs",
            "hypothesis": HYPOTHESES[label].format(noun),
            "label": str(label),
        }
        for number, (label, noun) in enumerate(zip(labels, nouns, strict=True))
    ]


def write(path, lines) -> str:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_modernbert):
    """Folder of a small training run, with its output in `checkpoint` and its state cache in `states`."""
    folder = tmp_path_factory.mktemp("train")
    options = {
        "--train_data": write(folder / "train.jsonl", rows(400)),
        "--eval_data": write(folder / "test.jsonl", rows(100, seed=1)),
        "--output_dir": str(folder / "checkpoint"),
        "--cache_dir": str(folder / "states"),
        "--base_model": "tester/tiny-base",
        "--base_folder": tiny_modernbert,
        "--held_out": "0.2",
        "--learning_rate": "5e-3",
        "--num_train_epochs": "4",
        "--per_device_train_batch_size": "16",
    }
    main([word for option in options.items() for word in option])
    return folder, options


def test_a_run_ends_in_a_checkpoint_that_has_learnt(trained, tiny_modernbert):
    """Both stages run, the result loads through AutoModel, and its figures are those of what was saved."""
    folder, _ = trained
    results = json.loads((folder / "checkpoint" / "results.json").read_text())
    for measured in results["evaluation"]["test"].values():
        assert measured["accuracy"] > 0.9
        assert 0 < measured["coverage"] <= 1
    measured = results["evaluation"]["test"]["separate"]
    assert measured["selective_accuracy"] >= measured["accuracy"]
    assert results["pairs"]["fitted"] + results["pairs"]["held_out"] == 400

    checkpoint = str(folder / "checkpoint")
    model = AutoModel.from_pretrained(
        checkpoint, trust_remote_code=True, base_model_name_or_path=tiny_modernbert
    )
    assert model.config.base_model_name_or_path == "tester/tiny-base"
    assert model.config.abstention_threshold == results["threshold"]
    nli = model.as_pipeline()
    test = rows(100, seed=1)
    decisions = nli([(row["premise"], row["hypothesis"]) for row in test])
    right = [decision["label"] == row["label"] for decision, row in zip(decisions, test, strict=True)]
    assert np.mean(right) == pytest.approx(measured["accuracy"], abs=0.011)
    assert np.mean([not decision["abstain"] for decision in decisions]) == pytest.approx(
        measured["coverage"], abs=0.011
    )


def test_a_second_run_needs_no_encoder_pass_and_gives_the_same_heads(trained, monkeypatch, tmp_path):
    """With the states in the cache nothing is encoded again, and one seed gives one result."""
    folder, options = trained
    monkeypatch.setattr(states_module, "_encode", lambda *_: pytest.fail("the encoder ran again"))
    again = {**options, "--output_dir": str(tmp_path / "again")}
    main([word for option in again.items() for word in option])
    first, second = (path / "model.safetensors" for path in (folder / "checkpoint", tmp_path / "again"))
    assert first.read_bytes() == second.read_bytes()


def test_the_published_head_is_trained_from_a_recipe_file(trained, tmp_path):
    """The same keys in YAML, with the CLS head, which knows joint encoding alone."""
    _, options = trained
    changed = {
        "--head_type": "cls",
        "--output_dir": str(tmp_path / "cls"),
        "--eval_data": options["--train_data"],
    }
    keys = {key.removeprefix("--"): value for key, value in {**options, **changed}.items()}
    recipe = {key: [value] if key.endswith("_data") else value for key, value in keys.items()}
    numbers = {key: float(recipe[key]) for key in ("held_out", "learning_rate", "num_train_epochs")}
    recipe.update(numbers, per_device_train_batch_size=16)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    main([str(tmp_path / "recipe.yaml")])
    results = json.loads((tmp_path / "cls" / "results.json").read_text())
    assert list(results["evaluation"]["train"]) == ["joint"]
    heads = load_file(tmp_path / "cls" / "model.safetensors")
    assert results["parameters"] == sum(tensor.numel() for tensor in heads.values())
    assert {key for key in heads if key.startswith("nli_hidden")} == {
        f"nli_hidden.{layer}.{kind}" for layer in (0, 1) for kind in ("weight", "bias")
    }


def test_a_finished_run_can_be_resumed(trained, tmp_path):
    """`--resume_from_checkpoint true` after the last epoch ends with the same heads."""
    folder, options = trained
    before = (folder / "checkpoint" / "model.safetensors").read_bytes()
    main([word for option in options.items() for word in option] + ["--resume_from_checkpoint", "true"])
    assert (folder / "checkpoint" / "model.safetensors").read_bytes() == before


def test_an_interrupted_cache_goes_on_where_it_was(tiny_modernbert, tmp_path, monkeypatch):
    """Killed in the middle, it does not start over, and its states are those of one that was not."""
    model = make_model(tiny_modernbert)
    model.config.encoder_layers = {"joint": [1, 2]}
    pairs = load_pairs(write(tmp_path / "pairs.jsonl", rows(60)))
    whole = cache_states(model, pairs, tmp_path / "whole", batch_size=8)

    encode, calls = model.encoder_states, []

    def fail_later(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return encode(*arguments)

    monkeypatch.setattr(states_module, "_BATCHES_BETWEEN_NOTES", 2)
    monkeypatch.setattr(model, "encoder_states", fail_later)
    with pytest.raises(KeyboardInterrupt):
        cache_states(model, pairs, tmp_path / "cut", batch_size=8)
    calls[:] = [1] * 5
    resumed = cache_states(model, pairs, tmp_path / "cut", batch_size=8)
    assert len(calls) - 5 == 8 - 4  # 60 pairs are 8 batches, of which 4 were noted as done
    files = [states.encoded["joint"].files[0] for states in (resumed, whole)]
    np.testing.assert_array_equal(files[0].states, files[1].states)


@pytest.mark.parametrize(
    ("head_type", "encoding"), [("cls", "joint"), ("alignment", "joint"), ("alignment", "separate")]
)
def test_cached_states_give_the_logits_of_the_pairs(tiny_bert, tmp_path, head_type, encoding):
    """What the stages see from the cache is what the model says of the text, up to half precision."""
    model = make_model(tiny_bert, head_type)
    pairs = load_pairs(write(tmp_path / "pairs.jsonl", rows(12)))
    states = cache_states(model, pairs, tmp_path / "states").only(encoding)
    with torch.no_grad():
        cached = model(**collate([states[index] for index in range(12)])).logits
        inputs = model.tokenizer(pairs.premises, pairs.hypotheses, padding=True, return_tensors="pt")
        direct = model(**inputs, encoding=encoding).logits
    torch.testing.assert_close(cached, direct, atol=5e-3, rtol=0)


def test_states_of_several_files_are_one_data_set(tiny_bert, tmp_path):
    """Concatenated and cut, every row still has its own states and label, in both encodings."""
    model = make_model(tiny_bert)
    parts = [
        cache_states(model, load_pairs(write(tmp_path / f"{seed}.jsonl", rows(7, seed))), tmp_path / "states")
        for seed in (1, 2)
    ]
    both = PairStates.concatenate(parts).take(np.array([9, 0, 6, 13]))
    assert list(both.encoded) == ["joint", "separate"]
    for index, (part, row) in enumerate([(1, 2), (0, 0), (0, 6), (1, 6)]):
        assert both[index]["labels"] == parts[part][row]["labels"]
        for encoding, sides in both[index]["sides"].items():
            for side, expected in zip(sides, parts[part][row]["sides"][encoding], strict=True):
                np.testing.assert_array_equal(side, expected)
    for encoding in both.encoded:
        sizes = [sum(map(len, both[index]["sides"][encoding])) for index in range(4)]
        assert both.only(encoding).lengths.tolist() == sizes


def test_the_same_pairs_are_read_from_every_kind_of_file(tmp_path):
    """JSONL, CSV and Parquet, with names or with 0, 1, 2 as labels."""
    data = rows(9)
    numbered = [{**row, "label": list(HYPOTHESES).index(row["label"])} for row in data]
    Dataset.from_list(data).to_csv(tmp_path / "named.csv")
    Dataset.from_list(numbered).to_parquet(tmp_path / "numbered.parquet")
    expected = load_pairs(write(tmp_path / "pairs.jsonl", data))
    for name in ("named.csv", "numbered.parquet"):
        read = load_pairs(str(tmp_path / name))
        assert (read.premises, read.hypotheses) == (expected.premises, expected.hypotheses)
        np.testing.assert_array_equal(read.labels, expected.labels)


def test_rows_without_consensus_are_dropped_and_counted(tmp_path):
    """-1 and null are no labels, and the summary says how many there were."""
    data = [*rows(5), {**rows(1)[0], "label": None}, {**rows(1)[0], "label": "-"}]
    pairs = load_pairs(write(tmp_path / "pairs.jsonl", data))
    assert len(pairs) == 5
    assert pairs.dropped == {"no label": 2}
    assert "2 no label" in summary([pairs], [])


def test_a_hub_dataset_is_read_by_its_own_label_names(monkeypatch):
    """`id/config:split` is asked for, class names decide, and rows without label or text are counted."""
    asked = []

    def from_hub(identifier, config, split):
        asked.append((identifier, config, split))
        features = Features(
            premise=Value("string"),
            hypothesis=Value("string"),
            label=ClassLabel(names=["contradiction", "neutral", "entailment"]),
        )
        columns = {"premise": ["a", "b", "c", ""], "hypothesis": ["d"] * 4, "label": [0, 2, -1, 1]}
        return Dataset.from_dict(columns, features=features)

    monkeypatch.setattr("training.data.load_dataset", from_hub)
    pairs = load_pairs("owner/set/round:dev")
    load_pairs("owner/set")
    assert asked == [("owner/set", "round", "dev"), ("owner/set", None, "train")]
    assert pairs.labels.tolist() == [2, 0]
    assert pairs.dropped == {"no label": 1, "no text": 1}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{not json", "row 2: not a JSON object"),
        ("[1, 2]", "row 2: not a JSON object but list"),
        (
            '{"premise": "a", "hypothesis": "b", "label": "maybe"}',
            "row 2: the label 'maybe' is none of entailment",
        ),
        ('{"premise": "", "hypothesis": "b", "label": "neutral"}', "row 2: the premise is empty"),
        (
            '{"premise": "a", "hypothesis": null, "label": "neutral"}',
            "row 2: the hypothesis must be a string",
        ),
    ],
)
def test_a_malformed_row_is_named(tmp_path, line, complaint):
    """File and row are in the message."""
    path = write(tmp_path / "pairs.jsonl", [rows(1)[0], line])
    with pytest.raises(ValueError, match=complaint) as caught:
        load_pairs(path)
    assert path in str(caught.value)


@pytest.mark.parametrize("name", ["A.tsv", "pairs", "pairs.txt", "a/b/c/d", "nowhere/pairs.csv.gz"])
def test_what_is_neither_file_nor_dataset_asks_nobody(tmp_path, monkeypatch, name):
    """A file of another kind, or a path that does not exist, never becomes a question to the Hub."""
    monkeypatch.setattr("training.data.load_dataset", lambda *_, **__: pytest.fail("the Hub was asked"))
    (tmp_path / "A.tsv").write_text("premise\thypothesis\tlabel\n")
    with pytest.raises(ValueError, match="and no Hub dataset's id"):
        load_pairs(str(tmp_path / name))


def test_small_differences_between_files_do_not_matter(tmp_path):
    """A blank line, a byte order mark, an ending in capitals, a CSV whose numbers have a gap."""
    data = rows(3)
    lines = [json.dumps(row) for row in data]
    (tmp_path / "pairs.JSONL").write_bytes(b"\xef\xbb\xbf" + "\n\n".join([*lines, ""]).encode())
    assert load_pairs(str(tmp_path / "pairs.JSONL")).premises == [row["premise"] for row in data]
    (tmp_path / "gap.csv").write_text("premise,hypothesis,label\na,b,0\nc,d,\ne,f,2\n")
    gap = load_pairs(str(tmp_path / "gap.csv"))
    assert (gap.labels.tolist(), gap.dropped) == ([0, 2], {"no label": 1})


def test_a_random_part_is_taken_before_anything_is_encoded(tmp_path):
    """Of all pairs together, the same for the same seed."""
    sources = [load_pairs(write(tmp_path / f"{seed}.jsonl", rows(20, seed))) for seed in (1, 2)]
    part = random_part(sources, 10, seed=3)
    assert sum(map(len, part)) == 10
    assert [pairs.premises for pairs in part] == [
        pairs.premises for pairs in random_part(sources, 10, seed=3)
    ]
    for pairs, source in zip(part, sources, strict=True):
        assert set(zip(pairs.premises, pairs.labels, strict=True)) <= set(
            zip(source.premises, source.labels, strict=True)
        )


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"--base_model": quickstart.BASE}, "`--base_folder` needs `--base_model`"),
        ({"--encodings": "jiont"}, "takes joint and separate, not 'jiont'"),
        ({"--held_out": "0"}, "0 held out are too few"),
    ],
)
def test_arguments_that_cannot_be_meant(trained, tmp_path, changed, complaint):
    """Each is refused in a sentence, before the training begins."""
    _, options = trained
    with pytest.raises(ValueError, match=complaint):
        main([word for option in {**options, **changed}.items() for word in option])


def test_two_files_of_one_name_are_refused(trained, tmp_path):
    """Their results would overwrite each other."""
    folder, options = trained
    other = write(tmp_path / "test.jsonl", rows(5))
    with pytest.raises(ValueError, match="have one name"):
        main(
            [word for option in options.items() for word in option]
            + ["--eval_data", other, str(folder / "test.jsonl")]
        )


def test_two_processes_fill_one_cache_and_train(tiny_modernbert, tmp_path):
    """torchrun on two processes, from a cold cache: one of them encodes, and a checkpoint comes out."""
    options = {
        "--train_data": write(tmp_path / "train.jsonl", rows(120)),
        "--output_dir": str(tmp_path / "out"),
        "--cache_dir": str(tmp_path / "states"),
        "--base_model": "tester/tiny-base",
        "--base_folder": tiny_modernbert,
        "--held_out": "0.3",
        "--num_train_epochs": "1",
        "--abstention_epochs": "1",
        "--use_cpu": "true",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(ROOT / "train.py"), *(word for option in options.items() for word in option)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "out" / "results.json").read_text())["pairs"]["fitted"] > 0
    assert not list((tmp_path / "states").glob("*.partial"))


def test_what_is_not_there_is_named(tmp_path):
    """A missing file, a missing column, invalid UTF-8."""
    with pytest.raises(ValueError, match="no file"):
        load_pairs(str(tmp_path / "none.jsonl"))
    with pytest.raises(ValueError, match="no column 'label'"):
        load_pairs(write(tmp_path / "columns.jsonl", [{"premise": "a", "hypothesis": "b"}]))
    (tmp_path / "bytes.jsonl").write_bytes(b'{"premise": "\xff", "hypothesis": "b", "label": 0}\n')
    with pytest.raises(ValueError, match="row 1: not a JSON object in UTF-8"):
        load_pairs(str(tmp_path / "bytes.jsonl"))


@given(st.lists(st.sampled_from("abcdefghij"), min_size=1), st.integers(0, 3), st.floats(0, 1))
def test_no_premise_is_on_both_sides(premises, seed, share):
    """All pairs of a premise are fitted to, or all are held out."""
    held = Pairs("pairs", premises, premises, np.zeros(len(premises))).held_out(share, seed)
    sides = {
        premise: {bool(side) for other, side in zip(premises, held, strict=True) if other == premise}
        for premise in premises
    }
    assert all(len(side) == 1 for side in sides.values())


outcomes = st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=1, max_size=40)


@given(outcomes, st.sampled_from([0.0, 0.05, 0.1, 0.3, 1.0]))
def test_the_threshold_keeps_the_risk_and_no_larger_one_does(outcomes, target):
    """It accepts most among all thresholds whose accepted answers err within the target."""
    errors = np.array([error for error, _ in outcomes])
    uncertainty = np.array([step / 21 for _, step in outcomes])
    threshold = threshold_for_risk(errors, uncertainty, target)

    def risk_and_count(limit: float) -> tuple[float, int]:
        accepted = uncertainty < limit
        return (errors[accepted].mean() if accepted.any() else 0.0), int(accepted.sum())

    allowed = [count for risk, count in map(risk_and_count, [*np.unique(uncertainty), 1.0]) if risk <= target]
    assert risk_and_count(threshold)[0] <= target
    assert risk_and_count(threshold)[1] == max(allowed)


@given(outcomes)
def test_aurc_is_the_mean_risk_over_all_coverages(outcomes):
    """As computed directly, answer by answer."""
    errors = np.array([error for error, _ in outcomes], float)
    uncertainty = np.array([step for _, step in outcomes], float)
    order = sorted(range(len(errors)), key=lambda index: uncertainty[index])
    direct = np.mean([np.mean([errors[i] for i in order[: count + 1]]) for count in range(len(order))])
    assert aurc(errors, uncertainty) == pytest.approx(direct)
    coverage, risk = risk_coverage(errors, uncertainty)
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(errors.mean())


def test_temperature_is_recovered():
    """Logits that were made three times too sharp are found to be so, and MaxProb is theirs."""
    draw = torch.Generator().manual_seed(0)
    honest = torch.randn(20000, 3, generator=draw) * 2
    labels = torch.multinomial(honest.softmax(-1), 1, generator=draw)[:, 0].numpy()
    assert fit_temperature(3 * honest.numpy(), labels) == pytest.approx(3, rel=0.05)
    expected = 1 - honest.softmax(-1).amax(-1)
    np.testing.assert_allclose(max_prob_uncertainty(honest.numpy()), expected, atol=1e-6)
