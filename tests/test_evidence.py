"""An answer against whole sources: all of them is read, the best passage wins, and its place is right."""

import json

import pytest
import torch
from conftest import make_model
from hypothesis import given, settings
from hypothesis import strategies as st

import modernbert_nli.passages
from modernbert_nli import documents
from modernbert_nli.documents import CONFLICT, RULES
from modernbert_nli.embedded import CHECKPOINT
from modernbert_nli.passages import Block, Reader, Sentence
from modernbert_nli.published_heads import load_modernbert_nli
from modernbert_nli.tokenization import PairError

SOURCE = "The cat sleeps. Two people are talking on the phone. The dog runs in the park. Nobody is outside."
FACT = "The lighthouse of Arven was painted green in 1911."
FILLER = (
    "The committee met in the afternoon and spoke about the budget. Rain fell on the harbour for an hour. "
)


@pytest.fixture(scope="module")
def tiny(tiny_modernbert):
    return make_model(tiny_modernbert, "separate").as_pipeline()


@pytest.fixture(scope="module")
def quick(minilm):
    model, _ = load_modernbert_nli(str(CHECKPOINT), base=minilm)
    return model.as_pipeline(device="cpu")


@pytest.fixture
def encoded(tiny, monkeypatch):
    """The rows of tokens that reach the encoder."""
    seen = []
    run = tiny.model.encoder_states
    monkeypatch.setattr(
        tiny.model, "encoder_states", lambda *args: seen.extend(args[0]["input_ids"].tolist()) or run(*args)
    )
    tiny.texts.clear()
    return seen


def test_evidence_is_where_it_says(tiny):
    """Of every kind of source: places hold the text, and names are the caller's. All is JSON."""
    answer = "The cat sleeps. A dog runs!"
    sources = {"one": SOURCE, "two": "It rains.\n\nIt pours."}
    for given_sources, names in (
        (sources, sources),
        (list(sources.values()), {0: SOURCE, 1: sources["two"]}),
        (iter(sources.values()), {0: SOURCE, 1: sources["two"]}),
        (SOURCE, {0: SOURCE}),
        (tiny.read(sources), sources),
    ):
        result = tiny.check(answer, given_sources)
        assert json.loads(json.dumps(result)) == result
        assert [answer[one["start"] : one["end"]] for one in result["sentences"]] == [
            "The cat sleeps.",
            "A dog runs!",
        ]
        for part in (result, *result["sentences"]):
            assert part["verdict"] in ("supported", "contradicted", "not supported", "uncertain")
            assert 0 <= part["confidence"] <= 1
            assert part["abstain"] == (part["verdict"] == "uncertain")
            assert part["evidence"]
            for place in part["evidence"]:
                assert names[place["source"]][place["start"] : place["end"]] == place["text"]
                assert sum(place["probs"].values()) == pytest.approx(1, abs=1e-4)
        for sentence in result["sentences"]:
            for span in sentence["unsupported"]:
                assert answer[span["start"] : span["end"]] == span["text"]
        assert result["read"] == 1.0
        assert [one["source"] for one in result["sources"]] == list(names)


def test_support_is_the_best_passage_less_what_contradicts_it(tiny):
    """Of the passages judged one by one; nothing is taken from what nothing contradicts."""
    claim = "Somebody eats."
    sentences = ["The cat sleeps.", "Two people talk.", "The dog runs.", "Nobody is outside."]
    alone = [tiny(sentence, claim, threshold=1.0)["probs"]["entailment"] for sentence in sentences]
    model, rules = tiny.model, {"sizes": [1, 3], "against": {"support": 0.0, "contradiction": 0.0}}
    model.config.evidence = rules
    try:
        free = tiny.check(claim, " ".join(sentences), threshold=1.0)
        rules["against"]["support"] = 1.0
        opposed = tiny.check(claim, " ".join(sentences), threshold=1.0)
    finally:
        model.config.evidence = None
    assert free["support"] >= max(alone) - 1e-3
    assert opposed["support"] < free["support"]


@pytest.mark.parametrize("count", [10, 60])
def test_few_passages_meet_the_heads(tiny, monkeypatch, count):
    """However many there are: as many of each size as the rules say, for each claim."""
    met = []
    judge_each = documents.judge_each

    def watch(model, premises, hypotheses):
        met.append(len(premises.vectors))
        return judge_each(model, premises, hypotheses)

    monkeypatch.setattr(documents, "judge_each", watch)
    text = " ".join(f"The cat number {number} sleeps on the mat {number + 7}." for number in range(count))
    answer = "The cat number 3 sleeps. Somebody eats. A dog runs in the park."
    tiny.check(answer, text)
    limits = RULES["candidates"]
    assert sum(met) == 3 * (min(count, limits[0]) + min(count - 2, limits[1]))


def test_heads_that_read_both_texts_together_judge_few_too(tiny_modernbert, monkeypatch):
    """Chosen by the words that passage and claim share."""
    nli = make_model(tiny_modernbert, "cls").as_pipeline()
    pairs = []
    judge = type(nli).__call__
    monkeypatch.setattr(
        type(nli),
        "__call__",
        lambda self, inputs, *rest, **more: pairs.extend(inputs) or judge(self, inputs, *rest, **more),
    )
    text = " ".join(f"The cat number {number} sleeps." for number in range(30)) + " A horse eats grass."
    nli.check("A horse eats hay.", text)
    assert len(pairs) == sum(RULES["candidates"])
    assert ("A horse eats grass.", "A horse eats hay.") in pairs


def test_every_sentence_is_encoded_once(tiny, encoded):
    """However large the passages, and whichever answers follow."""
    sources = tiny.read(SOURCE)
    tiny.check("Somebody eats. A dog runs.", sources)
    tiny.check("It rains.", sources)
    assert len(encoded) == 4 + 2 + 1


def test_passages_overlap_and_lie_in_one_source():
    """Of one and of three sentences, across blocks, and of fewer where there are no more."""
    block = Block(
        [Sentence(0, (n, n + 1)) for n in range(4)] + [Sentence(1, (0, 1)), Sentence(1, (1, 2))], None
    )
    assert block.passages([1, 3]) == [(0, 1), (1, 2), (2, 3), (3, 4), (0, 3), (1, 4), (4, 5), (5, 6), (4, 6)]
    later = Block([Sentence(0, (n, n + 1)) for n in range(2, 6)], None, carried=2)
    assert later.passages([1, 3]) == [(2, 3), (3, 4), (0, 3), (1, 4)]


@pytest.mark.parametrize("size", [1, 40, 1000])
def test_blocks_change_nothing(tiny, monkeypatch, size):
    """A source read in many blocks has the verdict that it has when read at once."""
    claim, text = "Somebody eats.", SOURCE * 3
    expected = tiny.check(claim, text)
    monkeypatch.setattr(modernbert_nli.passages, "BLOCK", size)
    found = tiny.check(claim, text)
    assert found["verdict"] == expected["verdict"]
    assert found["support"] == pytest.approx(expected["support"], abs=1e-3)
    assert found["evidence"][0]["text"] == expected["evidence"][0]["text"]
    sizes = [1, 3]
    passages = [
        (block.sentences[a].span[0], block.sentences[b - 1].span[1])
        for block in Reader(tiny.model, sizes).blocks([("it", text)])
        for a, b in block.passages(sizes)
    ]
    assert len(passages) == len(set(passages)) == 12 + 10


@pytest.mark.parametrize("claim", [FACT, "The lighthouse of Arven was painted red in 1911."])
def test_a_fact_is_found_in_any_length_of_other_text(quick, claim):
    """At the end of 200 to 200,000 characters: the same verdict, and the fact is the evidence."""
    results = []
    for length in (200, 2_000, 20_000, 200_000):
        filler = (FILLER * (length // len(FILLER) + 1))[:length]
        results.append(quick.check(claim, f"{filler.rpartition('. ')[0]}. {FACT}"))
    assert len({result["verdict"] for result in results}) == 1
    for result in results:
        assert FACT in result["evidence"][0]["text"]
        assert result["read"] == 1.0


def test_more_that_is_beside_the_point_changes_nothing(quick):
    """Neither before nor after, nor in another source."""
    source = f"{FACT} It stands on a rock."
    expected = quick.check(FACT, source)
    assert expected["verdict"] == "supported"
    for more in (FILLER * 3 + source, source + " " + FILLER * 3, [FILLER, source, FILLER]):
        assert quick.check(FACT, more)["verdict"] == "supported"


def test_memory_is_flat(tiny, monkeypatch):
    """Of twelve sources no more is held at a time than of one: a block's states, the texts in it."""
    monkeypatch.setattr(modernbert_nli.passages, "BLOCK", 500)
    held = []
    original = Reader._block

    def watch(self, *args):
        block = original(self, *args)
        held.append((block.states.states.nbytes, len(self.texts)))
        return block

    monkeypatch.setattr(Reader, "_block", watch)
    bests = []
    for times in (1, 12):
        del held[:]
        sources = (f"{SOURCE * 4} {number}" for number in range(times))
        bests.append(tiny.check("Somebody eats.", sources)["support"])
        assert len(held) > times / 2  # blocks, each let go before the next one
        assert max(nbytes for nbytes, _ in held) < 2 * 500 * 3 * 64 * 2 * 3
        assert max(texts for _, texts in held) <= 3
    assert bests[1] >= bests[0] - 1e-3


def test_ten_megabytes_are_read_in_small_blocks(tiny):
    """From a generator too, which is asked for the next source only when it is needed."""
    sentence = "It rained on the harbour and " * 6 + "it rained. "
    text = sentence * (10 * 2**20 // len(sentence) + 1)
    asked = []

    def sources():
        for name in ("one", "two"):
            asked.append(name)
            yield name, text

    reader = Reader(tiny.model, [1, 3], encode=False)
    blocks = reader.blocks(sources())
    characters = end = 0
    for block in blocks:
        new = block.sentences[block.carried :]
        assert sum(one.span[1] - one.span[0] for one in new) <= modernbert_nli.passages.BLOCK
        first = [one.span for one in new if one.source == 0]
        for start, stop in first:
            assert start >= end
            characters, end = characters + stop - start, stop
        if len(first) < len(new):
            break
        assert asked == ["one"]
    assert asked == ["one", "two"]
    assert end == len(text.rstrip())
    assert characters == pytest.approx(len(text), rel=0.02)  # all but the spaces between sentences
    assert [one.read for one in reader.reads] == [1.0, 1.0]


def test_what_the_caller_leaves_out_is_told(tiny):
    """`read` says which share was read, of each source and of all."""
    result = tiny.check(
        "Somebody eats.", {"long": SOURCE, "short": "It rains."}, max_characters=len(SOURCE) // 2
    )
    shares = {one["source"]: one["read"] for one in result["sources"]}
    assert shares["long"] == pytest.approx(0.5, abs=0.01)
    assert shares["short"] == 1.0
    assert 0.5 < result["read"] < 1
    with pytest.raises(ValueError, match="at least 1"):
        tiny.check("Somebody eats.", SOURCE, max_characters=0)


def test_kept_states_of_whole_texts(tiny, encoded):
    """With their texts, sentences are found in them and not encoded again; without, each is one passage."""
    states = tiny.model.encode([SOURCE, "It rains."])
    del encoded[:]
    result = tiny.check("The cat sleeps.", states, texts=[SOURCE, "It rains."])
    assert len(encoded) == 1
    place = result["evidence"][0]
    assert [SOURCE, "It rains."][place["source"]][place["start"] : place["end"]] == place["text"]
    assert result["read"] == 1.0
    blind = tiny.check("The cat sleeps.", states)["evidence"][0]
    assert (blind["start"], blind["end"], blind["text"]) == (None, None, None)
    with pytest.raises(ValueError, match="1 texts, but the states of 2"):
        tiny.check("The cat sleeps.", states, texts=[SOURCE])


def test_states_that_lost_the_end_of_their_text_say_so(tiny):
    """What was beyond the window when the states were made was not read."""
    long = SOURCE * 30
    result = tiny.check("The cat sleeps.", tiny.model.encode(long), texts=[long])
    assert 0.02 < result["read"] < 0.5


def test_a_sentence_beyond_the_window_is_read_in_parts(tiny):
    """A text without any stop, and one without any space: nothing is lost."""
    for text in ("word and word " * 400, "x" * 3_000, "ü" * 1_000):
        spans = list(Reader(tiny.model, [1]).split(text))
        assert "".join(text[a:b] for a, b in spans).replace(" ", "") == text.replace(" ", "")
        assert tiny.check("Somebody eats.", text)["read"] == 1.0


def test_heads_that_read_both_texts_together(tiny_modernbert):
    """Without kept states: each passage that fits is judged as a pair."""
    for heads in ("cls", "alignment"):
        nli = make_model(tiny_modernbert, heads).as_pipeline()
        result = nli.check("Somebody eats. It rains.", SOURCE * 10)
        assert result["read"] == 1.0
        assert len(result["sentences"]) == 2
        place = result["evidence"][0]
        assert (SOURCE * 10)[place["start"] : place["end"]] == place["text"]
        with pytest.raises(PairError, match="Split it into shorter claims"):
            nli.check("word " * 300, SOURCE)


def test_a_splitter_of_ones_own(tiny):
    """Any callable; here lines."""
    text = "one line. still it\nanother line"
    result = tiny.check("one. two", text, splitter=str.splitlines)
    assert {place["text"] for place in result["evidence"]} <= {"one line. still it", "another line", text}
    assert len(result["sentences"]) == 1


@pytest.mark.parametrize(
    ("answer", "sources", "complaint"),
    [
        ("", SOURCE, "the answer is empty"),
        (" \n", SOURCE, "the answer is empty"),
        ("?! …", SOURCE, "the answer has no words"),
        (None, SOURCE, "the answer must be a string"),
        ("It rains.", "", "the source is empty"),
        ("It rains.", ["It rains.", ""], "Pair 1: the source is empty"),
        ("It rains.", {"a": None}, "the source must be a string"),
        ("It rains.", [], "There is no source"),
        ("It rains.", None, "Give a text, texts"),
        ("It rains.", b"bytes", "Give a text, texts"),
        ("It rains.", "a\ud800", "not valid Unicode"),
    ],
)
def test_bad_input(tiny, answer, sources, complaint):
    """What, where, and what to do."""
    with pytest.raises(ValueError, match=complaint):
        tiny.check(answer, sources)


@pytest.mark.parametrize(
    "text", ["x", ".", "\x00", "\x00\x00 a\x00", "שלום. מה שלומך?", "‮abc‬", "🙂", "a\u2028b"]
)
def test_odd_sources_and_answers(tiny, quick, text):
    """One character, NUL bytes, right-to-left text, no words: judged, with numbers that are numbers."""
    for nli in (tiny, quick):
        for answer, source in (("It rains.", text), (f"{text} rains", SOURCE)):
            result = nli.check(answer, source)
            assert 0 <= result["support"] <= 1
            assert result["read"] == 1.0


@settings(max_examples=20)
@given(
    answer=st.text(st.characters(codec="utf-8"), max_size=60).filter(
        lambda text: any(map(str.isalpha, text))
    ),
    source=st.text(st.characters(codec="utf-8"), min_size=1, max_size=200).filter(str.strip),
)
def test_any_text(tiny, answer, source):
    """Every verdict is one, every place in its text."""
    result = tiny.check(answer, source)
    for sentence in result["sentences"]:
        assert answer[sentence["start"] : sentence["end"]] == sentence["text"]
        for place in sentence["evidence"]:
            assert source[place["start"] : place["end"]] == place["text"]


def test_the_weights_of_the_configuration_count(tiny_modernbert):
    """Fitted ones decide on verdict and confidence; the caller's threshold on abstention."""
    model = make_model(tiny_modernbert, "separate")
    nothing = {"support": 0.0, "contradiction": 0.0}
    model.config.evidence = {"support": {"bias": 4.0}, "against": nothing, "abstain_from": 0.45}
    nli = model.as_pipeline()
    sure = nli.check("It rains.", SOURCE)
    assert (sure["verdict"], sure["abstain"]) == ("supported", False)
    assert sure["confidence"] == pytest.approx(torch.tensor(4.0).sigmoid().item())
    assert nli.check("It rains.", SOURCE, threshold=0.01)["verdict"] == "uncertain"
    model.config.evidence |= {"support": {"bias": -4.0}, "contradiction": {"bias": 4.0}}
    against = nli.check("It rains.", SOURCE)
    assert (against["verdict"], against["support"] < 0.1) == ("contradicted", True)


def test_validate_fact_says_the_same_of_each_source(tiny):
    """It is `check` with the claim as one sentence, source by source."""
    sources = [SOURCE, "It rains. It pours."]
    facts = tiny.validate_fact(sources, "Somebody eats. And drinks.")
    assert [fact["evidence"][0]["source"] for fact in facts] == [0, 1]
    for fact, source in zip(facts, sources, strict=True):
        alone = tiny.validate_fact(source, "Somebody eats. And drinks.")
        assert alone["confidence"] == pytest.approx(fact["confidence"], abs=1e-3)
        assert sum(fact[key] for key in ("supported", "contradicted", "uncertain")) <= 1
        assert fact["read"] == 1.0


@pytest.mark.parametrize("encoding", ["joint", "separate"])
def test_a_pair_whose_premise_lost_its_end_says_so(tiny, encoding):
    """In the result, and only there where it did."""
    short, long, shorter = tiny(
        [("It rains.", "It is wet."), ("It rains. " * 300, "It is wet."), ("x", "y")], encoding=encoding
    )
    assert long["truncated"] is True
    assert "truncated" not in short
    assert "truncated" not in shorter


def test_what_is_no_claim_gets_no_verdict(tiny):
    """It is returned in its place, and the answer is worth what its claims are."""
    answer = (
        "Great question!\n\n## Rules\n\n1. **The cat** sleeps [1].\n2. A dog runs.[2]\n\n"
        "Does that help?\n\nSources:\n[1] cats.pdf\n[2] https://example.org"
    )
    result = tiny.check(answer, SOURCE)
    assert json.loads(json.dumps(result)) == result
    kinds = [one["kind"] for one in result["sentences"]]
    assert kinds == ["filler", "heading", "claim", "claim", "question", *["reference"] * 3]
    for one in result["sentences"]:
        assert answer[one["start"] : one["end"]] == one["text"]
        if one["kind"] != "claim":
            assert one["claim"] is one["verdict"] is one["confidence"] is one["support"] is None
            assert (one["abstain"], one["evidence"], one["unsupported"]) == (False, [], [])
    claims = [one for one in result["sentences"] if one["claim"]]
    assert [one["claim"] for one in claims] == ["The cat sleeps.", "A dog runs."]
    alone = tiny.check("The cat sleeps. A dog runs.", SOURCE)
    for key in ("verdict", "confidence", "support", "evidence"):
        assert result[key] == alone[key]


@pytest.mark.parametrize("answer", ["Hello!", "I don't know.", "Is it open? [1]", "Sources:\n[1] cats.pdf"])
def test_an_answer_without_a_claim(tiny, answer):
    """Is neither supported nor an error; its sources are still looked at."""
    result = tiny.check(answer, {"a": SOURCE})
    assert (result["verdict"], result["abstain"], result["evidence"]) == ("no claim", False, [])
    assert result["confidence"] is result["uncertainty"] is result["support"] is None
    assert result["sources"] == [{"source": "a", "characters": len(SOURCE), "read": 1.0}]
    with pytest.raises(ValueError, match="the source must be a string"):
        tiny.check(answer, [None])
    with pytest.raises(ValueError, match="There is no source"):
        tiny.check(answer, [])


def test_unsupported_words_stand_in_the_answer_as_given(quick):
    """Whatever is taken off before the claim is judged."""
    answer = "Hello!\n\n- The **cat** [1] sleeps on a *purple&nbsp;cr&eacute;ma* trombone [2]."
    for threshold in (None, 1.0):
        _, sentence = quick.check(answer, SOURCE, threshold=threshold)["sentences"]
        assert sentence["claim"] == "The cat sleeps on a purple créma trombone."
        for span in sentence["unsupported"]:
            assert answer[span["start"] : span["end"]] == span["text"]
    words = [span["text"] for span in sentence["unsupported"]]
    assert sentence["verdict"] == "supported" or any("trombone" in text for text in words)


@pytest.mark.parametrize(
    "answer",
    ["The text does not say how long the cat sleeps.", "The document doesn't mention a dog [1]."],
)
def test_what_the_source_does_not_say_is_never_contradicted(quick, tiny, answer):
    """No passage can show what is not there: uncertain, and never sure."""
    for nli in (quick, tiny):
        (sentence,) = nli.check(answer, SOURCE, threshold=1.0)["sentences"]
        assert sentence["verdict"] in ("uncertain", "supported")
        assert sentence["kind"] == "about the source"
        assert sentence["abstain"] == (sentence["verdict"] == "uncertain")
        assert not nli.validate_fact(SOURCE, answer)["contradicted"]


def test_one_claim_is_judged_without_its_marks(tiny):
    """`validate_fact`: as if it stood there alone."""
    plainly = tiny.validate_fact(SOURCE, "The cat sleeps.")
    assert tiny.validate_fact(SOURCE, "1. **The cat** sleeps [1].") == plainly
    assert tiny.validate_fact(SOURCE, "Hello!")["confidence"] is not None


# What people paste, on the checkpoint of the repository ---------------------------------------------------

FERRY = (
    "The ferry carries 84 cars. Tickets cost 6 euros. It leaves from pier 3 at nine. Dogs travel free. "
    "The crossing takes two hours."
)
MUSEUM = (
    "The museum was founded in 1904. Entry is free on Thursdays. The west wing is closed until June. "
    "Photography is not allowed. The café seats forty guests."
)
TERMS = (
    "Payment is due within 30 days. Late payers are charged a fee of 2 percent. Contracts can be cancelled "
    "by either side. Notice must be given in writing."
)
RUNNER = (
    "Anna Berg won the race in 2011. She trained in Oslo. Her coach was Per Dahl. The prize was 5,000 crowns."
)
PHONE = "The phone has a 6-inch screen. Its battery lasts two days. It comes in black and white."


@pytest.mark.parametrize(
    ("source", "claim"),
    [
        (FERRY, "The ferry carries 48 cars."),
        (FERRY, "Tickets cost 60 euros."),
        (FERRY, "It leaves from pier 5 at nine."),
        (FERRY, "The crossing takes three hours."),
        (FERRY, "Dogs do not travel free."),
        (MUSEUM, "The museum was founded in 1940."),
        (MUSEUM, "Entry is free on Tuesdays."),
        (MUSEUM, "The west wing is closed until July."),
        (MUSEUM, "The east wing is closed until June."),
        (MUSEUM, "Photography is allowed."),
        (MUSEUM, "The café seats fourteen guests."),
        (TERMS, "Payment is due within 13 days."),
        (TERMS, "Late payers are charged a fee of 20 percent."),
        (TERMS, "Contracts cannot be cancelled by either side."),
        (RUNNER, "Anna Berg won the race in 2012."),
        (RUNNER, "Anna Berg lost the race in 2011."),
        (RUNNER, "She did not train in Oslo."),
        (RUNNER, "The prize was 50,000 crowns."),
    ],
)
def test_a_false_claim_among_true_sentences_is_not_supported(quick, source, claim):
    """One number, date, negation or word is another; the sentence that tells is the evidence."""
    result = quick.check(claim, source)
    assert result["verdict"] in ("contradicted", "uncertain")
    assert (result["reason"] is None) == (result["verdict"] == "contradicted")


@pytest.mark.parametrize(
    ("source", "claim"),
    [
        (FERRY, "The captain is from Norway."),
        (FERRY, "The ferry was built in Hamburg."),
        (FERRY, "Breakfast is served on board."),
        (FERRY, "It broke down in 2015."),
        (MUSEUM, "The director has written two books."),
        (MUSEUM, "The museum owns a painting by Monet."),
        (MUSEUM, "The museum employs 60 people."),
        (TERMS, "The office is in Lisbon."),
        (RUNNER, "She has three children."),
        (RUNNER, "The stadium was renovated in 2003."),
        (PHONE, "The phone is waterproof."),
        (PHONE, "It was released in 2020."),
        (PHONE, "The phone weighs 180 grams."),
    ],
)
def test_what_the_source_does_not_mention_is_not_contradicted(quick, source, claim):
    """By sentences about something else, or about something else of the same."""
    assert quick.check(claim, source)["verdict"] in ("not supported", "uncertain")


@pytest.mark.parametrize(
    ("source", "claim"),
    [
        (FERRY, "A ticket costs 6 euros."),
        (FERRY, "Dogs travel for free."),
        (MUSEUM, "On Thursdays entry is free."),
        (MUSEUM, "The west wing is closed."),
        (RUNNER, "Her coach was Per Dahl."),
    ],
)
def test_what_is_true_stays_supported(quick, source, claim):
    """And what contradicts stays a contradiction."""
    assert quick.check(claim, source)["verdict"] == "supported"


@pytest.mark.parametrize(
    ("source", "claim"),
    [
        ("The bridge opened in 1932. It is painted grey.", "It is painted red."),
        ("The bridge opened in 1932. It is painted grey.", "The bridge never opened."),
        (RUNNER, "She trained in Paris."),
        (PHONE, "Its battery lasts an hour."),
        (PHONE, "The phone has no screen."),
    ],
)
def test_contradictions_are_found(quick, source, claim):
    """By the sentence that speaks of the same."""
    result = quick.check(claim, source)
    assert result["verdict"] == "contradicted"
    assert len(result["evidence"][0]["text"]) < len(source)


@pytest.mark.parametrize(
    ("claim", "sources"),
    [
        (
            "The bridge opened in 1932.",
            {"a": "The bridge opened in 1932.", "b": "The bridge opened in 1935."},
        ),
        ("It is painted red.", ["The hall is old. It is painted red.", "It is painted grey."]),
        ("The museum is free.", "Entry to the museum is free. Dogs are welcome. The museum is not free."),
    ],
)
def test_sources_that_contradict_each_other(quick, claim, sources):
    """Nothing is decided, and both are shown."""
    result = quick.check(claim, sources)
    assert (result["verdict"], result["conflict"], result["reason"]) == ("uncertain", True, CONFLICT)
    assert len(result["evidence"]) == len(result["sentences"][0]["evidence"]) == 2


@pytest.mark.parametrize(
    ("claim", "source"),
    [
        ("Bergen has 9,200 inhabitants.", "Bergen has 9,200 inhabitants. Oslo has 700,000 inhabitants."),
        ("The hall is free.", "The hall is free. The cloakroom is not free."),
        ("the shop opens at nine", "The shop opens at nine. The bar opens at ten. The pool opens at eight."),
        ("Numbers: 1 2 3 4 5 6 7 8 9.", "It rains. Numbers: 1 2 3 4 5 6 7 8 9. It pours."),
    ],
)
def test_a_sentence_of_the_source_is_supported_by_definition(quick, claim, source):
    """Whatever else there is about something else."""
    result = quick.check(claim, source)["sentences"][0]
    assert (result["verdict"], result["rule"], result["confidence"]) == ("supported", "verbatim", 1.0)
    assert result["reason"] is None


def test_a_sentence_that_is_quoted_is_not_stated(quick):
    """It takes more than its words to be a sentence of the source."""
    source = 'The mayor said: "The bridge is closed. It will open in May." Nobody believed him.'
    assert "rule" not in quick.check("The bridge is closed.", source)["sentences"][0]
