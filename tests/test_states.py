"""Texts whose states are kept: encoded once, judged often, and refused by any other model."""

import copy

import numpy as np
import pytest
import torch
from conftest import PAIRS, make_model
from hypothesis import given, settings
from hypothesis import strategies as st

from modernbert_nli.heads import AlignmentHead
from modernbert_nli.modeling_modernbert_nli import ModernBertNliForSequenceClassification, ModernBertNliModel
from modernbert_nli.separate import judge_each, judge_texts, prepare, read
from modernbert_nli.states import StateCache, StatesMismatch, TokenStates
from modernbert_nli.tokenization import PairError

PREMISES, HYPOTHESES = (list(side) for side in zip(*PAIRS, strict=True))
CATEGORIES = {
    "food": "This is about food.",
    "animals": "This is about animals.",
    "phones": "This is about phones.",
}


@pytest.fixture(scope="module", params=["tiny_modernbert", "tiny_bert"])
def separate(request):
    """A model that encodes texts alone unless told otherwise."""
    return make_model(request.getfixturevalue(request.param), encoding="separate")


@pytest.fixture
def texts_encoded(separate, monkeypatch):
    """The token ids of every text that the encoder reads from now on."""
    seen, run = [], ModernBertNliModel.encoder_states

    def counted(self, inputs, encoding):
        for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
            seen.append(tuple(ids[mask.bool()].tolist()))
        return run(self, inputs, encoding)

    monkeypatch.setattr(ModernBertNliModel, "encoder_states", counted)
    return seen


@torch.no_grad()
def one_call(model, premises, hypotheses, **kwargs):
    inputs = model.tokenizer(premises, hypotheses, padding=True, return_tensors="pt")
    return model(**inputs, mode="nli", **kwargs)


@torch.no_grad()
def test_kept_states_give_what_one_call_gives(separate):
    """classify(encode(premises), encode(hypotheses)) is the model's own answer, up to rounding."""
    expected = one_call(separate, PREMISES, HYPOTHESES)
    output = separate.classify(separate.encode(PREMISES), separate.encode(HYPOTHESES))
    torch.testing.assert_close(output.logits, expected, atol=1e-4, rtol=0)
    assert output.abstention_logits.shape == (3, 2)
    assert output.uncertainty.shape == (3,)


@torch.no_grad()
def test_batch_size_order_and_company_change_nothing(separate):
    """Alone, in any order and in batches of any size, each pair has its logits."""
    premises, hypotheses = separate.encode(PREMISES), separate.encode(HYPOTHESES)
    together = separate.classify(premises, hypotheses).logits
    for order in ([2, 0, 1], [1], [0, 0, 2]):
        some = separate.classify(premises[order], hypotheses[order], batch_size=2).logits
        torch.testing.assert_close(some, together[order], atol=1e-5, rtol=0)
    rows = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    every = separate.classify(premises, hypotheses, rows, batch_size=4).logits.view(3, 3, 3)
    torch.testing.assert_close(every.diagonal().T, together, atol=1e-5, rtol=0)
    torch.testing.assert_close(separate.classify(premises[1], hypotheses).logits, every[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        separate.classify(premises, hypotheses[2]).logits, every[:, 2], atol=1e-5, rtol=0
    )
    for row, (premise, hypothesis) in enumerate(PAIRS):
        alone = one_call(separate, [premise], [hypothesis])[0]
        torch.testing.assert_close(alone, together[row], atol=1e-4, rtol=0)


def test_alignment_by_hand():
    """Two premise tokens and one hypothesis token, simple enough to be done on paper."""

    class Config:
        hidden_size, alignment_size, comparison_size, nli_hidden_size, head_dropout = 2, 2, 8, 4, 0.0
        encoder_layers = {"separate": [1]}

    head = AlignmentHead(Config())
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [9.0, 9.0]]])
    segments = torch.tensor([[1, 1, 2, 0]])
    aligned = head.align(tokens, segments)
    # Both premise tokens can only align to the hypothesis token. That one weighs them by exp(2/√2) : exp(0).
    weight = np.exp(2 / 2**0.5) / (np.exp(2 / 2**0.5) + 1)
    expected = torch.tensor([[2.0, 0.0], [2.0, 0.0], [weight, 1 - weight]], dtype=torch.float32)
    torch.testing.assert_close(aligned[0, :3], expected)

    with torch.no_grad():  # the comparison passes [x; y; x - y; x * y] on, the aggregation its own input
        passing = torch.nn.Linear(8, 8)
        passing.weight.copy_(torch.eye(8))
        passing.bias.zero_()
        head.comparison = torch.nn.Sequential(passing)
        head.aggregation = torch.nn.Identity()
    pooled = head.compare(tokens, aligned, segments)[0].view(4, 8)
    compared = torch.cat(
        [tokens[0, :3], expected, tokens[0, :3] - expected, tokens[0, :3] * expected], dim=-1
    )
    torch.testing.assert_close(pooled[0], compared[:2].mean(dim=0))
    torch.testing.assert_close(pooled[1], compared[:2].amax(dim=0))
    torch.testing.assert_close(pooled[2], compared[2])
    torch.testing.assert_close(pooled[3], compared[2])


@torch.no_grad()
def test_states_are_saved_and_mapped(separate, tmp_path):
    """A file of states gives the same answers, and a part of it can be taken without the rest."""
    states = separate.encode([*PREMISES, "nobody is outside"])
    states.save(tmp_path / "states.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["states.safetensors"]
    loaded = TokenStates.load(tmp_path / "states.safetensors")
    assert loaded.states.dtype == torch.float16
    assert loaded.states.shape[1:] == (len(separate.config.encoder_layers["separate"]), 64)
    assert len(loaded) == 4
    assert torch.equal(loaded.states, states.states)
    claim = separate.encode("Somebody eats.")
    expected = separate.classify(states, claim).logits
    assert torch.equal(separate.classify(loaded, claim).logits, expected)
    picks = (slice(1, 3), slice(None, None, -1), [3, 1], 2, np.int64(2), np.array([0, 3]))
    for pick in picks:
        part, rows = loaded[pick], np.atleast_1d(np.arange(4)[pick]).tolist()
        torch.testing.assert_close(separate.classify(part, claim).logits, expected[rows], atol=1e-5, rtol=0)
    assert len(loaded[4:]) == 0


@torch.no_grad()
def test_projected_texts_are_saved_too(separate, tmp_path):
    """Fewer bytes, the same answers, in every place that takes states; raw layers stay what they were."""
    raw = separate.encode([*PREMISES, "nobody is outside"])
    separate.project_states(raw, batch_size=3).save(tmp_path / "projected.safetensors")
    projected = TokenStates.load(tmp_path / "projected.safetensors")
    assert projected.states.nbytes + projected.vectors.nbytes < raw.states.nbytes / 2
    assert projected.lengths.tolist() == raw.lengths.tolist()
    claim = separate.encode("Somebody eats.")
    expected = separate.classify(raw, claim)
    for sides in ((projected, claim), (projected, separate.project_states(claim))):
        found = separate.classify(*sides)
        torch.testing.assert_close(found.logits, expected.logits, atol=5e-3, rtol=0)
        torch.testing.assert_close(found.uncertainty, expected.uncertainty, atol=5e-3, rtol=0)
    some = separate.classify(projected[[3, 1]], claim).logits
    torch.testing.assert_close(some, expected.logits[[3, 1]], atol=5e-3, rtol=0)
    nli = separate.as_pipeline()
    for one, other in zip(nli.route(projected, CATEGORIES), nli.route(raw, CATEGORIES), strict=True):
        assert one["uncertainty"] == pytest.approx(other["uncertainty"], abs=5e-3)
    twice = separate.project_states(projected)
    assert torch.equal(twice.states, projected.states)


def test_projected_texts_of_changed_heads_are_refused(separate):
    """Heads that project otherwise would read numbers that mean nothing to them; raw layers fit all heads."""
    raw = separate.encode(PREMISES)
    projected = separate.project_states(raw)
    changed = copy.deepcopy(separate)
    changed.classify(projected, raw)
    with torch.no_grad():
        changed.nli_output.weight.mul_(2)  # reads no states
        changed.classify(projected, raw)
        changed.nli_hidden.projection[0].weight.mul_(2)
    with pytest.raises(StatesMismatch, match="'heads'"):
        changed.classify(projected, raw)
    with pytest.raises(StatesMismatch, match="'heads'"):
        changed.as_pipeline().route(projected, CATEGORIES)
    changed.classify(raw, raw)
    with pytest.raises(ValueError, match=r"call `eval\(\)` first"):
        changed.train().project_states(raw)
    with pytest.raises(ValueError, match="no texts"):
        separate.project_states(separate.encode([]))


def test_states_of_another_model_are_refused(separate, tiny_modernbert, tmp_path):
    """Another base, revision or choice of layers: both are named."""
    states = separate.encode(PREMISES)
    for key, value in (("base", "tester/other"), ("revision", "f" * 40), ("layers", [1])):
        other = TokenStates(states.states, states.offsets, {**states.source, key: value})
        with pytest.raises(StatesMismatch, match="encode the texts again") as caught:
            separate.classify(other, states)
        assert str(value) in str(caught.value)
        assert str(states.source[key]) in str(caught.value)
    with pytest.raises(ValueError, match="These heads know joint encoding, not 'separate'"):
        make_model(tiny_modernbert, "cls").encode(PREMISES)


def test_files_that_hold_no_states_are_refused(separate, tmp_path):
    """Missing, truncated, of another kind."""
    with pytest.raises(FileNotFoundError, match="There is no file"):
        TokenStates.load(tmp_path / "none")
    path = tmp_path / "states.safetensors"
    separate.encode(PREMISES).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(OSError, match="cannot be read, it is truncated"):
        TokenStates.load(path)
    separate.save_pretrained(tmp_path / "checkpoint")
    with pytest.raises(OSError, match="holds no token states"):
        TokenStates.load(tmp_path / "checkpoint" / "model.safetensors")


@pytest.mark.parametrize(("premises", "hypotheses"), [(2, 3), (0, 0), (0, 1)])
def test_sides_that_do_not_match_are_refused(separate, premises, hypotheses):
    """Neither as many of each nor one of either."""
    states = separate.encode(PREMISES)
    with pytest.raises(ValueError, match=f"{premises} premises, {hypotheses} hypotheses"):
        separate.classify(states[:premises], states[:hypotheses])


def test_each_text_is_encoded_once(separate, texts_encoded):
    """Repeated texts of one call cost nothing; the next call reads them again."""
    states = separate.encode([*PREMISES, *PREMISES])
    assert len(states) == 6
    assert len(texts_encoded) == 3
    one_call(separate, [*PREMISES, *PREMISES], [*PREMISES, *HYPOTHESES])
    assert len(texts_encoded) == 3 + 6


@pytest.mark.parametrize(("times", "passes"), [(1, 1), (12, 2)])
def test_one_pair_takes_one_pass(separate, monkeypatch, times, passes):
    """Unless a long premise would have its hypothesis padded to many times its length."""
    sizes, forward = [], separate.encoder.forward
    monkeypatch.setattr(
        separate.encoder,
        "forward",
        lambda **kwargs: sizes.append(len(kwargs["input_ids"])) or forward(**kwargs),
    )
    one_call(separate, ["It rains. " * times], ["It is wet."])
    assert (len(sizes), sum(sizes)) == (passes, 2)


@pytest.mark.parametrize("anywhere", [False, True])
def test_short_texts_are_padded_to_long_ones_only_where_that_costs_nothing(separate, monkeypatch, anywhere):
    """Not on a CPU; where a batch has room, it is as full as it may be."""
    masks, forward = [], separate.encoder.forward
    monkeypatch.setattr(
        separate.encoder,
        "forward",
        lambda **kwargs: masks.append(kwargs["attention_mask"]) or forward(**kwargs),
    )
    if anywhere:
        monkeypatch.setattr("modernbert_nli.separate._most_padding", lambda model: float("inf"))
    premises = [f"{number} rains. " * (9 if number < 3 else 1) for number in range(9)]
    one_call(separate, premises, [f"It is {number}." for number in range(9)])
    assert sum(map(len, masks)) == 18
    assert max(map(len, masks)) <= 9
    assert (max(int((mask == 0).sum()) for mask in masks) > 64) == anywhere
    assert len(masks) == (2 if anywhere else 3)


def test_nothing_is_nothing(separate):
    """Empty lists give empty answers, in every place that takes a list."""
    nli = separate.as_pipeline()
    assert nli([]) == nli.route([], CATEGORIES) == nli.validate_fact([], "a claim") == []
    states = separate.encode([])
    assert len(states) == len(separate.encode(PREMISES)[[]]) == 0
    assert states.states.shape[1:] == separate.encode(PREMISES).states.shape[1:]
    assert nli.validate_fact(states, "a claim") == []


def test_a_pipeline_brings_its_own_tokenizer(separate):
    """A model that was built in memory knows no tokenizer; `route` takes the pipeline's."""
    model = ModernBertNliModel(separate.config, encoder=separate.encoder).eval()
    assert set(model.as_pipeline(separate.tokenizer).route(PREMISES[0], CATEGORIES)["scores"]) == set(
        CATEGORIES
    )


def test_route_encodes_the_text_once_and_each_category_once_for_all_calls(separate, texts_encoded):
    """Three categories for one text are four texts; for the next text they are known."""
    nli = separate.as_pipeline()
    first = nli.route(PREMISES[0], CATEGORIES)
    assert len(texts_encoded) == 1 + 3
    assert list(first["scores"]) == list(CATEGORIES)
    routes = nli.route(PREMISES[1:], CATEGORIES)
    assert len(texts_encoded) == 1 + 3 + 2
    assert len(routes) == 2
    for text, route in zip(PREMISES, [first, *routes], strict=True):
        for name, hypothesis in CATEGORIES.items():
            alone = nli(text, hypothesis)
            assert route["scores"][name]["probs"] == pytest.approx(alone["probs"], abs=1e-4)


def test_one_claim_against_stored_passages_encodes_one_claim(separate, texts_encoded, tmp_path):
    """The passages come from a file; the only text read is the claim."""
    separate.encode([f"{premise} {number}" for premise in PREMISES for number in range(30)]).save(
        tmp_path / "passages"
    )
    del texts_encoded[:]
    facts = separate.as_pipeline().validate_fact(TokenStates.load(tmp_path / "passages"), "Somebody eats.")
    assert len(facts) == 90
    assert len(texts_encoded) == 1
    assert {"supported", "contradicted", "uncertain", "confidence", "evidence"} <= set(facts[0])


def test_the_zero_shot_pipeline_encodes_each_text_once(separate, texts_encoded):
    """transformers' own pipeline judges batches of pairs; each text of one reaches the encoder once."""
    from transformers import pipeline

    model = ModernBertNliForSequenceClassification(separate.config, encoder=separate.encoder).eval()
    zero_shot = pipeline("zero-shot-classification", model=model, tokenizer=separate.tokenizer)
    results = zero_shot(PREMISES, list(CATEGORIES), hypothesis_template="This is about {}.", batch_size=9)
    assert [len(result["labels"]) for result in results] == [3, 3, 3]
    assert len(texts_encoded) == 3 + 3
    assert len(set(texts_encoded)) == 6


def test_joint_pairs_and_kept_states_in_one_pipeline(tiny_modernbert):
    """A checkpoint that encodes jointly by default still judges kept states, separately."""
    model = make_model(tiny_modernbert, encoding="joint")
    nli = model.as_pipeline()
    facts = nli.validate_fact(model.encode(PREMISES), "Somebody eats.")
    assert len(facts) == 3
    route = nli.route(PREMISES[0], CATEGORIES)
    assert route["scores"]["food"] == nli([(PREMISES[0], text) for text in CATEGORIES.values()])[0]


def test_the_encoding_is_chosen_for_a_pipeline_or_for_a_call(separate):
    """Both give the model's logits of that encoding; one the heads do not know is refused."""
    inputs = separate.tokenizer(*PAIRS[0], return_tensors="pt")
    for encoding in ("joint", "separate"):
        with torch.no_grad():
            probs = separate(**inputs, mode="nli", encoding=encoding).softmax(dim=-1)[0].tolist()
        for answer in (
            separate.as_pipeline()(*PAIRS[0], encoding=encoding),
            separate.as_pipeline(encoding=encoding)(*PAIRS[0]),
            separate.as_pipeline(encoding=encoding).route(PAIRS[0][0], {"it": PAIRS[0][1]})["scores"]["it"],
        ):
            assert list(answer["probs"].values()) == pytest.approx(probs, abs=1e-6)
    with pytest.raises(ValueError, match="not 'both'"):
        separate.as_pipeline()(*PAIRS[0], encoding="both")
    with pytest.raises(ValueError, match=r"Give a text, texts, a mapping of names to texts, .* not NoneType"):
        separate.as_pipeline().validate_fact(None, "a claim")


words = st.sampled_from(["a man", "sleeps", "[SEP]", "[CLS]", "[MASK]", "[PAD]", "park", "ü", "\n"])


@settings(max_examples=30, deadline=None)
@given(*2 * (st.lists(words, min_size=1, max_size=12).map(" ".join),))
def test_special_tokens_in_a_text_stay_text(separate, premise, hypothesis):
    """The sides of a pair are the texts' own tokens, whatever was typed."""
    if premise.isspace() or hypothesis.isspace():
        return
    expected = one_call(separate, [premise], [hypothesis])
    output = separate.classify(separate.encode(premise), separate.encode(hypothesis))
    torch.testing.assert_close(output.logits, expected, atol=1e-4, rtol=0)


def test_a_text_beyond_the_window(separate, tiny_bert):
    """A premise loses its end, each side has the window to itself, and a hypothesis is refused."""
    window = separate.config.max_position_embeddings
    long = "dog " * 2 * window
    assert separate.encode(long).lengths.tolist() == [window]
    with pytest.raises(PairError, match=f"the encoder reads {window} at once"):
        separate.encode(["short", long], cut=False)
    nli = separate.as_pipeline()
    assert nli(long, "dog " * (window // 2))["label"] in separate.config.label2id
    with pytest.raises(PairError, match="Pair 1: the hypothesis has"):
        nli([("short", "short"), ("short", long)])


def test_the_cache_forgets_the_oldest(separate):
    """It holds a number of bytes, and gives the latest texts priority."""
    cache = StateCache(max_bytes=40)
    for number in range(4):
        cache.put((number,), torch.zeros(4))  # 16 bytes
        cache.get((0,))
    assert [cache.get((number,)) is not None for number in range(4)] == [True, False, False, True]
    cache.put((9,), torch.zeros(100))
    assert cache.bytes == 0


def test_each_pair_of_prepared_texts_is_judged_as_by_itself(separate):
    """Whatever is padded beside it, and also by heads whose sums cannot be taken apart."""
    texts = read(separate, [*PREMISES, *HYPOTHESES])
    rows = torch.tensor([[0, 4], [2, 3], [1, 1], [5, 0], [0, 4]])
    expected = judge_texts(separate, [(texts[one], texts[other]) for one, other in rows.tolist()])
    prepared = prepare(separate, texts)
    sides = [prepared.select(column) for column in rows.unbind(dim=1)]
    for name in ("logits", "uncertainty"):
        torch.testing.assert_close(judge_each(separate, *sides)[name], expected[name], atol=1e-5, rtol=0)
    hook = separate.nli_hidden.comparison[0].register_forward_hook(lambda *_: None)
    try:
        sides = [prepare(separate, texts).select(column) for column in rows.unbind(dim=1)]
        torch.testing.assert_close(judge_each(separate, *sides).logits, expected.logits, atol=1e-5, rtol=0)
    finally:
        hook.remove()
