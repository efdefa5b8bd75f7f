"""The teacher: logits in our order of labels, computed once, and the loss that learns from them."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import PAIRS
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    PretrainedConfig,
)

from modernbert_nli import embedded
from modernbert_nli.training import teacher as teacher_module
from modernbert_nli.training.classifier import label_order
from modernbert_nli.training.data import Pairs
from modernbert_nli.training.teacher import distillation_loss, teacher_logits

PERMUTED = ["CONTRADICTION", "Entailment", "neutral"]
OURS = [1, 2, 0]  # where entailment, neutral and contradiction are in it


def save_teacher(base: str, folder, names: list[str]) -> str:
    """A random classifier of that many classes on a tiny base."""
    torch.manual_seed(2)
    id2label = dict(enumerate(names))
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(names), id2label=id2label)
    with torch.no_grad():
        model.classifier.weight.mul_(20)  # or all pairs get nearly the same
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, tiny_bert) -> str:
    return save_teacher(tiny_bert, tmp_path_factory.mktemp("teacher"), PERMUTED)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    """60 pairs, of many lengths."""
    premises = [f"{premise} {'and on ' * (number % 7)}" for number in range(20) for premise, _ in PAIRS]
    hypotheses = [f"{hypothesis} {number}" for number in range(20) for _, hypothesis in PAIRS]
    return Pairs("some", premises, hypotheses, np.zeros(60, int))


def a_pair(premise: str, hypothesis: str) -> Pairs:
    return Pairs("one", [premise], [hypothesis], np.zeros(1, int))


def direct(folder: str, pairs: Pairs) -> np.ndarray:
    """What the classifier says of each pair alone, in its own order."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return np.concatenate(
            [
                model(**tokenizer(*texts, return_tensors="pt")).logits.numpy()
                for texts in zip(pairs.premises, pairs.hypotheses, strict=True)
            ]
        )


@pytest.mark.parametrize("base", ["tiny_bert", "tiny_modernbert"])
def test_logits_come_in_our_order_whatever_the_teachers_is(request, tmp_path, pairs, base):
    """Each pair gets its own logits, though batches are sorted by length, and each label its own column."""
    folder = save_teacher(request.getfixturevalue(base), tmp_path / "teacher", PERMUTED)
    logits = teacher_logits(pairs, folder, tmp_path / "cache", batch_size=8)
    assert logits.dtype == np.float32
    expected = direct(folder, pairs)
    assert expected.std(axis=0).min() > 0.01  # pairs differ
    np.testing.assert_allclose(logits, expected[:, OURS], atol=1e-4)


def test_an_order_that_is_given_counts_for_more_than_the_configurations(teacher, pairs, tmp_path):
    """As for a teacher whose configuration names the classes wrongly."""
    read = teacher_logits(pairs, teacher, tmp_path)
    given = teacher_logits(pairs, teacher, tmp_path, labels="neutral, Contradiction, entailment")
    np.testing.assert_array_equal(given, read[:, [1, 2, 0]])


@pytest.mark.parametrize(
    ("names", "labels", "complaint"),
    [
        (["LABEL_0", "LABEL_1", "LABEL_2"], None, "LABEL_0, LABEL_1, LABEL_2, .* give their order"),
        (["entailment", "neutral", "not_entailment"], None, "give their order"),
        (["entailment", "not_entailment"], None, "has 2 classes .entailment, not_entailment., and three are"),
        (["entailment", "not_entailment"], "entailment,neutral,contradiction", "has 2 classes"),
        (["a", "b", "c", "d"], None, "has 4 classes"),
        (PERMUTED, "entailment,neutral", "'entailment,neutral' does not order"),
        (PERMUTED, "entailment,entailment,neutral", "does not order"),
    ],
)
def test_classes_that_are_not_ours_are_refused(names, labels, complaint):
    """With what to do about it; nothing is guessed."""
    config = PretrainedConfig(id2label=dict(enumerate(names)), num_labels=len(names))
    with pytest.raises(ValueError, match=complaint):
        label_order(config, "some/teacher", labels)


def test_unnamed_classes_are_taken_in_the_order_given():
    """LABEL_0 and so on, with an order beside them."""
    config = PretrainedConfig(num_labels=3)
    assert label_order(config, "some/teacher", "contradiction,entailment,neutral") == OURS


def test_a_second_call_reads_the_file(teacher, pairs, tmp_path, monkeypatch):
    """The teacher is not even loaded; other pairs, or other weights in the folder, are computed anew."""
    first = teacher_logits(pairs, teacher, tmp_path / "cache")
    changed = shutil.copytree(teacher, tmp_path / "changed")
    with monkeypatch.context() as patch:
        patch.setattr(teacher_module, "PairClassifier", lambda *_: pytest.fail("the teacher was loaded"))
        np.testing.assert_array_equal(teacher_logits(pairs, teacher, tmp_path / "cache"), first)
        # A copy elsewhere is the same teacher.
        np.testing.assert_array_equal(teacher_logits(pairs, str(changed), tmp_path / "cache"), first)
    few = pairs.take(np.arange(3))
    np.testing.assert_allclose(teacher_logits(few, teacher, tmp_path / "cache"), first[:3], atol=1e-4)
    model = BertForSequenceClassification.from_pretrained(changed)
    torch.nn.init.zeros_(model.classifier.weight)
    model.save_pretrained(changed)
    assert np.ptp(teacher_logits(pairs, str(changed), tmp_path / "cache"), axis=0).max() == 0
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 3


def test_an_interrupted_computation_goes_on_where_it_was(teacher, pairs, tmp_path, monkeypatch):
    """Killed in the middle, it does not start over, and its logits are those of one that was not."""
    whole = teacher_logits(pairs, teacher, tmp_path / "whole", batch_size=8)
    forward, calls = BertForSequenceClassification.forward, []

    def fail_later(self, **inputs):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return forward(self, **inputs)

    monkeypatch.setattr(teacher_module, "_BATCHES_BETWEEN_NOTES", 2)
    monkeypatch.setattr(BertForSequenceClassification, "forward", fail_later)
    with pytest.raises(KeyboardInterrupt):
        teacher_logits(pairs, teacher, tmp_path / "cut", batch_size=8)
    assert [path.name.endswith(".partial.npy") for path in (tmp_path / "cut").glob("*.npy")] == [True]
    calls[:] = [1] * 5
    resumed = teacher_logits(pairs, teacher, tmp_path / "cut", batch_size=8)
    assert len(calls) - 5 == 8 - 4  # 60 pairs are 8 batches, of which 4 were noted
    np.testing.assert_allclose(resumed, whole, atol=1e-5)
    assert [path.name.endswith(".partial.npy") for path in (tmp_path / "cut").glob("*.npy")] == [False]


@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize("damage", ["empty", "cut", "other"])
def test_a_stored_file_that_cannot_be_read_is_named(teacher, pairs, tmp_path, monkeypatch, damage, partial):
    """Finished or not: no file, half a file, a file of something else."""
    teacher_logits(pairs, teacher, tmp_path)
    (path,) = tmp_path.glob("*.npy")
    if partial:
        path = path.rename(path.with_name(f"{path.stem}.partial.npy"))
    if damage == "other":
        np.save(path, np.zeros((60, 2), np.float32))
    else:
        path.write_bytes(path.read_bytes()[: 0 if damage == "empty" else 400])
    with pytest.raises(ValueError, match=r"cannot be read .* delete it") as caught:
        teacher_logits(pairs, teacher, tmp_path)
    assert str(path) in str(caught.value)


def test_special_tokens_in_the_text_stay_text(teacher, tmp_path):
    """A "[SEP]" that somebody typed ends no premise."""
    texts = ("the dog [SEP] runs", "the [CLS] cat sleeps")
    logits = teacher_logits(a_pair(*texts), teacher, tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(teacher).eval()
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    with torch.no_grad():
        as_text = model(**tokenizer(*texts, split_special_tokens=True, return_tensors="pt")).logits
        as_tokens = model(**tokenizer(*texts, return_tensors="pt")).logits
    np.testing.assert_allclose(logits, as_text[:, OURS], atol=1e-5)
    assert not np.allclose(logits, as_tokens[:, OURS], atol=1e-2)


def test_the_premise_is_cut_and_the_hypothesis_never(teacher, tmp_path):
    """In a window of 128 tokens; a hypothesis that leaves no room is named with its source."""
    long = a_pair("the dog runs in the park " * 60, "nobody is outside")
    longer = a_pair("the dog runs in the park " * 90, "nobody is outside")
    other = a_pair("the dog runs in the park " * 60, "the cat sleeps")
    logits = [teacher_logits(pairs, teacher, tmp_path) for pairs in (long, longer, other)]
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-6)
    assert not np.allclose(logits[0], logits[2], atol=1e-3)
    both = Pairs("two", ["a dog", "a dog"], ["a cat", "a cat sleeps " * 90], np.zeros(2, int))
    with pytest.raises(ValueError, match=r"two, pair 2: the hypothesis has \d+ tokens"):
        teacher_logits(both, teacher, tmp_path)


def test_a_base_without_a_trained_classifier_is_no_teacher(tiny_bert, pairs, tmp_path):
    """Its logits would be random."""
    folder = shutil.copytree(tiny_bert, tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = dict(enumerate(PERMUTED))
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="no trained classifier: it lacks"):
        teacher_logits(pairs, str(folder), tmp_path / "cache")


def test_logits_that_are_no_numbers_are_refused(teacher, pairs, tmp_path):
    """And nothing is kept of them."""
    folder = shutil.copytree(teacher, tmp_path / "broken")
    model = BertForSequenceClassification.from_pretrained(folder)
    torch.nn.init.constant_(model.classifier.bias, torch.inf)
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"some, pair \d+: the teacher's logits are not finite"):
        teacher_logits(pairs, str(folder), tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").glob("*.npy") if "partial" not in path.name]


@pytest.mark.parametrize("heads", ["alignment", "separate"])
def test_a_checkpoint_of_ours_is_a_teacher(checkpoints, tiny_modernbert, pairs, tmp_path, heads):
    """With its own default encoding, by the code of this package."""
    logits = teacher_logits(pairs, checkpoints[heads], tmp_path, base=tiny_modernbert)
    model = AutoModelForSequenceClassification.from_pretrained(
        checkpoints[heads], base_model_name_or_path=tiny_modernbert
    ).eval()
    with torch.no_grad():
        inputs = model.tokenizer(pairs.premises, pairs.hypotheses, padding=True, return_tensors="pt")
        expected = model(**inputs).logits
    np.testing.assert_allclose(logits, expected, atol=2e-3)


def test_the_embedded_checkpoint_is_a_teacher_without_a_hub(tmp_path):
    """Its base is found where the package registry put it."""
    pairs = Pairs(
        "three",
        ["A man is playing guitar on stage."] * 3,
        ["A man plays an instrument.", "The man is famous.", "Nobody is playing anything."],
        np.arange(3),
    )
    logits = teacher_logits(pairs, str(embedded.CHECKPOINT), tmp_path)
    assert logits.argmax(axis=1).tolist() == [0, 1, 2]


shifts = st.lists(st.floats(-5, 5), min_size=4, max_size=4)


@given(st.integers(0, 99), shifts, shifts, st.floats(0, 2), st.floats(0, 2))
def test_the_loss_does_not_see_what_softmax_does_not(seed, ours, theirs, alpha, beta):
    """A number added to all logits of a row, the heads' or the teacher's, changes nothing."""
    draw = torch.Generator().manual_seed(seed)
    logits, wanted = torch.randn(2, 4, 3, generator=draw, dtype=torch.float64)
    labels = torch.randint(3, (4,), generator=draw)
    rows = torch.tensor([ours, theirs], dtype=torch.float64)[:, :, None]
    plain = distillation_loss(logits, labels, wanted, alpha, beta)
    shifted = distillation_loss(logits + rows[0], labels, wanted + rows[1], alpha, beta)
    torch.testing.assert_close(shifted, plain)


def test_the_loss_is_a_sum_of_both_parts():
    """Either weight can be nothing, and a student like its teacher has no distance to it."""
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]], requires_grad=True)
    wanted, labels = torch.tensor([[1.0, 1.0, 1.0], [3.0, -3.0, 0.0]]), torch.tensor([0, 2])
    labels_alone = cross_entropy(logits, labels)
    torch.testing.assert_close(distillation_loss(logits, labels, wanted, 1, 0), labels_alone)
    by_hand = np.mean([(2 - 1 / 3) ** 2, (1 / 3) ** 2, (4 / 3) ** 2, 9, 3.5**2, 0.5**2])
    teacher_alone = distillation_loss(logits, labels, wanted, 0, 1)
    assert teacher_alone.item() == pytest.approx(by_hand, rel=1e-5)
    both = distillation_loss(logits, labels, wanted.double(), 0.3, 0.7)  # as numpy may give them
    torch.testing.assert_close(both, 0.3 * labels_alone + 0.7 * teacher_alone)
    assert distillation_loss(logits, labels, logits.detach() + 4, 0, 1).item() == pytest.approx(0, abs=1e-9)
    both.backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0
