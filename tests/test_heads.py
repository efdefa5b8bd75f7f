"""The layers of the heads, each beside the plain way to compute the same."""

import pytest
import torch
from conftest import PAIRS, rows, write
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

import modernbert_nli
from modernbert_nli.configuration_modernbert_nli import ModernBertNliConfig
from modernbert_nli.heads import HEADS, HYPOTHESIS, PREMISE, AlignmentHead, label_loss
from modernbert_nli.training import command as train
from modernbert_nli.training.on_states import QuickDropout


@pytest.fixture
def head():
    """An alignment head of two layers, with weights that are no zeros."""
    config = ModernBertNliConfig(
        encoder_config={"model_type": "modernbert", "hidden_size": 12, "num_hidden_layers": 3},
        head_type="alignment",
        encoder_layers={"joint": [1, 3]},
        encoding="joint",
        alignment_size=8,
        comparison_size=6,
        nli_hidden_size=5,
    )
    torch.manual_seed(0)
    head = AlignmentHead(config).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head


def test_layers_are_normalised_and_mixed(head):
    """Each layer's scale and mean are gone before the softmax of the weights mixes them."""
    layers = [torch.randn(2, 4, 12), 1000 * torch.randn(2, 4, 12) + 50]
    first, second = head.layer_weights.joint.softmax(dim=0)
    expected = first * functional.layer_norm(layers[0], (12,)) + second * functional.layer_norm(
        layers[1], (12,)
    )
    assert_close(head.mix(layers, "joint"), expected)


def test_a_comparison_is_of_four_features(head):
    """[x; y; x - y; x * y] through one layer."""
    x, y = torch.randn(2, 3, 4, 8)
    expected = head.comparison(torch.cat([x, y, x - y, x * y], dim=-1))
    assert_close(head.features(x, y), expected)


def test_pooling_is_of_one_side(head):
    """Mean and maximum of its tokens alone, negative ones too; zeros for a side without any."""
    tokens = torch.randn(3, 5, 6) - 3
    segments = torch.tensor([[1, 1, 2, 2, 0], [1, 2, 2, 2, 2], [1, 1, 1, 0, 0]])
    for side in (PREMISE, HYPOTHESIS):
        pooled = head.pool(tokens, segments == side)
        for row, result in enumerate(pooled):
            own = tokens[row, segments[row] == side]
            expected = torch.cat([own.mean(dim=0), own.amax(dim=0)]) if len(own) else torch.zeros(12)
            assert_close(result, expected)


@given(
    shape=st.lists(st.integers(0, 7), min_size=1, max_size=3),
    rate=st.floats(0, 1),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_dropout_of_any_shape(shape, rate, dtype):
    """What is kept is scaled, and the gradient is that of the same mask."""
    tokens = torch.ones(shape, dtype=dtype, requires_grad=True)
    dropped = QuickDropout(rate).train()(tokens)
    assert dropped.shape == tokens.shape
    assert dropped.dtype == dtype
    dropped.sum().backward()
    assert torch.equal(tokens.grad, dropped.detach())
    if rate < 1:
        kept = torch.full_like(dropped, 1 / (1 - rate))
        assert torch.equal(dropped, torch.where(dropped == 0, dropped, kept))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25, 0.5, 0.999, 1.0])
def test_dropout_drops_its_share_everywhere(rate):
    """Of each of the elements that share a random number, and independently of its neighbour."""
    torch.manual_seed(0)
    ones = torch.ones(100_000, 4)
    zeros = (QuickDropout(rate).train()(ones) == 0).double()
    error = 5 * (rate * (1 - rate) / len(ones)) ** 0.5
    assert_close(zeros.mean(dim=0), torch.full((4,), rate, dtype=torch.float64), atol=error, rtol=0)
    both = (zeros[:, 0] * zeros[:, 1]).mean()
    assert both == pytest.approx(rate**2, abs=5 * (rate**2 * (1 - rate**2) / len(ones)) ** 0.5)


def test_dropout_repeats_with_its_seed_and_rests_in_evaluation():
    """The random numbers are torch's own."""
    layer, tokens = QuickDropout(0.5), torch.randn(33, 7)
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        runs.append(layer.train()(tokens))
    assert torch.equal(*runs)
    assert not torch.equal(runs[0], layer(tokens))
    assert layer.eval()(tokens) is tokens


@given(st.integers(0, 2), st.integers(0, 2**32 - 1))
def test_the_loss_of_not_entailment_is_that_of_all_other_labels_together(entailment, seed):
    """A label costs its cross-entropy, "not entailment" the logarithm of all that it leaves open."""
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed))
    three_way = torch.tensor([0, 1, 2, 0, 1, 2])
    assert_close(label_loss(logits, three_way, entailment), functional.cross_entropy(logits, three_way))
    open_to_both = 1 - logits.softmax(dim=-1)[:, entailment]
    assert_close(label_loss(logits, torch.full((6,), 3), entailment), -open_to_both.log().mean())
    mixed = torch.tensor([entailment, 3, -100, 3, 3, entailment])
    counted = torch.tensor([0, 1, 3, 4, 5])
    assert_close(
        label_loss(logits, mixed, entailment), label_loss(logits[counted], mixed[counted], entailment)
    )


# A head of one's own ----------------------------------------------------------------------------------------


class MeanHead(nn.Module):
    """The means of both texts in the last layer that is read, and their difference."""

    def __init__(self, config):
        super().__init__()
        self.output = nn.Linear(3 * config.hidden_size, config.nli_hidden_size)

    def project(self, states, encoding):
        return states[-1].float()

    def forward(self, tokens, segments):
        return self.conclude(self.summary(tokens, segments))

    def summary(self, tokens, segments):
        sides = [(segments == side).float() for side in (PREMISE, HYPOTHESIS)]
        means = [
            (side[:, None] @ tokens)[:, 0] / side.sum(dim=1, keepdim=True).clamp(min=1) for side in sides
        ]
        return torch.cat([*means, means[0] - means[1]], dim=-1)

    def conclude(self, summary):
        return self.output(summary)

    @property
    def concluding(self):
        return [self.output]


def test_a_head_takes_one_class_and_one_entry(tiny_modernbert, tmp_path, monkeypatch):
    """By what CONTRIBUTING says: trained, saved, loaded, and asked in every way; nothing else knows of it."""
    monkeypatch.setitem(HEADS, "mean", MeanHead)
    options = {
        "--head_type": "mean",
        "--train_data": write(tmp_path / "train.jsonl", rows(200)),
        "--output_dir": str(tmp_path / "checkpoint"),
        "--base_model": "tester/tiny-base",
        "--base_folder": tiny_modernbert,
        "--learning_rate": "5e-3",
        "--num_train_epochs": "2",
    }
    train.main([word for option in options.items() for word in option])
    nli = modernbert_nli.load(tmp_path / "checkpoint", base=tiny_modernbert, device="cpu")
    assert isinstance(nli.model.nli_hidden, MeanHead)
    for encoding in ("joint", "separate"):
        one, many = nli(*PAIRS[0], encoding=encoding), nli(PAIRS, encoding=encoding)
        assert many[0]["uncertainty"] == pytest.approx(one["uncertainty"], abs=1e-4)
    texts, claims = nli.model.encode([one for one, _ in PAIRS]), nli.model.encode([two for _, two in PAIRS])
    judged = nli.model.classify(nli.model.project_states(texts), claims).uncertainty
    torch.testing.assert_close(
        judged, torch.tensor([row["uncertainty"] for row in nli(PAIRS)]), atol=2e-3, rtol=0
    )
    assert set(nli.route("the cat sleeps .", ["cat", "food"])["scores"]) == {"cat", "food"}
    assert nli.check("The cat sleeps.", "The cat sleeps. It runs.")["verdict"] == "supported"
    mine = nli.adapt(
        [(row["premise"], row["hypothesis"]) for row in rows(40)], [row["label"] for row in rows(40)]
    )
    assert mine.model.config.adaptation["pairs"] == 40
    with pytest.raises(ValueError, match="one of cls, alignment, mean, got 'median'"):
        ModernBertNliConfig(head_type="median")
