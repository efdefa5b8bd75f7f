"""The published loader: its file format, its signatures, and what it refuses."""

import pickle

import pytest
import torch
from conftest import PAIRS, make_model
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModel, AutoTokenizer

from modernbert_nli.published_heads import load_modernbert_nli, predict_with_abstention
from modernbert_nli.publishing import command as push_to_hub

WIDTH = 64


@pytest.fixture(scope="module")
def published() -> nn.ModuleDict:
    """Heads as the published model builds them, for a base of width 64."""
    torch.manual_seed(3)
    return nn.ModuleDict(
        {
            "nli_hidden": nn.Sequential(nn.Linear(WIDTH, 24), nn.LayerNorm(24), nn.GELU(), nn.Dropout(0.1)),
            "nli_output": nn.Linear(24, 3),
            "abstention_head": nn.Sequential(
                nn.Linear(27, 12), nn.LayerNorm(12), nn.GELU(), nn.Dropout(0.1), nn.Linear(12, 2)
            ),
        }
    ).eval()


@pytest.fixture(scope="module", params=[".pt", ".safetensors"])
def heads(request, published, tmp_path_factory) -> str:
    """Path of the published heads in either format."""
    path = tmp_path_factory.mktemp("heads") / f"task_heads{request.param}"
    save = torch.save if request.param == ".pt" else save_file
    save(published.state_dict(), path)
    return str(path)


def test_published_heads_give_their_own_logits(published, heads, tiny_modernbert):
    """The converted model computes what the published layers compute on the base's [CLS] state."""
    model, tokenizer = load_modernbert_nli(heads, base=tiny_modernbert)
    inputs = tokenizer(*map(list, zip(*PAIRS, strict=True)), padding=True, return_tensors="pt")
    with torch.no_grad():
        cls = AutoModel.from_pretrained(tiny_modernbert)(**inputs).last_hidden_state[:, 0]
        hidden = published["nli_hidden"](cls)
        logits = published["nli_output"](hidden)
        abstention = published["abstention_head"](torch.cat([hidden, logits], dim=-1))
        nli_logits, abstention_logits = model(
            inputs["input_ids"], inputs["attention_mask"], mode="abstention"
        )
    torch.testing.assert_close(nli_logits, logits, atol=1e-6, rtol=0)
    torch.testing.assert_close(abstention_logits, abstention, atol=1e-6, rtol=0)

    premise, hypothesis = PAIRS[0]
    answer = predict_with_abstention(model, tokenizer, premise=premise, hypothesis=hypothesis)
    probs, doubt = logits[0].softmax(-1), abstention[0].softmax(-1)[1]
    assert list(answer) == ["label", "confidence", "abstain", "uncertainty", "probs", "reason"]
    assert answer["label"] == ("entailment", "neutral", "contradiction")[probs.argmax()]
    assert answer["confidence"] == pytest.approx(probs.max().item(), abs=1e-6)
    assert answer["uncertainty"] == pytest.approx(doubt.item(), abs=1e-6)
    assert answer["abstain"] is bool(doubt >= 0.5)


def test_published_heads_become_a_checkpoint(heads, tiny_modernbert, tmp_path):
    """Loaded from `task_heads.pt` and saved, they open through AutoModel with the same logits."""
    model, tokenizer = load_modernbert_nli(heads, base=tiny_modernbert)
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(
        tmp_path, trust_remote_code=True, base_model_name_or_path=tiny_modernbert
    )
    inputs = tokenizer(*PAIRS[0], return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(model(**inputs, mode="nli"), again(**inputs, mode="nli"))


def test_a_ready_encoder_and_a_checkpoint_are_taken_too(published, heads, tiny_modernbert, tmp_path):
    """`encoder=` beside a file of heads, and a folder of this project's own format."""
    encoder = AutoModel.from_pretrained(tiny_modernbert)
    model, _ = load_modernbert_nli(heads, base=tiny_modernbert, encoder=encoder)
    assert model.encoder is encoder

    original = make_model(tiny_modernbert)
    original.save_pretrained(tmp_path)
    model, tokenizer = load_modernbert_nli(tmp_path, base=tiny_modernbert)
    inputs = AutoTokenizer.from_pretrained(tiny_modernbert)(*PAIRS[0], return_tensors="pt")
    assert tokenizer(*PAIRS[0])["input_ids"] == inputs["input_ids"][0].tolist()
    with torch.no_grad():
        assert torch.equal(model(**inputs, mode="nli"), original(**inputs, mode="nli"))


class Malicious:
    """Would leave a file behind if its pickle were run."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, tiny_modernbert):
    """A `.pt` that asks for a function to be called, as torch file and as bare pickle."""
    trace = tmp_path / "trace"
    torch.save({"nli_hidden.0.weight": Malicious(trace)}, tmp_path / "torch.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Malicious(trace)))
    for name, cause in {"torch.pt": "Unsupported global.*open", "bare.pt": "Unsupported operand"}.items():
        with pytest.raises(ValueError, match=rf"was refused.*{cause}.*None of it was run") as refusal:
            load_modernbert_nli(tmp_path / name, base=tiny_modernbert)
        assert "weights_only" not in str(refusal.value)
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_files_that_cannot_be_read_are_named(published, tmp_path, tiny_modernbert, suffix):
    """Truncated, empty, of another format, missing."""
    path = tmp_path / f"heads{suffix}"
    (torch.save if suffix == ".pt" else save_file)(published.state_dict(), path)
    content = path.read_bytes()
    for broken in (content[: len(content) // 2], b"", b"no tensors at all"):
        path.write_bytes(broken)
        with pytest.raises((OSError, ValueError), match=str(path)):
            load_modernbert_nli(path, base=tiny_modernbert)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_modernbert_nli(tmp_path / f"none{suffix}", base=tiny_modernbert)


def test_other_contents_are_refused(published, tmp_path, tiny_modernbert):
    """Not a dictionary of tensors, unknown names, missing layers, layers of another kind, another width."""
    state = published.state_dict()
    path = tmp_path / "heads.pt"

    def refused(content, complaint):
        torch.save(content, path)
        with pytest.raises(ValueError, match=complaint):
            load_modernbert_nli(path, base=tiny_modernbert)

    refused([1, 2], "no flat dictionary of tensors")
    refused({"model": state}, "no flat dictionary of tensors")
    refused({f"encoder.{key}": value for key, value in state.items()}, "no published heads")
    refused({key: value for key, value in state.items() if "output" not in key}, "has not all of them")
    refused(
        {key: value for key, value in state.items() if key != "nli_hidden.1.bias"},
        r"missing \['nli_hidden.1.bias'\]",
    )
    refused({**state, "nli_output.weight": torch.zeros(5, 24)}, "does not hold the published layers")
    refused({**state, "nli_hidden.0.weight": torch.zeros(24, 1024)}, "encoder of width 1024.* is 64")


def converted(heads, output, base, *options) -> int:
    """Exit status of the conversion on a command line."""
    command = ["--from-legacy", heads, "--output", output, "--base_model", "tester/tiny-base", "--base", base]
    return push_to_hub.main([str(option) for option in [*command, *options]])


def test_a_command_converts_published_heads(published, heads, tiny_modernbert, tmp_path, capsys):
    """The folder is a checkpoint with the published logits, a pinned base, no path; it is kept."""
    output = tmp_path / "native"
    assert converted(heads, output, tiny_modernbert, "--base_revision", "a" * 40) == 0
    assert "Its logits differ" in capsys.readouterr().out
    model = AutoModel.from_pretrained(
        output, trust_remote_code=True, base_model_name_or_path=tiny_modernbert
    ).eval()
    inputs = model.load_tokenizer()(*PAIRS[0], return_tensors="pt")
    with torch.no_grad():
        hidden = published["nli_hidden"](model(**inputs, mode="embed"))
        expected = published["nli_output"](hidden)
        doubt = published["abstention_head"](torch.cat([hidden, expected], dim=-1))
        logits, abstention_logits = model(**inputs, mode="abstention")
    torch.testing.assert_close(logits, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(abstention_logits, doubt, atol=1e-6, rtol=0)
    config = (output / "config.json").read_text()
    assert '"base_model_name_or_path": "tester/tiny-base"' in config
    assert f'"base_model_revision": "{"a" * 40}"' in config
    assert tiny_modernbert not in config
    assert not list(output.glob("*.pt"))
    assert converted(heads, output, tiny_modernbert) == 2
    assert "is not empty" in capsys.readouterr().err


def test_what_the_command_refuses(published, tiny_modernbert, tmp_path, capsys):
    """Code in a pickle, other prefixes, other shapes, no file: a line names it, nothing is written."""
    state = published.state_dict()
    path, trace = tmp_path / "task_heads.pt", tmp_path / "trace"
    cases = {
        "was refused": {"nli_hidden.0.weight": Malicious(trace)},
        "no published heads": {f"model.{key}": value for key, value in state.items()},
        "does not hold the published layers": {**state, "nli_output.weight": torch.zeros(5, 24)},
        "encoder of width 1024": {**state, "nli_hidden.0.weight": torch.zeros(24, 1024)},
        "differ from those of": {**state, "nli_output.bias": torch.full((3,), torch.nan)},
        "There is no file": None,
    }
    for complaint, content in cases.items():
        if content is None:
            path.unlink()
        else:
            torch.save(content, path)
        assert converted(path, tmp_path / "native", tiny_modernbert) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert complaint in line
        assert str(path) in line
        assert not list(tmp_path.glob("native*"))
    assert not trace.exists()
