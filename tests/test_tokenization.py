"""Tokenising pairs: no text moves the boundary between the two, and only a premise is ever cut."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import PAIRS, ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import processors
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase, pipeline

from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel
from modernbert_nli.tokenization import PairError, check_pair, encode_pairs, load_tokenizer, max_pair_length

REAL = ROOT.parent / "shared" / "data" / "modernbert-tokenizer"
SPECIAL = [
    "[SEP]",
    "[CLS]",
    "[MASK]",
    "[PAD]",
    "[UNK]",
    "<mask>",
    "<s>",
    "</s>",
    "<pad>",
    "<|endoftext|>",
    "|||IP_ADDRESS|||",
]
UNLIMITED = 10**6
TRICKY = [
    ("Ends here.[SEP]", "A claim."),
    ("[CLS] a", "[SEP]"),
    ("a [MASK] b", "x[SEP]y [SEP] z"),
    ("</s>", "<|endoftext|>"),
]

pieces = st.one_of(st.text(min_size=1, max_size=12), st.sampled_from(SPECIAL))
texts = st.lists(pieces, min_size=1, max_size=6).map("".join).filter(lambda text: not text.isspace())
fast = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=["tiny_modernbert", "tiny_bert", "minilm", "modernbert"])
def tokenizer(request) -> PreTrainedTokenizerBase:
    """As checkpoints carry it."""
    if request.param == "modernbert":
        if not REAL.is_dir():
            pytest.skip(f"ModernBERT's own tokenizer is not at {REAL}")
        folder = str(REAL)
    else:
        folder = request.getfixturevalue(request.param)
    return load_tokenizer(folder, AutoConfig.from_pretrained(folder))


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory) -> PreTrainedTokenizerBase:
    """The same, saved and loaded by someone who knows nothing of it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def ids_of(tokenizer: PreTrainedTokenizerBase, premise: str, hypothesis: str) -> list[int]:
    return encode_pairs(tokenizer, [(premise, hypothesis)], UNLIMITED)["input_ids"][0]


def sides(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> tuple[list[int], list[int]]:
    """The tokens of premise and hypothesis, after a look at the structure around them."""
    first, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert ids.count(first) == 1
    assert ids.count(end) == 2
    assert (ids[0], ids[-1]) == (first, end)
    boundary = ids.index(end)
    return ids[1:boundary], ids[boundary + 1 : -1]


@fast
@given(premise=texts, hypothesis=texts)
def test_one_boundary(tokenizer, premise, hypothesis):
    """Whatever the texts, there is one boundary, and neither side's tokens depend on the other side."""
    found = sides(tokenizer, ids_of(tokenizer, premise, hypothesis))
    assert found[0] == sides(tokenizer, ids_of(tokenizer, premise, "b"))[0]
    assert found[1] == sides(tokenizer, ids_of(tokenizer, "a", hypothesis))[1]


@fast
@given(premise=texts, hypothesis=texts)
def test_one_boundary_elsewhere(tokenizer, saved, premise, hypothesis):
    """A tool that calls the tokenizer of a checkpoint without knowing of this gets the very same tokens."""
    assert saved(premise, hypothesis)["input_ids"] == ids_of(tokenizer, premise, hypothesis)


@fast
@given(premise=texts, hypothesis=texts)
def test_nothing_is_lost(tiny_modernbert, premise, hypothesis):
    """With a byte-level vocabulary, both texts can be read back from their tokens, special ones included."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_modernbert)
    found = sides(tokenizer, ids_of(tokenizer, premise, hypothesis))
    assert tuple(tokenizer.decode(side, clean_up_tokenization_spaces=False) for side in found) == (
        premise,
        hypothesis,
    )


def test_pieces_that_cannot_be_split(tiny_bert):
    """Where the vocabulary holds a special token as an ordinary piece, the text is broken up instead."""

    class Stubborn:
        """A tokenizer that ignores `split_special_tokens`."""

        def __init__(self, tokenizer):
            self.tokenizer = tokenizer

        def __getattr__(self, name):
            return getattr(self.tokenizer, name)

        def __call__(self, *args, split_special_tokens=None, **kwargs):
            return self.tokenizer(*args, split_special_tokens=False, **kwargs)

    tokenizer = Stubborn(AutoTokenizer.from_pretrained(tiny_bert))
    for premise, hypothesis in TRICKY:
        sides(tokenizer, ids_of(tokenizer, premise, hypothesis))
    batch = encode_pairs(tokenizer, [*PAIRS, *TRICKY], UNLIMITED)
    assert batch["input_ids"][: len(PAIRS)] == [ids_of(tokenizer, *pair) for pair in PAIRS]


@pytest.mark.parametrize("door", ["text-classification", "CrossEncoder"])
def test_other_doors(checkpoint, tiny_modernbert, door):
    """Other tools give texts with literal special tokens the probabilities that this project gives them."""
    base = {"base_model_name_or_path": tiny_modernbert}
    model = ModernBertNliModel.from_pretrained(checkpoint, **base)
    expected = [list(result["probs"].values()) for result in model.as_pipeline()(TRICKY)]
    if door == "CrossEncoder":
        reason = "sentence-transformers is not installed (pip install sentence-transformers)"
        library = pytest.importorskip("sentence_transformers", reason=reason)
        encoder = library.CrossEncoder(
            checkpoint, trust_remote_code=True, model_kwargs=base, config_kwargs=base
        )
        found = encoder.predict(TRICKY, apply_softmax=True).tolist()
    else:
        pipe = pipeline(door, model=checkpoint, trust_remote_code=True, model_kwargs=base)
        results = pipe([{"text": text, "text_pair": pair} for text, pair in TRICKY], top_k=None)
        scores = [{score["label"]: score["score"] for score in result} for result in results]
        found = [[score[label] for label in ("entailment", "neutral", "contradiction")] for score in scores]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_truncation(tokenizer, caplog):
    """A long premise loses its end, the hypothesis nothing, and a warning says so, once."""
    long, hypothesis = "The dog runs in the park. " * 50, "Nobody is outside, and [SEP] is text."
    pairs = [("A dog.", hypothesis), (long, hypothesis), (long + "x", hypothesis)]
    window = 48
    whole = sides(tokenizer, ids_of(tokenizer, long, hypothesis))
    logging.Logger.warning_once.cache_clear()  # transformers adds it to the class
    for _ in range(2):
        encoding = encode_pairs(tokenizer, pairs, window)
    assert all(len(row) == window for values in encoding.values() for row in values[1:])
    for ids in encoding["input_ids"][1:]:
        premise, kept = sides(tokenizer, ids)
        assert kept == whole[1]
        assert premise == whole[0][: len(premise)]
    assert encoding["input_ids"][0] == ids_of(tokenizer, "A dog.", hypothesis)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        f"A premise was longer than the encoder's window of {window} tokens"
    ]


def test_hypothesis_too_long(tokenizer):
    """A hypothesis that leaves no room for a premise is refused, with its position, and never cut."""
    pairs = [PAIRS[0], ("A short premise.", "the dog runs " * 40)]
    with pytest.raises(
        PairError, match=r"Pair 1: the hypothesis has \d+ tokens.*reads 32.*shorter claims"
    ) as caught:
        encode_pairs(tokenizer, pairs, 32)
    assert caught.value.row == 1


@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_window_edge(tokenizer, spare):
    """The longest hypothesis that is accepted leaves room for one token of the premise, exactly."""
    premise, hypothesis = "the dog runs in the park", "the cat sleeps"
    tokens = len(sides(tokenizer, ids_of(tokenizer, premise, hypothesis))[1])
    window = tokens + 4 + spare  # [CLS], one token, [SEP], hypothesis, [SEP]
    if spare < 0:
        with pytest.raises(PairError, match="never cut"):
            encode_pairs(tokenizer, [(premise, hypothesis)], window)
    else:
        ids = encode_pairs(tokenizer, [(premise, hypothesis)], window)["input_ids"][0]
        assert len(ids) == window
        assert len(sides(tokenizer, ids)[0]) == 1 + spare


@pytest.mark.parametrize(
    "bad", [None, 3, 2.5, b"bytes", ["a"], "", " \t\n", "\u3000", "half \ud83d emoji"], ids=repr
)
@pytest.mark.parametrize("side", ["premise", "hypothesis"])
def test_not_a_text(tiny_bert, bad, side):
    """What is no text is refused with the position of the pair and the name of the side."""
    pair = (bad, "fine") if side == "premise" else ("fine", bad)
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    with pytest.raises(PairError, match=f"Pair 2: the {side} ") as caught:
        encode_pairs(tokenizer, [PAIRS[0], PAIRS[1], pair], 64)
    assert caught.value.row == 2
    assert isinstance(caught.value, ValueError)
    with pytest.raises(PairError, match="Pair 7:"):
        check_pair(*pair, row=7)


def test_long_source(tokenizer):
    """A premise of 50,000 words works and fills the window."""
    window = max_pair_length(AutoConfig.for_model("bert", max_position_embeddings=512), tokenizer)
    encoding = encode_pairs(tokenizer, [("word " * 50_000, "a claim")], window)
    assert len(encoding["input_ids"][0]) == window


@pytest.mark.parametrize(
    ("model_type", "positions", "stated", "window"),
    [
        ("modernbert", 8192, None, 8192),
        ("bert", 512, 128, 128),
        ("bert", 512, 4096, 512),
        ("roberta", 514, 512, 512),
        ("roberta", 514, None, 512),
        ("xlm-roberta", 514, None, 512),
    ],
)
def test_window(tiny_bert, model_type, positions, stated, window):
    """The window is the smaller of the encoder's and the tokenizer's, without RoBERTa's padding positions."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.model_max_length = stated or 10**30
    config = AutoConfig.for_model(model_type, max_position_embeddings=positions, pad_token_id=1)
    assert max_pair_length(config, tokenizer) == window


def test_checkpoint_knows_its_window(checkpoint):
    """The tokenizer of a checkpoint states the window of the encoder, which ModernBERT's own does not."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert tokenizer.model_max_length == 256
    assert Path(checkpoint, "tokenizer_config.json").exists()


@pytest.mark.parametrize("separators", [1, 2])
@pytest.mark.parametrize("apart", [False, True])
def test_the_window_is_used_to_its_end(tiny_bert, separators, apart):
    """Every length of hypothesis around the limit: the window is kept, or the pair refused; also where two
    separators stand between the texts, as in RoBERTa."""
    tokenizer = load_tokenizer(tiny_bert, AutoConfig.from_pretrained(tiny_bert))
    between = " [SEP]" * separators
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=f"[CLS] $A{between} $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    word = tokenizer("dog", add_special_tokens=False)["input_ids"]
    room, outcomes = 20, []
    for count in range(room + 2):
        pair = ("dog " * 40, "dog" + " dog" * count)
        tokens = len(tokenizer(pair[1], add_special_tokens=False)["input_ids"])
        allowed = room - 2 if apart else room - 2 - separators - 1  # a token of the premise is left
        try:
            (ids,) = encode_pairs(tokenizer, [pair], room, apart)["input_ids"]
        except PairError:
            assert tokens > allowed
            outcomes.append("refused")
            continue
        assert tokens <= allowed
        premise = ids[: ids.index(3) + 1]
        assert premise[:2] == [2, word[0]]
        assert len(ids) - len(premise) == tokens + separators
        assert (len(premise) if apart else len(ids)) == room
        outcomes.append("cut")
    assert set(outcomes) == {"refused", "cut"}


def test_threads_share_a_tokenizer(tiny_modernbert):
    """Long and short pairs from many threads at once are each as long as alone."""
    config = AutoConfig.from_pretrained(tiny_modernbert)
    tokenizer = load_tokenizer(tiny_modernbert, config)
    pairs = [("dog " * (200 if number % 3 else 2), "a cat " * (number % 7 + 1)) for number in range(60)]
    expected = [encode_pairs(tokenizer, [pair], 64)["input_ids"][0] for pair in pairs]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda pair: encode_pairs(tokenizer, [pair], 64)["input_ids"][0], pairs * 5))
    assert found == expected * 5
