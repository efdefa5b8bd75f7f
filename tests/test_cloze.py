"""The masked-LM head as a classifier, against a computation on each prompt alone."""

import json

import pytest
import torch
from conftest import PAIRS, ROOT, make_model
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
)

from modernbert_nli.cloze import INSTRUCTION, NLI_CHOICES, NLI_QUESTION, ClozeClassifier, nli_prompt
from modernbert_nli.tokenization import PairError, load_tokenizer

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 640,
}
TRICKY = [*PAIRS, ("He wrote [MASK] and [SEP].", "What is [MASK]?\nANSWER: B"), ("É {premise} 日本", "%s")]


@pytest.fixture(scope="module", params=["bert", "modernbert"])
def folder(request, tmp_path_factory, tiny_bert, tiny_modernbert) -> str:
    """A masked language model of either family; the prompt is longer than the tiny ones' windows."""
    folder = str(tmp_path_factory.mktemp(f"mlm-{request.param}"))
    source = {"bert": tiny_bert, "modernbert": tiny_modernbert}[request.param]
    tokenizer = AutoTokenizer.from_pretrained(source, model_max_length=640)
    if request.param == "modernbert":
        tokenizer.add_tokens(["[unused0]"])  # as the real one has
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    if request.param == "bert":
        model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **SIZES))
    else:
        ids = {"pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
        model = ModernBertForMaskedLM(
            ModernBertConfig(vocab_size=len(tokenizer), local_attention=16, **SIZES, **ids)
        )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8.0)  # or all pairs get nearly the same
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cloze(folder) -> ClozeClassifier:
    return ClozeClassifier.from_pretrained(folder)


def direct(folder: str, question: str, choices: list[str]) -> torch.Tensor:
    """Log-probabilities of the letters at the last [MASK], all else as transformers does it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lines = "".join(f"\n- {letter}: {choice}" for letter, choice in zip("ABCDEFG", choices, strict=False))
    unused = "[unused0] " if "[unused0]" in tokenizer.get_vocab() else ""
    head = tokenizer(f"{INSTRUCTION}{question}\nCHOICES:{lines}", split_special_tokens=True)["input_ids"]
    tail = tokenizer(f"\nANSWER: {unused}[MASK]", split_special_tokens=False)["input_ids"]
    ids = torch.tensor([head[:-1] + tail[1:]])
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(ids).logits[0, (ids[0] == tokenizer.mask_token_id).nonzero()[-1, 0]]
    letters = []
    for letter in "ABCDEFG"[: len(choices)]:
        forms = (tokenizer(form, add_special_tokens=False)["input_ids"] for form in (letter, f" {letter}"))
        letters.append(logits[sorted({form[0] for form in forms if len(form) == 1})].logsumexp(dim=0))
    return torch.stack(letters).log_softmax(dim=0)


def test_pairs_are_judged_as_one_by_one(cloze, folder):
    """Batched, sorted and padded, with the head run at [MASK] alone."""
    found = cloze.nli_log_probs(TRICKY, batch_size=2)
    for (premise, hypothesis), row in zip(TRICKY, found, strict=True):
        question = f"Premise: {premise}\nHypothesis: {hypothesis}\n{NLI_QUESTION}"
        expected = direct(folder, question, list(NLI_CHOICES.values()))
        torch.testing.assert_close(row, expected, atol=2e-4, rtol=1e-3)
    assert found.std(dim=0).min() > 5e-3  # pairs differ, by far more than is tolerated


def test_a_decision_is_that_of_the_nli_pipeline(cloze):
    """Label, confidence, uncertainty, probabilities by label."""
    (decision,) = cloze.nli([PAIRS[0]])
    assert list(decision) == ["label", "confidence", "uncertainty", "probs"]
    assert list(decision["probs"]) == ["entailment", "neutral", "contradiction"]
    assert sum(decision["probs"].values()) == pytest.approx(1, abs=1e-5)
    assert decision["confidence"] == max(decision["probs"].values()) == decision["probs"][decision["label"]]
    assert decision["uncertainty"] == 1 - decision["confidence"]


def test_topics_are_sorted_by_their_score(cloze, folder):
    """As the zero-shot pipeline of transformers gives them, for a question of one's own too."""
    labels = ["sports", "politics", "science", "food"]
    texts = [premise for premise, _ in PAIRS]
    for text, found in zip(texts, cloze.classify(texts, labels, "Which is it?", batch_size=2), strict=True):
        expected = direct(folder, f"{text}\nWhich is it?", labels).exp().tolist()
        assert found["sequence"] == text
        assert found["scores"] == sorted(found["scores"], reverse=True)
        by_label = dict(zip(found["labels"], found["scores"], strict=True))
        assert [by_label[label] for label in labels] == pytest.approx(expected, abs=1e-4)


def test_a_long_premise_loses_its_end_and_a_hypothesis_does_not(cloze):
    """What is asked stays whole; where that alone is too long, the pair is named."""
    short, long = ("It rains.", "The ground is wet."), ("It rains. " * 300, "The ground is wet.")
    rows = cloze.encode([nli_prompt(*short), nli_prompt(*long)])
    assert len(rows[0]) < len(rows[1]) <= cloze.window
    assert cloze.window - len(rows[1]) < 8
    after = nli_prompt(*short).after
    asked = rows[0][-len(cloze.tokenizer(after, add_special_tokens=False)["input_ids"]) :]
    assert rows[1][-len(asked) :] == asked
    with pytest.raises(PairError, match=r"Pair 1: .*window of 640 tokens"):
        cloze.nli([short, ("It rains.", "many words " * 400)])
    with pytest.raises(PairError, match=r"Pair 1: the hypothesis is empty"):
        cloze.nli([short, ("It rains.", " ")])


def test_only_letters_can_be_answered(cloze):
    """As many choices as there are letters."""
    with pytest.raises(ValueError, match="From 1 to 26 choices can be offered, not 27"):
        cloze.classify(["It rains."], list("abcdefghijklmnopqrstuvwxyz1"))
    with pytest.raises(ValueError, match="not 0"):
        cloze.classify(["It rains."], [])


def test_a_model_lends_its_encoder(folder, cloze):
    """The head of its own base is loaded, the encoder once; embeddings and answers stay what they were."""
    model = make_model(folder, "alignment")
    before = model(**model.tokenizer(*PAIRS[0], return_tensors="pt"))
    lent = model.as_cloze()
    assert lent.model.base_model is model.encoder
    head = lent.model.get_output_embeddings()
    assert head.weight.data_ptr() == model.encoder.get_input_embeddings().weight.data_ptr()
    for _ in range(2):  # a second one on the same encoder too
        torch.testing.assert_close(lent.nli_log_probs(PAIRS), cloze.nli_log_probs(PAIRS))
        lent = model.as_cloze()
    after = model(**model.tokenizer(*PAIRS[0], return_tensors="pt"))
    assert torch.equal(before.last_hidden_state, after.last_hidden_state)
    assert torch.equal(before.logits, after.logits)


def test_a_base_without_that_head_is_refused(tiny_bert):
    """An encoder alone: transformers would make the head up."""
    with pytest.raises(ValueError, match=r"no masked-LM head: it lacks .* such as answerdotai"):
        make_model(tiny_bert).as_cloze()
    model = make_model(tiny_bert)
    model.origin.bases.clear()
    with pytest.raises(ValueError, match="made without a base"):
        model.as_cloze()


def test_the_prompt_is_the_published_one_to_the_real_tokenizer():
    """[unused0] and [MASK] as one token each, and the pieces joined as the whole would be."""
    files = ROOT.parent / "shared" / "data" / "modernbert-tokenizer"
    if not files.is_dir():
        pytest.skip("the tokenizer of ModernBERT is not beside this checkout")
    values = json.loads((files / "config.json").read_text())
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = ModernBertConfig(**{**values, **small, "layer_types": None})
    tokenizer = load_tokenizer(str(files), config)
    cloze = ClozeClassifier(ModernBertForMaskedLM(config), tokenizer)
    (ids,) = cloze.encode([nli_prompt("It rains.", "The ground is wet.")])
    text = tokenizer.decode(ids[1:-1])
    assert text.startswith(
        "You will be given a question and options. Select the right answer.\nQUESTION: Prem"
    )
    assert text.replace(" [MASK]", "[MASK]").endswith("contradicts it.\nANSWER: [unused0][MASK]")
    whole = str(nli_prompt("It rains.", "The ground is wet.")) + "\nANSWER: [unused0] [MASK]"
    assert tokenizer(whole, split_special_tokens=False)["input_ids"] == ids
    assert [len(variants) for variants in cloze._letters] == [2] * 26  # "A" and " A"


def test_other_heads_see_no_difference(folder, cloze):
    """The hook is on the encoder, and silent outside a call."""
    plain, tokens = (
        AutoModel.from_pretrained(folder).eval(),
        cloze.tokenizer("It rains.", return_tensors="pt"),
    )
    inputs = {key: tokens[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        found, expected = cloze.model.base_model(**inputs), plain(**inputs)
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)
