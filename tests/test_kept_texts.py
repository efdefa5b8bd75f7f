"""What a pipeline keeps of texts: never beyond a change of its model, whatever the change."""

import copy
import pickle

import pytest
import torch
from conftest import PAIRS, make_model
from hypothesis import given, settings
from hypothesis import strategies as st

from modernbert_nli.kept_texts import KeptTexts, is_plain_now
from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel

CATEGORIES = {"food": "This is about food.", "animals": "This is about animals."}
SOURCE = " ".join(premise for premise, _ in PAIRS)


@pytest.fixture(scope="module")
def tiny(tiny_modernbert):
    return make_model(tiny_modernbert, encoding="separate")


def own(model):
    """A model whose heads and base may be changed."""
    return copy.deepcopy(model)


def read_by(model, monkeypatch):
    """The texts that a model's encoder reads from now on."""
    seen, run = [], model.encoder_states

    def counted(inputs, encoding):
        seen.extend(inputs["input_ids"].tolist())
        return run(inputs, encoding)

    monkeypatch.setattr(model, "encoder_states", counted)
    return seen


def answers(nli) -> list:
    """What each interface says, as one list of numbers and labels."""
    told = [(result["label"], *result["probs"].values(), result["uncertainty"]) for result in nli(PAIRS)]
    told += [(route["uncertainty"],) for route in nli.route([premise for premise, _ in PAIRS], CATEGORIES)]
    checked = nli.check(PAIRS[0][1], SOURCE)
    told.append((checked["verdict"], checked["support"]))
    inputs = nli.tokenizer(*map(list, zip(*PAIRS, strict=True)), padding=True, return_tensors="pt")
    with torch.no_grad():
        told += [tuple(row) for row in nli.model(**inputs, mode="nli").tolist()]
    return told


def same(found: list, expected: list) -> None:
    for one, other in zip(found, expected, strict=True):
        assert [value for value in one if isinstance(value, str)] == [
            value for value in other if isinstance(value, str)
        ]
        numbers = [[value for value in row if not isinstance(value, str)] for row in (one, other)]
        assert numbers[0] == pytest.approx(numbers[1], abs=1e-4)


def test_what_is_read_is_kept(tiny, monkeypatch):
    """Pairs, routes and checks of texts that were read a moment ago do without the encoder."""
    nli, seen = tiny.as_pipeline(), read_by(tiny, monkeypatch)
    first = nli(PAIRS)
    assert len(seen) == 6
    assert nli(PAIRS) == first
    assert len(seen) == 6
    nli.route(PAIRS[0][0], CATEGORIES)
    assert len(seen) == 6 + 2  # the categories
    nli.route(PAIRS[1][0], CATEGORIES)
    assert len(seen) == 6 + 2
    nli.texts.clear()
    assert nli(PAIRS) == first
    assert len(seen) == 6 + 2 + 6


def test_the_model_keeps_nothing(tiny, monkeypatch):
    seen = read_by(tiny, monkeypatch)
    inputs = tiny.tokenizer(*PAIRS[0], return_tensors="pt")
    for times in (1, 2):
        with torch.no_grad():
            tiny(**inputs, mode="nli")
        assert len(seen) == 2 * times


def test_copies_begin_with_nothing(tiny):
    nli = tiny.as_pipeline()
    nli(PAIRS)
    for texts in (copy.deepcopy(nli.texts), pickle.loads(pickle.dumps(nli.texts)), copy.copy(nli.texts)):
        assert texts._kept is None


def _fused_step(nli):
    """The default optimizer of Trainer changes weights without counting that it did."""
    parameters = [*nli.model.nli_hidden.parameters(), *nli.model.nli_output.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)
        parameter.grad = torch.full_like(parameter, 0.3)
    before = [parameter._version for parameter in parameters]
    torch.optim.AdamW(parameters, lr=0.05, fused=True).step()
    assert [parameter._version for parameter in parameters] == before
    for parameter in parameters:
        parameter.grad = None


def _moving_average(nli):
    """As an average of weights is put in."""
    for parameter in nli.model.nli_hidden.parameters():
        parameter.data.mul_(1.4)


def _replaced_part(nli):
    nli.model.nli_output = torch.nn.Linear(32, 3)


def _trained_for_another_class(nli):
    with torch.no_grad():
        nli.model.nli_output.bias.add_(torch.tensor([0.5, 0.0, -0.5]))


def _base_by_data(nli):
    for parameter in nli.model.encoder.parameters():
        if parameter.ndim == 2:
            parameter.data.mul_(1.3)


def _base_by_load_state_dict(nli):
    state = {key: value * 1.2 for key, value in nli.model.encoder.state_dict().items()}
    nli.model.encoder.load_state_dict(state)


def _hook_on_the_base(nli):
    nli.hooks.append(
        nli.model.encoder.layers[0].register_forward_hook(lambda module, args, output: output * 1.5)
    )


def _hook_on_the_heads(nli):
    nli.hooks.append(
        nli.model.nli_hidden.projection.register_forward_hook(lambda module, args, output: output * 1.5)
    )


def _hooks_removed(nli):
    while nli.hooks:
        nli.hooks.pop().remove()


def _lora_on_the_base(nli):
    from peft import LoraConfig, inject_adapter_in_model

    torch.manual_seed(3)
    config = LoraConfig(target_modules=["Wi"], init_lora_weights=False)
    inject_adapter_in_model(config, nli.model.encoder)


def _lora_switched(nli):
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in nli.model.encoder.modules():
        if isinstance(module, BaseTunerLayer):
            module.enable_adapters(enabled=module.disable_adapters)


def _another_base(nli):
    torch.manual_seed(4)
    other = copy.deepcopy(nli.model.encoder)
    for parameter in other.parameters():
        parameter.data.mul_(1.1)
    nli.model.attach_encoder(other)


CHANGES = [
    _fused_step,
    _moving_average,
    _replaced_part,
    _trained_for_another_class,
    _base_by_data,
    _base_by_load_state_dict,
    _hook_on_the_base,
    _hook_on_the_heads,
    _hooks_removed,
    _lora_on_the_base,
    _lora_switched,
    _another_base,
]


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(CHANGES), min_size=1, max_size=4))
def test_after_any_changes_all_is_as_if_it_had_never_read_anything(tiny, changes):
    """Every interface, against the same model in a pipeline that has read nothing."""
    nli = own(tiny).as_pipeline()
    nli.hooks = []
    answers(nli)
    for change in changes:
        change(nli)
        same(answers(nli), answers(nli.model.as_pipeline(nli.tokenizer)))


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_each_change_is_noticed(tiny, change):
    nli = own(tiny).as_pipeline()
    nli.hooks = []
    if change is _hooks_removed:
        _hook_on_the_base(nli)
    if change is _lora_switched:
        _lora_on_the_base(nli)
    before = answers(nli)
    change(nli)
    after = answers(nli)
    same(after, answers(nli.model.as_pipeline(nli.tokenizer)))
    assert any(
        a != pytest.approx(b, abs=1e-4) for a, b in zip(_numbers(before), _numbers(after), strict=True)
    )


def _numbers(told: list) -> list[float]:
    return [value for row in told for value in row if not isinstance(value, str)]


def test_autocast_leaves_nothing_behind(tiny):
    """States in bfloat16 do not live on as those of float32."""
    nli = own(tiny).as_pipeline()
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_plain_now(nli.model)
        rounded = answers(nli)
    exact = answers(nli)
    same(exact, answers(own(tiny).as_pipeline()))
    assert rounded != exact


def test_a_training_loop_is_evaluated_by_the_heads_it_has(tiny):
    """Evaluations between the steps of Trainer's default optimizer are those of the heads of that moment."""
    model = own(tiny)
    nli = model.as_pipeline()
    said = []
    for _ in range(3):
        _fused_step(nli)
        said.append(_numbers(answers(nli)))
        fresh = ModernBertNliModel(model.config, encoder=model.encoder).eval()
        fresh.load_state_dict(model.state_dict())
        same(answers(nli), answers(fresh.as_pipeline(nli.tokenizer)))
    assert said[0] != said[1] != said[2]


def test_a_shallow_copy_of_a_model_is_its_own(tiny):
    """Two models that share their parts until one gets others."""
    model = own(tiny)
    nli = model.as_pipeline()
    expected = answers(nli)
    other = copy.copy(model)
    other._modules = {**model._modules, "nli_output": torch.nn.Linear(32, 3)}
    answers(other.as_pipeline(nli.tokenizer))
    same(answers(nli), expected)
    nli.model = other
    same(answers(nli), answers(other.as_pipeline(nli.tokenizer)))


def test_projected_states_of_before_a_step_are_refused(tiny):
    from modernbert_nli.states import StatesMismatch

    nli = own(tiny).as_pipeline()
    projected = nli.model.project_states(nli.model.encode(["the dog runs"]))
    nli.route(projected, CATEGORIES)
    _fused_step(nli)
    with pytest.raises(StatesMismatch, match="'heads'"):
        nli.route(projected, CATEGORIES)


def test_texts_are_kept_apart_from_the_model():
    assert KeptTexts().__reduce__() == (KeptTexts, ())
