"""Text that the encoder reads, and text that it does not, told by states; and the text that teaches it."""

import copy
import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT, make_model
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel

from modernbert_nli.configuration_modernbert_nli import ModernBertNliConfig
from modernbert_nli.guards import UNREADABLE, wordless
from modernbert_nli.heads import Familiarity
from modernbert_nli.loading import load_pipeline
from modernbert_nli.states import TokenStates
from modernbert_nli.training.familiarity import (
    Kind,
    cross_validated,
    encoded,
    fit,
    main,
    shared_layer,
    threshold_of,
)
from modernbert_nli.training.readable import paired, readable
from modernbert_nli.training.unreadable import NOISE, english, group_of, messages, unreadable

ENGLISH = (
    "the man eats food|a dog runs in the park|nobody is outside|two people talk|the cat sleeps|it is a phone"
)
FOREIGN = (
    "mies syö ruokaa|koira juoksee puistossa|ulkona ei ole ketään|kaksi ihmistä puhuu|kissa nukkuu|se on puu"
)
LAYERS = {"joint": [1, 2], "separate": [1, 3]}


@st.composite
def texts(draw):
    """States of some texts, and how many tokens each has."""
    count, longest, size = draw(st.integers(1, 4)), draw(st.integers(1, 7)), draw(st.sampled_from((16, 32)))
    lengths = draw(st.lists(st.integers(1, longest), min_size=count, max_size=count))
    torch.manual_seed(draw(st.integers(0, 2**16)))
    return torch.randn(count, longest, size), torch.tensor(lengths)


@given(texts(), st.floats(1, 1e4), st.integers(0, 5))
def test_what_is_found_is_of_the_tokens_alone(drawn, scale, padding):
    """Neither what stands in the padding, nor how much of it there is, nor scale nor order change it."""
    states, lengths = drawn
    present = torch.arange(states.shape[1]) < lengths[:, None]
    found = Familiarity.statistics(states, present)
    assert found.shape == (len(states), 2 * states.shape[2])
    assert found.isfinite().all()
    more = torch.full((len(states), padding, states.shape[2]), 1e6)
    wide = torch.cat([torch.where(present[..., None], states, 7.0), more], dim=1)
    where = torch.cat([present, torch.zeros(len(states), padding, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(Familiarity.statistics(wide * scale, where), found, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(
        Familiarity.statistics(states.flip(1), present.flip(1)), found, atol=1e-5, rtol=1e-5
    )


def test_scores_are_exact_also_where_all_else_is_rounded():
    """Between 0 and 1 small differences decide."""
    head, states = Familiarity(8), torch.randn(3, 5, 8).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        score = head(states, torch.ones(3, 5))
    assert score.dtype == torch.float32
    torch.testing.assert_close(score, head(states, torch.ones(3, 5)))


def test_layers():
    """One that all encodings read, and not the last."""
    assert shared_layer({"joint": [3, 4], "separate": [2, 4, 6]}, 6) == 4
    assert shared_layer({"joint": [6]}, 6) is None


@pytest.mark.parametrize(
    "entry",
    [
        {"layer": 3, "threshold": 0.1},
        {"layer": 1, "threshold": 2},
        {"layer": 1},
        {"layer": 1, "threshold": True},
        4,
    ],
)
def test_what_no_configuration_can_mean(entry):
    with pytest.raises(ValueError, match="familiarity"):
        ModernBertNliConfig(head_type="alignment", encoder_layers=LAYERS, familiarity=entry)


def _kinds(pipe, **texts: str) -> list[Kind]:
    kinds = []
    for name, text in texts.items():
        name = name.replace("_", ":")
        pairs = paired([line + end for end in ("", " .", " , yes") for line in text.split("|")])
        sides, undecided = encoded(pipe, pairs, 1)
        kinds.append(Kind(name, True, pairs, sides, undecided, undecided))
    return kinds


def _share_read(head: Familiarity, kind: Kind) -> float:
    return float(torch.cat([head.of_statistics(sides) > 0.5 for sides in kind.sides.values()]).float().mean())


@pytest.fixture(scope="module")
def pipe(tiny_modernbert):
    model = make_model(tiny_modernbert, "separate", encoder_layers=LAYERS)
    return model.as_pipeline(device="cpu")


def test_what_is_taught_as_readable_is_read(pipe):
    """Where a base reads another language, one says so, and it is accepted like English."""
    noise = "xq zzv kpw|wqx rrt bnm|qqq zxcv|vbnm hjkl|pqz rtx|zzz kkx"
    own, foreign, nothing = _kinds(pipe, own=ENGLISH, language_fi=FOREIGN, noise_letters=noise)
    head = fit([own, foreign, nothing])
    assert _share_read(head, own) > 0.9
    assert _share_read(head, foreign) < 0.1
    foreign.name = "reads:fi"
    head = fit([own, foreign, nothing])
    assert min(_share_read(head, own), _share_read(head, foreign)) > 0.9
    assert _share_read(head, nothing) < 0.1


def test_pairs_in_one_sequence_are_encoded_as_the_model_does(pipe):
    """Padding and the order of the batches make no difference."""
    pairs = paired(ENGLISH.split("|"))
    together, _ = encoded(pipe, pairs, 1)
    for row, pair in enumerate(pairs):
        alone, _ = encoded(pipe, [pair], 1)
        for encoding, sides in alone.items():
            torch.testing.assert_close(together[encoding][row], sides[0], atol=2e-3, rtol=2e-3)


def test_what_is_undecided_is_as_the_pipeline_says(pipe):
    pairs = paired([*ENGLISH.split("|"), *FOREIGN.split("|")])
    _, undecided = encoded(pipe, pairs, 1)
    assert undecided.tolist() == [row["abstain"] for row in pipe(pairs)]


def test_kinds_are_left_out(pipe):
    """Each is judged by heads without it, with a threshold that keeps nearly all readable text."""
    kinds = _kinds(pipe, **{f"set{row}": ENGLISH for row in range(6)}, language_fi=FOREIGN)
    run = cross_validated(kinds, seed=1)
    assert set(run["unread"]) == {kind.name for kind in kinds}
    assert all(
        row.shape == (9,) and row.dtype == bool for of in run["unread"].values() for row in of.values()
    )
    again = cross_validated(kinds, seed=1)
    assert again["threshold"] == run["threshold"]


def test_the_threshold_lets_kinds_count_alike():
    """A large kind of which much is odd does not decide for the others."""
    odd, plain = torch.full((1000,), 0.1), torch.linspace(0.5, 1, 10)
    assert threshold_of([{"separate": odd}] + [{"separate": plain}] * 999) == pytest.approx(0.5)


def _catalogue(folder: Path, language: str, pairs: dict[str, str]) -> None:
    """In GNU's binary format."""
    sides = [
        [side.encode() for side in ("", *pairs)],
        [b"Content-Type: text/plain", *map(str.encode, pairs.values())],
    ]
    count, start = len(sides[0]), 28 + 16 * len(sides[0])
    tables, content = b"", b""
    for side in sides:
        for text in side:
            tables += struct.pack("<II", len(text), start + len(content))
            content += text + b"\0"
    path = folder / "locale" / language / "LC_MESSAGES" / "django.mo"
    path.parent.mkdir(parents=True)
    path.write_bytes(
        struct.pack("<IIIIIII", 0x950412DE, 0, count, 28, 28 + 8 * count, 0, 0) + tables + content
    )


@pytest.fixture
def catalogues(tmp_path) -> Path:
    _catalogue(
        tmp_path,
        "fi",
        {
            "Enter a valid %(name)s address.": "Syötä oikea %(name)s osoite.",
            "menu\x04This page is not here.\0These are not.": "Tätä sivua ei ole täällä.\0Näitä ei ole.",
            "Powered by Python and others": "Powered by Python and others",
        },
    )
    _catalogue(tmp_path, "pt_BR", {"Please enter a number above zero.": "Informe um número maior que zero."})
    _catalogue(tmp_path, "en_GB", {"Choose a color for the page.": "Choose a colour for the page."})
    return tmp_path


def test_messages(catalogues):
    """Without placeholders, contexts, plurals, what is not translated, and English."""
    found = messages(catalogues)
    assert set(found) == {"fi", "pt"}
    assert found["fi"][0] == ["Syötä oikea osoite.", "Tätä sivua ei ole täällä."]
    assert "This page is not here." in found["fi"][1]
    assert "Please enter a number above zero." in " ".join(english(9, 1, catalogues))


def test_unreadable_text_is_the_same_each_time(catalogues):
    arguments = 8, 1, catalogues, ENGLISH.split("|")
    found = unreadable(*arguments)
    assert found == unreadable(*arguments)
    assert {"language:fi", "language:pt", "code:python", *(f"noise:{name}" for name in NOISE)} <= set(found)
    assert found["code:python"] != unreadable(8, 2, *arguments[2:])["code:python"]
    for kind, texts in found.items():
        assert len(set(texts)) == len(texts) <= 8, kind
        assert all(text.strip() for text in texts), kind
    assert not any('"""' in text or text.startswith("#") for text in found["code:python"])


def test_relatives_are_left_out_together():
    assert group_of("language:da") == group_of("language:sv") == group_of("language:no")
    assert group_of("language:fi") != group_of("language:sv")
    assert group_of("code:css") == "code:css"


def test_readable_text(tmp_path):
    """Pairs as they are, texts side by side, and of a long text some sentences."""
    rows = {
        "pairs": [{"premise": f"It is {row} degrees.", "hypothesis": f"It is {row}."} for row in range(9)],
        "texts": [{"text": f"where is my parcel number {row}"} for row in range(9)],
        "sources": [
            {"source": "A ferry runs at noon. " * 50, "claim": f"Ferry {row} runs."} for row in range(9)
        ],
    }
    for name, lines in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = readable(4, 1, sorted(tmp_path.glob("*.jsonl")))
    assert found == readable(4, 1, sorted(tmp_path.glob("*.jsonl")))
    assert {
        "pairs",
        "texts",
        "sources",
        "made:answers",
        "made:numbers",
        "made:tables",
        "made:docstrings",
    } <= set(found)
    assert all(0 < len(pairs) <= 4 for pairs in found.values())
    assert all({"premise": one, "hypothesis": two} in rows["pairs"] for one, two in found["pairs"])
    assert all(one.startswith("A ferry") and len(one) < 400 for one, _ in found["sources"])


def test_the_command(pipe, tiny_modernbert, catalogues, tmp_path, capsys):
    """Fits, measures each kind and writes, also where a language is one that the base reads."""
    model, data, measured = (tmp_path / name for name in ("model", "data", "measured"))
    pipe.save_pretrained(model)
    for folder, text in ((data, ENGLISH), (measured, "where is it|how are you|who is here|what is a park")):
        folder.mkdir()
        lines = "".join(json.dumps({"text": line}) + "\n" for line in text.split("|"))
        (folder / f"{folder.name}.jsonl").write_text(lines)
    output = tmp_path / "results" / "familiarity.json"
    main(
        [
            *(
                "--model",
                str(model),
                "--base",
                tiny_modernbert,
                "--messages",
                str(catalogues),
                "--pairs",
                "3",
            ),
            *("--data", str(data), "--measure", str(measured), "--seeds", "1", "2", "--output", str(output)),
            *("--reads", "fi", "--without", "code:c", "noise:hex"),
        ]
    )
    results = json.loads(output.read_text())
    assert {"data", "reads:fi", "made:catalogues", "noise:letters"} <= set(results["learnt"])
    assert {"measured", "noise:hex"} <= set(results["measured"])
    assert results["layer"] == 1
    assert set(results["kinds"]) == {*results["learnt"], *results["measured"]}
    assert "source code" in (output.parent / "familiarity-summary.md").read_text()
    assert output.with_suffix(".md").read_text().strip() == capsys.readouterr().out.strip()
    told = load_pipeline(str(model), tiny_modernbert, device="cpu")
    assert told.model.config.familiarity == {"layer": 1, "threshold": results["threshold"]}
    assert told.model.heads_digest() == pipe.model.heads_digest()  # what was calibrated stays so
    assert told.model.familiarity.output.weight.abs().sum() > 0


@pytest.fixture(scope="module")
def quick():
    import modernbert_nli

    return modernbert_nli.load(device="cpu")


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ("The ferry leaves the harbour at noon, whatever the weather.", True),
        ("Where is my parcel?", True),
        ("Total: 1,250 kg", True),
        ("Die Fähre verlässt den Hafen am Mittag, bei jedem Wetter.", False),
        ("El barco sale del puerto a mediodía con cualquier tiempo.", False),
        ("渡轮中午离开港口。", False),
        ("for row in range(len(self.rows)): self.rows[row] += other[row]", False),
        ("qwx plfgh zzrt vbnk mmqp", False),
    ],
)
@pytest.mark.parametrize("encoding", ["separate", "joint"])
def test_the_quick_start_knows_what_its_base_reads(quick, text, is_read, encoding):
    """On either side of a pair, and in the place of a text that is routed."""
    for pair in ((text, "The ferry is late."), ("The ferry is late.", text)):
        assert (quick(*pair, encoding=encoding)["reason"] != UNREADABLE) is is_read
    assert (quick.route(text, ["ferry", "sport"])["reason"] != UNREADABLE) is is_read


@pytest.mark.parametrize("text", ["Ngozi Okonjo-Iweala leads the WTO.", "COVID-19", "The qubit decoheres."])
def test_words_that_the_tokenizer_does_not_know_are_read(quick, text):
    """Names and terms in English: states tell, where the pieces of their words would not."""
    assert wordless(text, text, quick.tokenizer)
    assert quick(text, "This is about health.")["reason"] != UNREADABLE
    (sentence,) = quick.check("This is about health.", text)["sentences"]
    assert sentence["reason"] != UNREADABLE


def test_results_are_of_the_quick_start(quick):
    results = json.loads((ROOT / "experiments" / "results" / "familiarity.json").read_text())
    assert quick.model.config.familiarity == {key: results[key] for key in ("layer", "threshold")}
    assert len(results["seeds"]) >= 3
    for name, row in results["kinds"].items():
        if name.startswith("language:"):
            least = 0.95 if row["pairs"] >= 40 else 0.9  # of few pairs, one makes a tenth
            assert min(row[one]["undecided"]["mean"] for one in ("separate", "joint")) >= least, name


# In everything that decides -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told(pipe):
    """A pipeline of heads that tell `ENGLISH` from `FOREIGN`."""
    model = copy.deepcopy(pipe.model)
    model.familiarity = fit(_kinds(pipe, own=ENGLISH, language_fi=FOREIGN))
    model.config.familiarity = {"layer": 1, "threshold": 0.5}
    return model.as_pipeline(device="cpu", encoding="separate")


ALIEN, PLAIN = FOREIGN.split("|")[0], ENGLISH.split("|")
OTHER = "somebody is in the park"


@pytest.mark.parametrize("encoding", ["separate", "joint"])
def test_pairs(told, pipe, encoding):
    """One text that is not read is enough, whatever the threshold; else nothing changes."""
    pairs = [(ALIEN, OTHER), (OTHER, ALIEN), (ALIEN, FOREIGN.split("|")[1]), (PLAIN[0], OTHER)]
    results, before = (
        told(pairs, encoding=encoding, threshold=1.0),
        pipe(pairs, encoding=encoding, threshold=1.0),
    )
    assert [one["reason"] for one in results] == [UNREADABLE] * 3 + [None]
    assert [one["uncertainty"] for one in results[:3]] == [1.0] * 3
    assert all(one["abstain"] for one in results[:3])
    assert results[3] == before[3]
    assert told(ALIEN, ALIEN, encoding=encoding)["rule"] == "verbatim"  # which needs no reader


def test_an_answer_and_its_sources(told):
    """A claim or a passage that is not read; one that is beside it is judged."""
    sentences = told.check(f"{OTHER}. {ALIEN}.", f"{PLAIN[0]}. {PLAIN[1]}.", threshold=1.0)["sentences"]
    assert [one["reason"] for one in sentences] == [None, UNREADABLE]
    (sentence,) = told.check(OTHER, f"{ALIEN}.", threshold=1.0)["sentences"]
    assert (sentence["verdict"], sentence["reason"]) == ("uncertain", UNREADABLE)


@pytest.mark.parametrize("encoding", ["separate", "joint"])
def test_a_route(told, encoding):
    """None, unless the text has a word that its user gave to a category."""
    model = told.model.as_pipeline(device="cpu", encoding=encoding)
    categories = {"park": "this is about the park", "food": "this is about food"}
    declined = model.route(ALIEN, categories, threshold=1.0)
    assert (declined["category"], declined["reason"]) == (None, UNREADABLE)
    assert model.route(PLAIN[0], categories, threshold=1.0)["category"]
    assert model.route(ALIEN, {**categories, "ruokaa": "this is about food"}, threshold=1.0)["category"]
    kept = model.model.encode([ALIEN, PLAIN[0]])
    assert [one["reason"] for one in model.route(kept, categories, threshold=1.0)] == [UNREADABLE, None]


def test_kept_states(told, tmp_path):
    """Raw and projected, saved and some of them; those projected by heads that could not tell are judged."""
    model, texts = told.model, [ALIEN, PLAIN[0], PLAIN[1]]
    raw, claim = model.encode(texts), model.encode(OTHER)
    projected = model.project_states(raw)
    projected.save(tmp_path / "texts.safetensors")
    for states in (raw, projected, TokenStates.load(tmp_path / "texts.safetensors")):
        told_of = model.classify(states, claim)
        assert (told_of.uncertainty == 1).tolist() == [True, False, False]
        assert (model.classify(states[[2, 0]], claim).uncertainty == 1).tolist() == [False, True]
    assert not (model.classify(replace(projected, familiarity=None), claim).uncertainty == 1).any()


def test_heads_are_saved_and_loaded_with_it(told, tiny_modernbert, tmp_path):
    """As a part of the checkpoint, and of what is adapted from it."""
    told.model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(
        str(tmp_path), trust_remote_code=True, base_model_name_or_path=tiny_modernbert
    ).as_pipeline(device="cpu")
    assert again(ALIEN, OTHER)["reason"] == UNREADABLE
    pairs = [(f"{PLAIN[row % 5]} {row}", OTHER) for row in range(24)]
    mine = again.adapt(pairs, ["entailment", "neutral", "contradiction"] * 8)
    assert mine(ALIEN, OTHER)["reason"] == UNREADABLE
