"""Heads whose layers others have wrapped: adapters of peft, and accelerate's offloading."""

import copy

import accelerate
import pytest
import torch
from conftest import make_model, tokenize
from torch.testing import assert_close

LAYERS = ["projection.0", "comparison.0", "aggregation.0", "nli_output"]
LABELS = torch.tensor([2, 0, 1])


@pytest.fixture(params=["alignment", "separate"])
def heads(request, tiny_modernbert):
    return make_model(tiny_modernbert, request.param, head_dropout=0.0)


def test_lora_changes_what_the_heads_say(heads):
    """Every adapter gets a gradient, and merging it into the weights says the same."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    batch = tokenize(heads)
    before = heads(**batch).logits
    adapted = peft.get_peft_model(
        copy.deepcopy(heads),
        peft.LoraConfig(target_modules=LAYERS, exclude_modules=r"abstention_head.*", r=2, lora_dropout=0.0),
    )
    assert_close(adapted(**batch).logits, before, atol=1e-5, rtol=1e-4)
    trained = [value for name, value in adapted.named_parameters() if value.requires_grad]
    assert len(trained) == 2 * len(LAYERS)
    optimizer = torch.optim.AdamW(trained, lr=0.1)
    for _ in range(2):  # the first step leaves one factor at zero
        optimizer.zero_grad()
        adapted(**batch, labels=LABELS).loss.backward()
        optimizer.step()
    for name, value in adapted.named_parameters():
        if value.requires_grad:
            assert value.grad is not None, name
            assert value.grad.abs().sum() > 0, name
    adapted.eval()
    after = adapted(**batch).logits
    assert (after - before).abs().max() > 0.01
    merged = adapted.merge_and_unload()
    assert_close(merged(**batch).logits, after, atol=1e-4, rtol=1e-4)
    assert merged.heads_digest() != heads.heads_digest()


def test_hooks_see_every_layer_of_the_heads(heads):
    """A layer that someone listens to is called like any other, and its answer counts."""
    batch, seen = tokenize(heads), []
    for name, module in heads.nli_hidden.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda *_, name=name: seen.append(name))
    before = copy.deepcopy(heads)
    assert_close(heads(**batch).logits, before(**batch).logits)
    assert set(seen) >= {"projection.0", "comparison.0", "aggregation.0"}
    heads.nli_hidden.comparison[0].register_forward_hook(lambda module, args, output: 0 * output)
    assert not torch.equal(heads(**batch).logits, before(**batch).logits)


@pytest.mark.parametrize("encoding", ["joint", "separate"])
def test_offloaded_heads(tiny_modernbert, head_type, batch, encoding):
    """All weights wait elsewhere between calls, those of the base and of the heads, and nothing changes."""
    model = make_model(tiny_modernbert, head_type)
    if encoding not in model.config.encoder_layers:
        pytest.skip("the CLS head knows joint encoding alone")
    with torch.no_grad():
        expected = model(**batch, encoding=encoding)
        offloaded = accelerate.cpu_offload(model)
        assert all(parameter.is_meta for parameter in offloaded.parameters())
        for _ in range(2):
            found = offloaded(**batch, encoding=encoding)
            assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-4)
            assert_close(found.uncertainty, expected.uncertainty, atol=1e-5, rtol=1e-4)


def test_routes_see_adapters_and_hooks(heads):
    """One text against all categories shares sums, but not past a layer that is more than its weights."""
    model = copy.deepcopy(heads)
    categories = {"one": "it is one", "two": "there are two of them"}
    text = "two people run"

    def judged(pipe):
        scores = pipe.route(text, categories)["scores"]
        return torch.tensor([list(scores[name]["probs"].values()) for name in categories])

    def paired(pipe):
        pairs = [(text, hypothesis) for hypothesis in categories.values()]
        return torch.tensor([list(result["probs"].values()) for result in pipe(pairs)])

    pipe = model.as_pipeline(encoding="separate")
    plain = judged(pipe)
    assert_close(plain, paired(pipe), atol=1e-4, rtol=1e-3)
    changed = model.nli_hidden.comparison[0].register_forward_hook(lambda module, args, output: -3 * output)
    assert_close(judged(pipe), paired(pipe), atol=1e-5, rtol=1e-4)
    assert (judged(pipe) - plain).abs().max() > 1e-3
    pipe.texts.clear()
    judged(pipe)
    changed.remove()  # what was prepared for it is of no use any more
    assert_close(judged(pipe), plain, atol=1e-5, rtol=1e-4)
