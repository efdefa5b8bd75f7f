"""The model: an encoder that stays as it is, four modes, heads of the published size, and any base."""

import copy
import logging
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import PAIRS, head_arguments, make_model, tokenize
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import (
    AlbertConfig,
    AutoConfig,
    AutoModel,
    BertConfig,
    DataCollatorWithPadding,
    DebertaV2Config,
    DistilBertConfig,
    ModernBertConfig,
    RobertaConfig,
    Trainer,
    TrainingArguments,
)

from modernbert_nli.configuration_modernbert_nli import ModernBertNliConfig
from modernbert_nli.modeling_modernbert_nli import ModernBertNliForSequenceClassification, ModernBertNliModel
from modernbert_nli.training.on_states import heads_alone

MAX_ALIGNMENT_PARAMETERS = 600_000
PUBLISHED_KEYS = {
    *(f"nli_hidden.{layer}.{kind}" for layer in (0, 1) for kind in ("weight", "bias")),
    *(f"nli_output.{kind}" for kind in ("weight", "bias")),
    *(f"abstention_head.{layer}.{kind}" for layer in (0, 1, 4) for kind in ("weight", "bias")),
}
_SMALL = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "pad_token_id": 0,
}
_WIDE = {"intermediate_size": 48, "max_position_embeddings": 64}
BASES = {
    "bert": BertConfig(**_SMALL, **_WIDE),
    "roberta": RobertaConfig(**_SMALL, **_WIDE),
    "albert": AlbertConfig(**_SMALL, **_WIDE, embedding_size=16),
    "deberta-v2": DebertaV2Config(
        **_SMALL, **_WIDE, relative_attention=True, pos_att_type=["p2c", "c2p"], type_vocab_size=0
    ),
    "distilbert": DistilBertConfig(
        vocab_size=60, dim=32, n_layers=4, n_heads=2, hidden_dim=48, pad_token_id=0
    ),
    "modernbert": ModernBertConfig(**_SMALL, **_WIDE, local_attention=8),
}


def on_base(encoder_config, head_type: str, **kwargs) -> ModernBertNliModel:
    """A random model, encoder included, whose special tokens are 1 (CLS), 2 (SEP) and 0 (PAD)."""
    torch.manual_seed(0)
    sizes = {"nli_hidden_size": 16, "alignment_size": 8, "abstention_hidden_size": 8}
    special = {"sep_token_id": 2, "pad_token_id": 0}
    config = ModernBertNliConfig(
        "tester/base",
        None,
        copy.deepcopy(encoder_config),
        **head_arguments(head_type),
        **sizes,
        **special,
        **kwargs,
    )
    return ModernBertNliModel(config).eval()


def ids_of(*rows: list[int]) -> dict[str, torch.Tensor]:
    """Token ids, padded with 0."""
    width = max(map(len, rows))
    input_ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return {"input_ids": input_ids, "attention_mask": (input_ids != 0).long()}


def on_states(model: ModernBertNliModel, batch: dict[str, torch.Tensor], **kwargs):
    """What trainers get: the heads alone, on the states of joint pairs."""
    states = model.encoder_states(batch, "joint")
    ends = (batch["input_ids"] == model.config.sep_token_id).long()
    segments = (1 + (ends.cumsum(dim=1) - ends)) * batch["attention_mask"]
    heads = heads_alone(model)
    assert heads.encoder is None
    return heads(encoder_states={"joint": states}, segments={"joint": segments}, **kwargs)


def train_one_step(model: ModernBertNliModel, batch: dict[str, torch.Tensor]) -> None:
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
    torch.optim.AdamW(trained, lr=0.1).step()


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def dtype(request) -> torch.dtype:
    return request.param


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_encoder_is_the_base(checkpoint, tiny_modernbert, batch, dtype, attention, tmp_path):
    """Weights, buffers and outputs are bit for bit the plain AutoModel's: loaded, trained, reloaded."""
    how = {"dtype": dtype, "attn_implementation": attention}
    plain = AutoModel.from_pretrained(tiny_modernbert, **how).eval()
    model = ModernBertNliModel.from_pretrained(checkpoint, base_model_name_or_path=tiny_modernbert, **how)
    expected = plain(**batch).last_hidden_state

    def check(model):
        tensors = dict((*model.encoder.named_parameters(), *model.encoder.named_buffers()))
        for name, tensor in (*plain.named_parameters(), *plain.named_buffers()):
            assert torch.equal(tensors[name], tensor), name
        assert torch.equal(model(**batch, mode="late_interaction"), expected)
        assert torch.equal(model(**batch, mode="embed"), expected[:, 0])
        assert torch.equal(model(**batch).last_hidden_state, expected)

    check(model)
    before = model(**batch).logits
    train_one_step(model, batch)
    check(model)
    model.eval()
    assert not torch.allclose(model(**batch).logits, before)
    model.save_pretrained(tmp_path)
    again = ModernBertNliModel.from_pretrained(tmp_path, base_model_name_or_path=tiny_modernbert, **how)
    check(again)
    assert torch.equal(again(**batch).logits, model(**batch).logits)


def test_encoder_stays_frozen(tiny_modernbert, head_type, batch):
    """Training mode leaves in evaluation mode, and without gradients, what the loss cannot teach."""
    model = make_model(tiny_modernbert, head_type).train()
    assert model.training
    assert model.nli_hidden.training
    frozen = (model.encoder, model.abstention_head)
    assert not any(module.training for part in frozen for module in part.modules())
    model(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    # A batch is encoded in one way, and does not reach the mix of layers of the other.
    other = {"joint": "separate", "separate": "joint"}[model.config.encoding]
    unread = ("encoder.", "abstention_head.", f"nli_hidden.layer_weights.{other}")
    assert trained == {name for name, _ in model.named_parameters() if not name.startswith(unread)}
    assert trained == {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_frozen_head_stays_in_evaluation_mode(tiny_modernbert, head_type):
    """Once the NLI head is frozen, for the second stage, training mode has no dropout in it."""
    model = make_model(tiny_modernbert, head_type)
    model.nli_hidden.requires_grad_(False)
    model.abstention_head.requires_grad_(True)
    model.train()
    assert not any(module.training for module in model.nli_hidden.modules())
    assert model.abstention_head.training


def test_modes(model, batch):
    """Each mode returns what its documentation says, in the documented shape."""
    input_ids, attention_mask = batch["input_ids"], batch["attention_mask"]
    rows, tokens = input_ids.shape
    hidden = model.config.hidden_size
    assert model(input_ids, attention_mask, mode="embed").shape == (rows, hidden)
    assert model(input_ids, attention_mask, mode="late_interaction").shape == (rows, tokens, hidden)
    assert model(input_ids, attention_mask, mode="nli").shape == (rows, 3)
    logits, abstention_logits = model(input_ids, attention_mask, mode="abstention")
    assert logits.shape == (rows, 3)
    assert abstention_logits.shape == (rows, 2)


def test_no_mode_returns_everything(model, batch):
    """Without a mode, one pass returns states, both logits and uncertainty, in this order as a tuple."""
    output = model(**batch)
    assert list(output) == ["last_hidden_state", "logits", "abstention_logits", "uncertainty"]
    assert torch.equal(output[0], model(**batch, mode="late_interaction"))
    logits, abstention_logits = model(**batch, mode="abstention")
    assert_close(output.logits, logits)
    assert_close(output.abstention_logits, abstention_logits)
    assert_close(output.uncertainty, abstention_logits.softmax(-1)[:, 1])


def test_unknown_mode(model, batch):
    """A mode that does not exist is refused, and the message lists those that do."""
    with pytest.raises(ValueError, match="embed, late_interaction, nli, abstention"):
        model(**batch, mode="classify")


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_uncertainty_mixes_with_maxprob(model, batch, weight):
    """`abstention_weight` moves the uncertainty from 1 - MaxProb to the abstention head."""
    mixed = copy.deepcopy(model)
    mixed.config.abstention_weight = weight
    output = mixed(**batch)
    learned, max_prob = output.abstention_logits.softmax(-1)[:, 1], output.logits.softmax(-1).amax(-1)
    assert_close(output.uncertainty, weight * learned + (1 - weight) * (1 - max_prob))


@torch.no_grad()
def test_autocast_leaves_uncertainties_apart(tiny_modernbert, batch):
    """In full precision where heads compute in bfloat16, whose eight bits make many of them equal."""
    model = make_model(tiny_modernbert)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**batch)
    assert output.logits.dtype == output.uncertainty.dtype == torch.float32
    assert not torch.equal(output.uncertainty, output.uncertainty.bfloat16().float())


def test_heads_of_an_auxiliary_classifier_are_those_of_an_older_version():
    """Version 0.2 had a second kind of abstention head; its name for the other one is still read."""
    with pytest.raises(ValueError, match="load them with"):
        ModernBertNliConfig(abstention_type="opinion")
    assert "abstention_type" not in ModernBertNliConfig(abstention_type="error").to_dict()


def test_losses(model, batch):
    """Labels give the loss of the classes, abstention labels, also soft ones, that of the abstention head."""
    output = model(**batch, encoding="joint")
    labels, hard = torch.tensor([2, 0, 1]), torch.tensor([1, 0, 1])
    expected = torch.nn.functional.cross_entropy(output.logits, labels)
    first = model(**batch, labels=labels, encoding="joint")
    assert_close(first.loss, expected)
    assert_close(first["loss"], first[0])

    def loss(targets):
        return on_states(model, batch, labels=labels, abstention_labels={"joint": targets}).loss

    expected = torch.nn.functional.cross_entropy(output.abstention_logits, hard)
    assert_close(loss(hard), expected)
    assert_close(loss(hard.float()), expected)
    soft = torch.tensor([0.25, 0.5, 1.0])
    log_probs = output.abstention_logits.log_softmax(-1)
    expected = -((1 - soft) * log_probs[:, 0] + soft * log_probs[:, 1]).mean()
    assert_close(loss(soft), expected)


def test_padding_order_and_size_do_not_matter(model, batch):
    """A pair has the same logits alone, in another order and beside longer pairs, up to rounding."""
    with torch.no_grad():
        together = model(**batch, mode="nli")
        for row, pair in enumerate(PAIRS):
            alone = model(**tokenize(model, [pair]), mode="nli")[0]
            assert_close(alone, together[row], atol=1e-5, rtol=1e-4)
        assert_close(
            model(**tokenize(model, PAIRS[::-1]), mode="nli").flip(0), together, atol=1e-5, rtol=1e-4
        )
        padded = {key: torch.nn.functional.pad(value, (0, 40)) for key, value in batch.items()}
        assert_close(model(**padded, mode="nli"), together, atol=1e-5, rtol=1e-4)


def test_early_exit(tiny_modernbert):
    """Where only logits are wanted, layers above those that are read do not run; the logits are the same."""
    model = make_model(tiny_modernbert, encoder_layers={"joint": [1, 2]})
    batch, calls = tokenize(model), []
    model.encoder.layers[2].register_forward_hook(lambda *_: calls.append(1))
    short, states = model(**batch, mode="nli"), model.encoder_states(batch, "joint")
    assert not calls
    assert torch.equal(model(**batch).logits, short)
    assert calls == [1]
    full = AutoModel.from_pretrained(tiny_modernbert)(**batch, output_hidden_states=True).hidden_states
    assert torch.equal(states, torch.stack(full[1:3], dim=1))


@pytest.mark.parametrize("layers", [[0], [0, 1], [2], [3], [1, 3], [0, 3]])
def test_any_layers(tiny_modernbert, layers):
    """Layers are numbered as in `hidden_states`: 0 is the embeddings, the last one `last_hidden_state`."""
    model = make_model(tiny_modernbert, encoder_layers={"joint": layers})
    batch = tokenize(model)
    output = model.encoder(**batch, output_hidden_states=True)
    hidden = [*output.hidden_states[:-1], output.last_hidden_state]
    expected = torch.stack([hidden[layer] for layer in layers], dim=1)
    assert torch.equal(model.encoder_states(batch, "joint"), expected)


def test_kept_states(model, batch):
    """States computed once give what one call gives, without running the encoder."""
    states = model.encoder_states(batch, "joint")
    assert states.shape[:2] == (len(PAIRS), len(model.config.encoder_layers["joint"]))
    output = on_states(model, batch)
    expected = model(**batch, encoding="joint")
    assert_close(output.logits, expected.logits)
    assert_close(output.uncertainty, expected.uncertainty)


def test_published_geometry(tmp_path):
    """The default has 593,925 parameters in 2.4 MB, under the names that the published task_heads.pt has."""
    model = ModernBertNliModel(ModernBertNliConfig(), _without_encoder=True)
    assert sum(parameter.numel() for parameter in model.parameters()) == 593_925
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size <= 2_400_000
    assert set(load_file(tmp_path / "model.safetensors")) == PUBLISHED_KEYS == set(model.state_dict())


@pytest.mark.parametrize("base", ["ModernBERT-large", "MiniLM"])
def test_alignment_geometry(base, request):
    """The alignment head in its default size is no larger than the published one, about."""
    if base == "MiniLM":
        encoder_config = AutoConfig.from_pretrained(request.getfixturevalue("minilm"))
        config = ModernBertNliConfig("tester/minilm", None, encoder_config, "alignment", sep_token_id=102)
    else:
        config = ModernBertNliConfig(head_type="alignment")
    model = ModernBertNliModel(config, _without_encoder=True)
    assert sum(parameter.numel() for parameter in model.parameters()) <= MAX_ALIGNMENT_PARAMETERS


@pytest.mark.parametrize(
    "rows", [[[1, 9, 8, 7, 2]], [[1, 2]], [[1, 2, 2]], [[1, 9, 2, 2]], [[9]], [[1, 9, 2, 8, 2], [1, 2]]]
)
def test_no_hypothesis(head_type, rows):
    """A single text, or nothing at all, gives finite logits: the embedding tools call the model so."""
    output = on_base(BASES["modernbert"], head_type)(**ids_of(*rows))
    assert output.logits.isfinite().all()
    assert output.uncertainty.isfinite().all()


def test_alignment_needs_the_token_ids(tiny_modernbert):
    """Embeddings alone do not show where the hypothesis begins, which is said; the CLS head needs it not."""
    for name in ("cls", "alignment"):
        model = make_model(tiny_modernbert, name)
        embeds = torch.zeros(1, 4, model.config.hidden_size)
        if name == "cls":
            assert model(inputs_embeds=embeds, mode="nli").shape == (1, 3)
        else:
            with pytest.raises(ValueError, match="input_ids"):
                model(inputs_embeds=embeds, mode="nli")


@pytest.mark.parametrize("base", BASES)
def test_any_base(base, head_type, tmp_path):
    """Other families of encoders carry the heads too, given as an object or as a folder."""
    model = on_base(BASES[base], head_type)
    batch = ids_of([1, 9, 8, 2, 7, 6, 5, 2], [1, 9, 8, 7, 2, 6, 2])
    batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
    plain = AutoModel.from_config(copy.deepcopy(BASES[base])).eval()
    plain.load_state_dict(model.encoder.state_dict())
    expected = plain(batch["input_ids"], batch["attention_mask"]).last_hidden_state
    output = model(**batch)
    assert torch.equal(output.last_hidden_state, expected)
    assert torch.equal(model(**batch, mode="nli"), output.logits)

    model.save_pretrained(tmp_path / "heads")
    plain.save_pretrained(tmp_path / "base")
    for how in ({"encoder": plain}, {"base_model_name_or_path": str(tmp_path / "base")}):
        again = ModernBertNliModel.from_pretrained(tmp_path / "heads", **how)
        assert torch.equal(again(**batch).logits, output.logits)


@pytest.mark.parametrize("encoding", ["joint", "separate"])
def test_inner_states_of_the_base(tiny_modernbert, checkpoints, encoding):
    """All hidden states and the attentions, as the plain base gives them, in output and in tuple."""
    how = {"attn_implementation": "eager"}
    plain = AutoModel.from_pretrained(tiny_modernbert, **how)
    asked = {"output_hidden_states": True, "output_attentions": True}
    for cls in (ModernBertNliModel, ModernBertNliForSequenceClassification):
        model = cls.from_pretrained(checkpoints["separate"], base_model_name_or_path=tiny_modernbert, **how)
        batch = tokenize(model)
        expected, output = plain(**batch, **asked), model(**batch, **asked, encoding=encoding)
        for name in ("hidden_states", "attentions"):
            assert len(output[name]) == len(expected[name])
            assert all(torch.equal(*both) for both in zip(output[name], expected[name], strict=True))
        model.config.output_hidden_states = True
        assert "hidden_states" in model(**batch)
        assert "hidden_states" not in model(**batch, output_hidden_states=False)


def test_what_cannot_be_honoured_is_refused(tiny_modernbert, batch):
    """No argument is ignored: an unknown one, a loss that a mode has not."""
    model = make_model(tiny_modernbert)
    classifier = ModernBertNliForSequenceClassification(model.config, encoder=model.encoder)
    labels = torch.tensor([0, 1, 2])
    for one in (model, classifier):
        with pytest.raises(TypeError, match="position_ids"):
            one(**batch, position_ids=batch["input_ids"])
        one.config.problem_type = "regression"
        with pytest.raises(ValueError, match="each pair has one label"):
            one(**batch, labels=labels)
        one.config.problem_type = "single_label_classification"
        assert one(**batch, labels=labels).loss.isfinite()
    with pytest.raises(ValueError, match="A `mode` has no loss"):
        model(**batch, mode="nli", labels=labels)
    with pytest.raises(ValueError, match="each pair has one label, got 'regression'"):
        ModernBertNliConfig(problem_type="regression")


def test_tuples(tiny_modernbert, batch):
    """`return_dict=False`, as an argument or in the configuration, for both classes."""
    model = make_model(tiny_modernbert)
    classifier = ModernBertNliForSequenceClassification(model.config, encoder=model.encoder)
    labels = torch.tensor([0, 1, 2])
    for one in (model.eval(), classifier.eval()):
        expected = one(**batch, labels=labels)
        found = one(**batch, labels=labels, return_dict=False)
        assert isinstance(found, tuple)
        assert all(torch.equal(*both) for both in zip(found, expected.to_tuple(), strict=True))
        one.config.return_dict = False
        assert isinstance(one(**batch), tuple)
        assert one(**batch, return_dict=True).logits is not None
        one.config.return_dict = True


def test_gradients_that_are_accumulated_are_a_mean(tiny_modernbert, tmp_path):
    """Trainer leaves that to models that take any argument, and did not divide the loss of ours."""
    trained = []
    for batch_size, steps in ((2, 1), (1, 2)):
        model = make_model(tiny_modernbert, head_dropout=0.0)
        rows = [dict(model.tokenizer(*pair), labels=0) for pair in PAIRS[:2]]
        arguments = TrainingArguments(
            str(tmp_path),
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=steps,
            max_steps=1,
            optim="sgd",
            max_grad_norm=0.0,
            learning_rate=1.0,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
        )
        collator = DataCollatorWithPadding(model.tokenizer)
        Trainer(model, arguments, train_dataset=rows, data_collator=collator).train()
        trained.append(model.nli_output.weight.detach())
    assert_close(*trained, atol=1e-5, rtol=1e-4)


def test_export(tiny_modernbert, checkpoints):
    """Joint encoding is exported; separate encoding says that joint is what can be."""
    model = make_model(tiny_modernbert, "separate")
    inputs = tokenize(model, PAIRS[:1])
    with pytest.raises(ValueError, match='export the model with `encoding="joint"`'):
        torch.export.export(model, (), inputs, strict=False)
    with pytest.raises(ValueError, match='export the model with `encoding="joint"`'):
        torch.jit.trace(lambda ids: model(ids, mode="nli"), inputs["input_ids"])
    joint = {**inputs, "encoding": "joint", "mode": "nli"}
    exported = torch.export.export(model, (), joint, strict=False).module()
    assert_close(exported(**joint), model(**joint), atol=1e-5, rtol=1e-4)


def test_compile(model, batch):
    """Compiled, the model gives the same logits in every mode; with the CLS head it is a single graph."""
    torch.compiler.reset()
    # transformers takes a lock where hidden states are asked for, which the compiler does not trace.
    compiled = torch.compile(
        copy.deepcopy(model), backend="aot_eager", fullgraph=model.config.head_type == "cls"
    )
    with torch.no_grad():
        assert_close(compiled(**batch).logits, model(**batch).logits, atol=1e-5, rtol=1e-4)
        assert_close(compiled(**batch, mode="nli"), model(**batch, mode="nli"), atol=1e-5, rtol=1e-4)
        assert_close(compiled(**batch, mode="embed"), model(**batch, mode="embed"), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"]
)
def test_copies(model, batch, copied, tmp_path):
    """A copy judges as the original does, independently of it, and can be saved."""
    other = copied(model)
    assert torch.equal(other(**batch).logits, model(**batch).logits)
    assert torch.equal(other(**batch, mode="nli"), model(**batch, mode="nli"))
    other.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").exists()
    with torch.no_grad():
        other.nli_output.weight.zero_()
    assert not torch.equal(other(**batch).logits, model(**batch).logits)


def test_threads(model):
    """Threads that call one model at once get what they would get one after the other."""
    batches = [tokenize(model, [pair]) for pair in PAIRS] * 8
    modes = [None, "nli", "abstention"]

    def judge(number: int) -> torch.Tensor:
        mode = modes[number % 5 % 3]
        with torch.no_grad():
            output = model(**batches[number], mode=mode)
        return output if mode == "nli" else output[0] if mode else output.logits

    expected = [judge(number) for number in range(len(batches))]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(judge, range(len(batches))))
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one, other)


ONE_TEXT = [["[CLS] a [SEP]"], ["[CLS] a [SEP] [SEP]"], ["[CLS] [SEP] a [SEP]"], ["[CLS] [SEP] [SEP]"]]


@pytest.mark.parametrize(
    "kind", [*ONE_TEXT, ["[CLS] a [SEP] b [SEP]", "[CLS] a [SEP]"], ["[SEP]"], ["a"]], ids=str
)
def test_one_text_alone_is_no_pair(tiny_modernbert, head_type, kind):
    """It is not judged against nothing, whichever side is empty; its embedding is had all the same."""
    numbers = {"[CLS]": 2, "[SEP]": 3, "a": 20, "b": 21}
    batch = ids_of(*([numbers[token] for token in row.split()] for row in kind))
    model = make_model(tiny_modernbert, head_type)
    classifier = ModernBertNliForSequenceClassification(model.config, encoder=model.encoder).eval()
    row = len(kind) - 1
    for ask in (
        lambda: model(**batch, mode="nli"),
        lambda: model(**batch, mode="abstention"),
        lambda: model(**batch, labels=torch.zeros(len(kind), dtype=torch.long)),
        lambda: model.summaries(**batch),
        lambda: classifier(**batch),
    ):
        with pytest.raises(ValueError, match=rf"Row {row} of the batch is one text alone, .*'text_pair'"):
            ask()
    assert model(**batch, mode="embed").shape == (len(kind), model.config.hidden_size)
    assert model(**batch).last_hidden_state.shape[0] == len(kind)


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ([0, 1, 3], r"0 to 2, for entailment, neutral, contradiction, or -100 for none, got \[0, 1, 3\]"),
        ([1, 2, 3], r"got \[1, 2, 3\]"),  # numbered from 1
        ([3, 3, 3], r"got \[3\]"),
        ([-1, 0, 1], r"got \[-1, 0, 1\]"),
        ([7, 0, -100], r"got \[-100, 0, 7\]"),
        ([0.0, 1.0, 2.0], "a whole one for each of 3 pairs, got torch.float32"),
        ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], r"got torch.int64 of shape \(3, 3\)"),
        ([0, 1], r"of shape \(2,\)"),
        (0, r"of shape \(\)"),
    ],
)
def test_labels_that_are_no_classes_are_refused(tiny_modernbert, batch, labels, complaint):
    """As any classifier refuses them, with what they may be; none is taken for something else."""
    model = make_model(tiny_modernbert, "separate")
    classifier = ModernBertNliForSequenceClassification(model.config, encoder=model.encoder).eval()
    for one in (model, classifier):
        with pytest.raises(ValueError, match=complaint):
            one(**batch, labels=torch.tensor(labels))


def test_pairs_without_a_label_do_not_count(model, batch):
    """-100, as everywhere."""
    logits = model(**batch, mode="nli")
    expected = torch.nn.functional.cross_entropy(logits[:1], torch.tensor([2]))
    assert_close(model(**batch, labels=torch.tensor([2, -100, -100])).loss, expected)


def test_an_encoder_that_is_to_learn_says_that_it_is_frozen(tiny_modernbert, head_type, batch, caplog):
    """By `requires_grad_`, part by part, or by adapters of others inside it."""
    labels = torch.tensor([0, 1, 2])
    model = make_model(tiny_modernbert, head_type).train()
    free = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    logging.Logger.warning_once.cache_clear()
    assert model.requires_grad_() is model
    assert "The encoder stays frozen" in caplog.text
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == free
    assert model(**batch, labels=labels).loss.requires_grad
    model.requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    for change in (
        lambda model: model.encoder.requires_grad_(True),
        lambda model: model.encoder.layers[1].mlp.requires_grad_(True),
        lambda model: [parameter.requires_grad_(True) for parameter in model.parameters()],
    ):
        model = make_model(tiny_modernbert, head_type).train()
        change(model)
        with pytest.raises(ValueError, match=r"frozen: no gradient reaches it.*--adapter lora"):
            model(**batch, labels=labels)
        with torch.no_grad():
            assert model(**batch, labels=labels).loss.isfinite()
        assert model.eval()(**batch, labels=labels).loss.isfinite()
    peft = pytest.importorskip("peft", reason="peft is not installed")
    config = peft.LoraConfig(target_modules=["Wqkv"], r=2)
    adapted = peft.get_peft_model(make_model(tiny_modernbert, head_type), config).train()
    with pytest.raises(ValueError, match="nor an adapter inside it, such as peft's"):
        adapted(**batch, labels=labels)


@pytest.mark.parametrize("base", BASES)
def test_padding_may_be_on_the_left(base, head_type):
    """The first token that is one is [CLS]: beside a longer pair, a shorter one says what it says alone."""
    model = on_base(BASES[base], head_type)
    short, long = [1, 9, 8, 2, 7, 2], [1, 9, 8, 2, 7, 6, 5, 12, 11, 2]
    ids = torch.tensor([[0] * (len(long) - len(short)) + short, long])
    batch = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    alone = ids_of(short)
    if base in ("bert", "albert", "deberta-v2", "distilbert") and head_type != "separate":
        # Whose positions count from the edge: nothing but the place of [CLS] is ours.
        batch["attention_mask"] = batch["attention_mask"].bool()
        expected = model.encoder(ids, batch["attention_mask"].long()).last_hidden_state[
            :1, len(long) - len(short)
        ]
        assert torch.equal(model(**batch, mode="embed")[:1], expected)
        return
    with torch.no_grad():
        assert_close(model(**batch, mode="nli")[:1], model(**alone, mode="nli"), atol=1e-4, rtol=1e-3)
        if head_type == "cls":
            embedded, expected = model(**batch, mode="embed")[:1], model(**alone, mode="embed")
            assert_close(embedded, expected, atol=1e-4, rtol=1e-3)


def test_attentions_that_a_kernel_does_not_give_are_warned_of(tiny_modernbert, head_type, batch, caplog):
    """As transformers does: there are none, and it is said once; eager attention gives all."""
    for attention in ("sdpa", "eager"):
        config = make_model(tiny_modernbert, head_type).config
        encoder = AutoModel.from_pretrained(tiny_modernbert, attn_implementation=attention)
        logging.Logger.warning_once.cache_clear()
        caplog.clear()
        for one in (ModernBertNliModel, ModernBertNliForSequenceClassification):
            output = one(config, encoder=encoder).eval()(
                **batch, output_attentions=True, output_hidden_states=True
            )
            assert len(output.hidden_states) == 4
            given = output.attentions is not None and all(layer is not None for layer in output.attentions)
            assert given == ("gives no attentions" not in caplog.text)
        assert given or attention == "sdpa"


def test_layers_quantised_in_place(tiny_modernbert, head_type, batch, tmp_path):
    """All of them, or the base's: what is said stays close, guarantees end, and heads are saved as floats."""

    def quantised(part):
        return torch.ao.quantization.quantize_dynamic(part, {torch.nn.Linear}, dtype=torch.qint8)

    plain = make_model(tiny_modernbert, head_type)
    expected = plain(**batch, mode="nli")
    whole = quantised(copy.deepcopy(plain)).eval()
    base = copy.deepcopy(plain)
    base.encoder = quantised(base.encoder)
    for model in (whole, base):
        assert_close(model(**batch, mode="nli"), expected, atol=0.1, rtol=0.1)
        assert len(model.as_pipeline()(PAIRS)) == len(PAIRS)
        assert model.as_pipeline().route("the dog", ["dogs", "cats"])["ranking"]
        assert model.as_pipeline().check("The cat sleeps.", PAIRS[2][0])["verdict"]
    assert whole.heads_digest() != plain.heads_digest() == base.heads_digest()
    assert quantised(copy.deepcopy(plain)).heads_digest() == whole.heads_digest()
    with pytest.raises(ValueError, match="quantised in place cannot be saved"):
        whole.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
    base.save_pretrained(tmp_path)
    again = ModernBertNliModel.from_pretrained(tmp_path, base_model_name_or_path=tiny_modernbert)
    assert torch.equal(again(**batch, mode="nli"), expected)
    if head_type == "separate":
        assert len(whole.project_states(whole.encode(["the dog"]))) == 1


@pytest.mark.parametrize("how", ["loaded", "double", "bfloat16"])
def test_other_precisions(checkpoint, tiny_modernbert, batch, how):
    """Every interface works, loaded heads stay float32, and what is said is the same but for rounding."""
    base = {"base_model_name_or_path": tiny_modernbert}
    expected = ModernBertNliModel.from_pretrained(checkpoint, **base)(**batch, mode="nli")
    if how == "loaded":
        model = ModernBertNliModel.from_pretrained(checkpoint, dtype=torch.float64, **base)
        assert model.encoder.dtype == torch.float64
        assert model.nli_output.weight.dtype == torch.float32
    else:
        model = getattr(ModernBertNliModel.from_pretrained(checkpoint, **base), how)()
    tolerance = 0.05 if how == "bfloat16" else 1e-3
    assert_close(model(**batch, mode="nli").float(), expected, atol=tolerance, rtol=tolerance)
    nli = model.as_pipeline()
    assert len(nli(PAIRS)) == len(PAIRS)
    assert nli.route("the dog", ["dogs", "cats"])["ranking"]
    assert nli.check("The cat sleeps.", PAIRS[2][0])["verdict"]
