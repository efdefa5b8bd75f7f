"""Which base and tokenizer the heads belong to: known by what they say, not by their names."""

import copy
import json
import random
from pathlib import Path

import pytest
import torch
from conftest import PAIRS, make_model
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer, BertModel, PreTrainedTokenizerFast

from modernbert_nli.calibration import StaleCalibration
from modernbert_nli.encoder import EncoderMismatch
from modernbert_nli.files import InputError
from modernbert_nli.fingerprint import distance, fixed_input, numbers_of, precision_of, same_base, tokens_of
from modernbert_nli.indexing.store import add_shard
from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel
from modernbert_nli.separate import states_source
from modernbert_nli.states import StatesMismatch, TokenStates
from modernbert_nli.tokenization import TokenizerMismatch

QUICKSTART = str(Path(__file__).resolve().parent.parent / "checkpoints" / "quickstart")


def quickstart(base, **kwargs) -> ModernBertNliModel:
    return ModernBertNliModel.from_pretrained(QUICKSTART, base_model_name_or_path=str(base), **kwargs)


def noisy(model, size: float, only: str = "") -> None:
    """Every weight matrix moved by a share of its spread."""
    torch.manual_seed(0)
    for name, weights in model.named_parameters():
        if weights.ndim == 2 and only in name:
            weights.data += torch.randn_like(weights) * weights.std() * size


def fine_tuned(model, rate: float, steps: int) -> None:
    """Some steps of contrastive training on random words."""
    torch.manual_seed(0)
    draw = random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for _ in range(steps):
        ids = torch.tensor([draw.sample(range(1000, 20000), 8) for _ in range(8)])
        sides = [model(row).last_hidden_state.mean(dim=1) for row in (ids, ids.flip(1))]
        one, other = (torch.nn.functional.normalize(side, dim=-1) for side in sides)
        torch.nn.functional.cross_entropy(20 * one @ other.T, torch.arange(8)).backward()
        optimizer.step()
        optimizer.zero_grad()


def merged(model, rank: int, size: float) -> None:
    """A low-rank update of queries and values, as peft merges it."""
    torch.manual_seed(0)
    for name, weights in model.named_parameters():
        if name.endswith(("query.weight", "value.weight")):
            down, up = torch.randn(rank, weights.shape[1]), torch.randn(weights.shape[0], rank)
            weights.data += up @ down * (rank * weights.shape[1]) ** -0.5 * size * weights.std() * rank**-0.5


def swapped(model) -> None:
    layers = model.encoder.layer
    layers[1], layers[2] = layers[2], layers[1]


OTHERS = {
    "noise": lambda model: noisy(model, 0.01),
    "noise in one layer": lambda model: noisy(model, 0.1, "layer.3"),
    "noise in the embeddings": lambda model: noisy(model, 0.05, "word_embeddings"),
    "fine-tuned for five steps": lambda model: fine_tuned(model, 2e-5, 5),
    "fine-tuned at a higher rate": lambda model: fine_tuned(model, 2e-4, 5),
    "an adapter merged": lambda model: merged(model, 8, 1.0),
    "layers swapped": swapped,
    "another seed": lambda model: model.apply(model._init_weights) and noisy(model, 1.0),
    "half of a layer": lambda model: model.encoder.layer[0].attention.self.value.weight.data[:192].zero_(),
}


def test_what_the_quick_start_stores_is_short():
    """At most 600 bytes of config.json, with both encodings' layers and the tokenizer."""
    stored = json.loads(Path(QUICKSTART, "config.json").read_text())["base_fingerprint"]
    assert len(json.dumps(stored, indent=2)) <= 600
    assert set(stored["states"]) == {"2", "3", "4", "6"}
    assert set(stored) == {"precision", "states", "tokens"}


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"attn_implementation": "eager"},
        {"dtype": torch.bfloat16},
        {"dtype": torch.float16, "attn_implementation": "eager"},
        {"dtype": torch.float64},
        {"device_map": "cpu"},
    ],
    ids=str,
)
def test_its_base_is_known_in_any_precision(minilm, how):
    """As it is loaded, however that is; far enough from what would be refused."""
    model = quickstart(minilm, **how)
    apart, allowed = distance(model.config.base_fingerprint, model.base_fingerprint())
    assert apart <= allowed / 3
    assert model.stale_calibration() is None


@pytest.mark.parametrize("name", OTHERS)
def test_another_base_of_that_shape_is_refused(minilm, tmp_path, name):
    """From a folder or as an object; loaded alone it has no fault."""
    base = BertModel.from_pretrained(minilm).eval()
    OTHERS[name](base)
    with pytest.raises(EncoderMismatch, match=r"is not, or no longer, the '.*from_base"):
        ModernBertNliModel.from_pretrained(QUICKSTART, encoder=base.eval())
    base.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(minilm).save_pretrained(tmp_path)
    with pytest.raises(EncoderMismatch, match=r"of a fixed input is \d+\.\d% off, and 0\.5% may be rounding"):
        quickstart(tmp_path)


@pytest.mark.parametrize("name", ["fine-tuned at a higher rate", "layers swapped", "another seed"])
def test_nor_does_bfloat16_hide_it(minilm, name):
    base = BertModel.from_pretrained(minilm).eval()
    OTHERS[name](base)
    with pytest.raises(EncoderMismatch, match=r"8\.0% may be rounding"):
        ModernBertNliModel.from_pretrained(QUICKSTART, encoder=base.eval().bfloat16())


def test_an_adapter_in_the_base_ends_every_guarantee(minilm):
    """On, it is said and nothing is guaranteed, no states are kept; off again, all is as it was."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    nli = quickstart(minilm).as_pipeline()
    before = nli.threshold_for(0.1, like="calibration")
    config = peft.LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False)
    peft.inject_adapter_in_model(config, nli.model.encoder)
    for ask in (
        lambda: nli.threshold_for(0.1, like="calibration"),
        lambda: nli(*PAIRS[0], target_risk=0.1, like="calibration"),
        lambda: nli.model.calibration,
    ):
        with pytest.raises(StaleCalibration, match="no longer holds: the encoder is not, or no longer"):
            ask()
    with pytest.raises(EncoderMismatch, match="no adapter in it"):
        nli.model.encode("It rains.")
    for module in nli.model.encoder.modules():
        if hasattr(module, "lora_A"):
            module.enable_adapters(False)
    assert nli.threshold_for(0.1, like="calibration") == before
    assert len(nli.model.encode("It rains.")) == 1


def test_any_change_of_the_base_ends_every_guarantee(minilm):
    """Weights moved in place, a hook, a layer quantised, dropout on."""
    linear = torch.nn.Linear

    def quantised(model):
        model.encoder = torch.ao.quantization.quantize_dynamic(model.encoder, {linear}, dtype=torch.qint8)

    changes = (
        lambda model: model.encoder.encoder.layer[0].output.dense.weight.data.mul_(1.1),
        lambda model: model.encoder.encoder.layer[0].register_forward_hook(lambda *args: args[2] * 1.5),
        quantised,
        lambda model: model.encoder.train(),
    )
    loaded = quickstart(minilm)
    for change in changes:
        model = copy.deepcopy(loaded)
        assert model.stale_calibration() is None
        change(model)
        assert "no longer holds" in model.stale_calibration()


def test_what_was_calibrated_is_what_is_known(minilm, tmp_path):
    """A base quantised in place, calibrated: its guarantee holds for it, and no more for the plain one."""
    model = quickstart(minilm)
    linear = {torch.nn.Linear}
    model.encoder = torch.ao.quantization.quantize_dynamic(model.encoder, linear, dtype=torch.qint8)
    model.set_calibration(model.config.calibration, 0.3)
    assert model.stale_calibration() is None
    model.save_pretrained(tmp_path)
    plain = ModernBertNliModel.from_pretrained(tmp_path, base_model_name_or_path=minilm)
    assert "no longer holds" in plain.stale_calibration()
    plain.encoder = model.encoder
    assert plain.stale_calibration() is None


@pytest.fixture
def old(checkpoints, tmp_path) -> str:
    """A checkpoint of version 0.2, which knows its base by its name."""
    make = Path(checkpoints["separate"])
    for path in make.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("base_fingerprint")
    (tmp_path / "config.json").write_text(json.dumps(config))
    return str(tmp_path)


def test_a_checkpoint_of_before_loads_quietly(old, tiny_modernbert, caplog, tmp_path_factory):
    """Without a word; from then on it knows its base, and so does what is saved of it."""
    model = ModernBertNliModel.from_pretrained(old, base_model_name_or_path=tiny_modernbert)
    assert not [record for record in caplog.records if "base" in record.getMessage()]
    noisy(model.encoder, 0.1)
    assert model.changed_base()
    folder = str(tmp_path_factory.mktemp("saved"))
    ModernBertNliModel.from_pretrained(old, base_model_name_or_path=tiny_modernbert).save_pretrained(folder)
    assert set(json.loads(Path(folder, "config.json").read_text())["base_fingerprint"]) == {
        "precision",
        "states",
        "tokens",
    }


def test_loading_costs_one_short_pass(checkpoint, tiny_modernbert):
    """Of 16 tokens at most, for heads of either family."""
    encoder, passes = AutoModel.from_pretrained(tiny_modernbert).eval(), []
    encoder.register_forward_pre_hook(
        lambda module, args, kwargs: passes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    ModernBertNliModel.from_pretrained(checkpoint, encoder=encoder)
    assert passes == [(1, 16)]


def test_a_base_without_weights_is_not_asked(tiny_modernbert, checkpoints):
    """On the device "meta" nothing can be computed, and nothing is said."""
    model = make_model(tiny_modernbert, "separate")
    model.encoder.to("meta")
    assert model.base_fingerprint() is None
    assert model.changed_base() is None


def renumbered(folder: str) -> PreTrainedTokenizerFast:
    """As many tokens, and other numbers for the words among them."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    special = set(tokenizer.all_special_tokens)
    words = [word for word in vocabulary if word not in special]
    numbers = [vocabulary[word] for word in words]
    state["model"]["vocab"] = {**vocabulary, **dict(zip(words, numbers[::-1], strict=True))}
    names = {name: getattr(tokenizer, name) for name in ("pad_token", "cls_token", "sep_token", "unk_token")}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)), **names)


def test_another_tokenizer_of_that_size_is_refused(minilm, tmp_path):
    """Beside the heads, and in a pipeline; and so is one that keeps the case of letters."""
    model = quickstart(minilm)
    other = renumbered(minilm)
    assert len(other) == len(model.tokenizer)
    with pytest.raises(TokenizerMismatch, match="makes other tokens of a text"):
        model.as_pipeline(tokenizer=other)
    cased = AutoTokenizer.from_pretrained(minilm)
    cased.backend_tokenizer.normalizer = None
    with pytest.raises(TokenizerMismatch, match="makes other tokens of a text"):
        model.as_pipeline(tokenizer=cased)
    model.save_pretrained(tmp_path)
    other.save_pretrained(tmp_path)
    with pytest.raises(TokenizerMismatch, match="load the tokenizer of that base"):
        _ = ModernBertNliModel.from_pretrained(tmp_path, base_model_name_or_path=minilm).tokenizer


def test_settings_of_a_tokenizer_are_no_other_one(minilm):
    """Padding side, window and lack of a cache do not matter."""
    tokenizer = AutoTokenizer.from_pretrained(minilm, padding_side="left", model_max_length=64)
    assert tokens_of(tokenizer) == quickstart(minilm).config.base_fingerprint["tokens"]


def test_states_of_another_base_are_refused(tiny_modernbert, tmp_path):
    """In memory, from a file and in an index; those of version 0.2, which do not say, are taken."""
    model = make_model(tiny_modernbert, "separate")
    base = copy.deepcopy(model.encoder)
    noisy(base, 0.1)
    other = ModernBertNliModel.from_base(copy.deepcopy(model.config), encoder=base).eval()
    assert states_source(other)["base"] == states_source(model)["base"]
    theirs, own = other.encode(["The cat sleeps."]), model.encode(["The cat sleeps."])
    theirs.save(tmp_path / "theirs.safetensors")
    for states in (theirs, TokenStates.load(tmp_path / "theirs.safetensors")):
        with pytest.raises(StatesMismatch, match="of another base of that name: encode the texts again"):
            model.classify(states, own)
    add_shard(tmp_path / "index", "a", own, [{"id": "1", "text": "The cat sleeps."}])
    with pytest.raises(InputError, match="other heads or another base need an index of their own"):
        add_shard(tmp_path / "index", "b", theirs, [{"id": "2", "text": "The cat sleeps."}])
    del theirs.source["fingerprint"]
    assert model.classify(theirs, own).logits.shape == (1, 3)
    again = ModernBertNliModel.from_base(copy.deepcopy(model.config), encoder=model.encoder.bfloat16()).eval()
    assert model.classify(again.encode(["The cat sleeps."]), own).logits.shape == (1, 3)


def test_a_distance_grows_with_the_difference():
    """It is about the share by which states differ, whatever their scale, and symmetric."""
    torch.manual_seed(0)
    states = torch.randn(16, 384) * 30 + 5
    known = {"precision": "float32", "states": numbers_of({1: states})}
    last = 0.0
    for share in (0.002, 0.01, 0.05, 0.2, 1.0):
        moved = states + 30 * share * torch.randn(16, 384)
        found = {"precision": "float32", "states": numbers_of({1: moved, 2: states})}
        apart, _ = distance(known, found)
        assert share / 3 < apart < share * 3
        assert distance(found, known)[0] == apart > last
        last = apart
    assert same_base(known, {"precision": "float32", "states": numbers_of({1: states * 2})})
    assert same_base(known, None)
    assert same_base(None, known)
    assert not same_base({**known, "tokens": "a"}, {**known, "tokens": "b"})
    assert same_base({**known, "tokens": "a"}, known)


@pytest.mark.parametrize("size", [17, 60, 1000, 30522, 250002])
def test_the_input_fits_every_vocabulary(size):
    ids = fixed_input(size)
    assert ids.shape == (1, 16)
    assert ids.min() > 0
    assert ids.max() < size
    assert len(ids.unique()) == 16


def test_precision_is_that_of_the_weights(minilm):
    """Of linear layers quantised by torch too, of an adapter inside not."""
    base = BertModel.from_pretrained(minilm)
    assert precision_of(base) == precision_of(copy.deepcopy(base).double()) == "float32"
    assert (
        precision_of(copy.deepcopy(base).bfloat16()) == precision_of(copy.deepcopy(base).half()) == "float16"
    )
    quantised = torch.ao.quantization.quantize_dynamic(base, {torch.nn.Linear}, dtype=torch.qint8)
    assert precision_of(quantised) == "int8"
    torch.nn.utils.parametrizations.weight_norm(base.encoder.layer[0].output.dense)
    assert precision_of(base) == "float32"
