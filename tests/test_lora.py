"""A low-rank adapter of the base: on for NLI, off for embeddings, stored with the heads, never mixed up."""

import json
import sys

import pytest
import torch
from conftest import PAIRS, make_model, rows, tokenize, write
from transformers import AutoModel

from modernbert_nli.lora import applied
from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel
from modernbert_nli.separate import states_source
from modernbert_nli.states import StatesMismatch
from modernbert_nli.training.adapter import add_adapter
from modernbert_nli.training.command import main


def with_adapter(base: str, heads: str = "separate", size: float = 0.1) -> ModernBertNliModel:
    """A model whose adapter says something, unless its size is 0."""
    model = make_model(base, heads)
    torch.manual_seed(2)
    add_adapter(model, rank=4)
    with torch.no_grad():
        for update in model.adapter.updates.values():
            update.up.normal_(0, size) if size else None
    return model


@pytest.mark.parametrize("heads", ["separate", "alignment", "cls"])
@pytest.mark.parametrize("base", ["tiny_modernbert", "tiny_bert"])
def test_it_is_on_for_nli_and_off_for_embeddings(request, base, heads):
    """Bit for bit the plain base's embeddings; other judgements, in every encoding."""
    base = request.getfixturevalue(base)
    model, plain = with_adapter(base, heads), make_model(base, heads)
    batch, bare = tokenize(plain), AutoModel.from_pretrained(base).eval()
    with torch.no_grad():
        expected = bare(**batch).last_hidden_state
        assert torch.equal(model(**batch, mode="late_interaction"), expected)
        assert torch.equal(model(**batch, mode="embed"), expected[:, 0])
        for encoding in model.config.encoder_layers:
            output = model(**batch, encoding=encoding)
            assert not torch.allclose(output.logits, plain(**batch, encoding=encoding).logits)
            assert torch.equal(output.last_hidden_state, expected)
        assert torch.equal(model(**batch, mode="embed"), expected[:, 0])


def test_a_new_one_changes_nothing(tiny_modernbert):
    """Its second matrix is 0."""
    model, plain = with_adapter(tiny_modernbert, size=0), make_model(tiny_modernbert, "separate")
    batch = tokenize(plain)
    for encoding in ("joint", "separate"):
        with torch.no_grad():
            said, expected = (each(**batch, mode="nli", encoding=encoding) for each in (model, plain))
        assert torch.equal(said, expected)


def test_it_is_stored_with_the_heads_and_needs_no_peft(tiny_modernbert, tmp_path, monkeypatch):
    """One file of safetensors, loaded where peft cannot be imported, also beside a base that others use."""
    model = with_adapter(tiny_modernbert)
    model.save_pretrained(tmp_path / "saved")
    monkeypatch.setitem(sys.modules, "peft", None)
    batch, plain = tokenize(model), make_model(tiny_modernbert, "separate")
    encoder = AutoModel.from_pretrained(tiny_modernbert)
    with torch.no_grad():
        for given in ({"base_model_name_or_path": tiny_modernbert}, {"encoder": encoder}):
            loaded = AutoModel.from_pretrained(tmp_path / "saved", trust_remote_code=True, **given)
            assert torch.equal(loaded(**batch, mode="nli"), model(**batch, mode="nli"))
        beside = ModernBertNliModel(plain.config, encoder=encoder).eval()
        beside.load_state_dict({**beside.state_dict(), **plain.head_state()})
        assert torch.equal(beside(**batch, mode="nli"), plain(**batch, mode="nli"))


def test_states_of_base_and_adapter_are_not_mixed(tiny_modernbert):
    """Kept states are of the one or of the other, or of another adapter."""
    model, plain = with_adapter(tiny_modernbert), make_model(tiny_modernbert, "separate")
    texts = ["the dog runs in the park", "nobody is outside"]
    own, others = model.encode(texts), plain.encode(texts)
    model.classify(own[0], own[1])
    with pytest.raises(StatesMismatch):
        model.classify(others[0], others[1])
    with pytest.raises(StatesMismatch):
        plain.classify(own[0], own[1])
    assert states_source(model) != states_source(with_adapter(tiny_modernbert, size=0.2))


def test_it_is_part_of_the_heads_that_a_guarantee_is_bound_to(tiny_modernbert):
    """Another adapter, other heads."""
    model = with_adapter(tiny_modernbert)
    model.set_calibration(None, 0.3)
    assert model.stale_calibration() is None
    with torch.no_grad():
        next(iter(model.adapter.parameters())).add_(1)
    assert "other heads" in model.stale_calibration()


def test_it_computes_what_peft_does(tiny_bert):
    """The same matrices in peft's layers give the same states."""
    peft = pytest.importorskip("peft", reason="peft comes with the dev extra")
    model = with_adapter(tiny_bert)
    config = model.config.adapter
    theirs = peft.get_peft_model(
        AutoModel.from_pretrained(tiny_bert),
        peft.LoraConfig(r=config["rank"], lora_alpha=config["alpha"], target_modules=list(config["targets"])),
    ).eval()
    weights = theirs.state_dict()
    for name, update in model.adapter.updates.items():
        path = f"base_model.model.{name.replace('/', '.')}"
        weights[f"{path}.lora_A.default.weight"].copy_(update.down)
        weights[f"{path}.lora_B.default.weight"].copy_(update.up)
    batch = tokenize(model)
    with torch.no_grad(), applied(model.adapter):
        torch.testing.assert_close(
            model.encoder(**batch).last_hidden_state, theirs(**batch).last_hidden_state, atol=1e-5, rtol=1e-5
        )


def test_a_base_without_its_layers_is_refused(tiny_modernbert, tiny_bert):
    """The layer is named."""
    with pytest.raises(ValueError, match=r"updates 'layers\.0"):
        with_adapter(tiny_modernbert).adapter.install(AutoModel.from_pretrained(tiny_bert))


def test_training_it(tiny_modernbert, tmp_path):
    """A stage more: the adapter has learnt, the heads read its states, and the base is as it was."""
    options = {
        "--train_data": write(tmp_path / "train.jsonl", rows(200)),
        "--eval_data": write(tmp_path / "test.jsonl", rows(60, seed=1)),
        "--output_dir": str(tmp_path / "lora"),
        "--cache_dir": str(tmp_path / "states"),
        "--base_model": "tester/tiny-base",
        "--base_folder": tiny_modernbert,
        "--held_out": "0.2",
        "--learning_rate": "5e-3",
        "--per_device_train_batch_size": "16",
        "--adapter": "lora",
        "--adapter_rank": "4",
        "--adapter_epochs": "1",
    }
    main([word for option in options.items() for word in option])
    results = json.loads((tmp_path / "lora" / "results.json").read_text())
    assert results["evaluation"]["test"]["separate"]["accuracy"] > 0.8
    assert "adapter" in results["seconds"]
    model = ModernBertNliModel.from_pretrained(tmp_path / "lora", base_model_name_or_path=tiny_modernbert)
    assert any(update.up.abs().sum() > 0 for update in model.adapter.updates.values())
    nli = model.as_pipeline(device="cpu")
    judged = nli([(row["premise"], row["hypothesis"]) for row in rows(60, seed=1)])
    right = sum(said["label"] == row["label"] for said, row in zip(judged, rows(60, seed=1), strict=True))
    # What was measured on kept states is what a user gets.
    assert right / 60 == pytest.approx(results["evaluation"]["test"]["separate"]["accuracy"], abs=0.04)
    batch = tokenize(model, PAIRS)
    with torch.no_grad():
        plain = AutoModel.from_pretrained(tiny_modernbert).eval()(**batch).last_hidden_state
        assert torch.equal(model(**batch, mode="late_interaction"), plain)
    further = {**options, "--init_from": str(tmp_path / "lora"), "--output_dir": str(tmp_path / "more")}
    del further["--base_model"]
    with pytest.raises(ValueError, match="have an adapter already"):
        main([word for option in further.items() for word in option])
