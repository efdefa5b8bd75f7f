"""ONNX graphs: the decisions of PyTorch, of any shape and text, and of no checkpoint but their own."""

import copy
import json
import pickle
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from conftest import PAIRS, ROOT, make_model, rows, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import pipeline

pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

import onnx
import onnxruntime

from modernbert_nli.calibrating import command as calibrate
from modernbert_nli.calibration import expanded
from modernbert_nli.exporting import command as export
from modernbert_nli.exporting import quantize
from modernbert_nli.exporting.graphs import OPSET, EncoderGraph, HeadsGraph, PairGraph
from modernbert_nli.loading import load_pipeline
from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel
from modernbert_nli.onnx_backend import GraphMismatch
from modernbert_nli.prediction import command as predict
from modernbert_nli.states import StatesMismatch

ENCODINGS = ("separate", "joint")
RUNTIMES = pytest.mark.parametrize(
    "backend",
    [
        "onnx",
        pytest.param(
            "openvino",
            marks=pytest.mark.skipif(
                find_spec("openvino") is None, reason="the extra `openvino` is not installed"
            ),
        ),
    ],
)
ODD = ["[SEP] [CLS]", "é\u0301 ‮ ﷽", "\x00\x07", "a", "🏳️‍🌈" * 9, "İ ß ﬁ", "\t x \n"]


@pytest.fixture(scope="module")
def both_precisions(tiny_bert, tmp_path_factory) -> tuple[Path, ModernBertNliModel]:
    """A checkpoint with graphs in float32 and int8, its few embeddings quantised too; and its model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantize, "LARGE", 100)
        return export_model(tiny_bert, tmp_path_factory.mktemp("bert"), "--int8")


@pytest.fixture(scope="module")
def with_int8(both_precisions) -> Path:
    return both_precisions[0]


@pytest.fixture(scope="module", params=["bert", "modernbert"])
def exported(request, both_precisions, tiny_modernbert, tmp_path_factory) -> tuple[Path, ModernBertNliModel]:
    """A checkpoint with its graphs, and the model that they were made from, on its base."""
    if request.param == "bert":
        return both_precisions
    return export_model(tiny_modernbert, tmp_path_factory.mktemp("modernbert"))


def export_model(base: str, place: Path, *options: str) -> tuple[Path, ModernBertNliModel]:
    how = {
        "encoder_layers": {"joint": [1, 2], "separate": [1, 3]},
        "familiarity": {"layer": 1, "threshold": 0.5},
    }
    model = make_model(base, "separate", **(how if "modernbert" in place.name else {}))
    model.save_pretrained(place / "checkpoint")
    command = ["--model", str(place / "checkpoint"), "--base", base, "--output", str(place / "exported")]
    assert export.main([*command, *options]) == 0
    return place / "exported", model


@pytest.fixture
def copied(exported, tmp_path) -> Path:
    """An exported checkpoint with graphs in float32 alone, to be spoilt."""
    return Path(shutil.copytree(exported[0], tmp_path / "copied", ignore=shutil.ignore_patterns("*int8*")))


def run(path: Path, **inputs: torch.Tensor) -> list[torch.Tensor]:
    """What ONNX Runtime makes of the inputs that a graph has."""
    session = onnxruntime.InferenceSession(path)
    names = {node.name for node in session.get_inputs()}
    given = {name: value.numpy() for name, value in inputs.items() if name in names}
    return [torch.from_numpy(output) for output in session.run(None, given)]


@pytest.mark.parametrize("shape", [(1, 3), (64, 12), (2, 128), (1, 512)], ids=str)
def test_logits_of_any_shape(exported, shape):
    """Batches of 1 and 64, padded, lengths of 3 to 512: within 1e-4 of PyTorch, through all three graphs."""
    folder, model = exported
    if shape[1] > model.config.max_position_embeddings and model.config.encoder_config.model_type == "bert":
        shape = (1, model.config.max_position_embeddings)
    torch.manual_seed(0)
    ids = torch.randint(5, model.config.vocab_size, shape)
    ids[:, [shape[1] // 2, -1]] = model.config.sep_token_id
    mask, types = torch.ones_like(ids), torch.zeros_like(ids)
    types[:, shape[1] // 2 + 1 :] = 1
    if shape[0] > 1:
        mask[0, -2:] = 0
    with torch.no_grad():
        expected = PairGraph(model)(ids, mask, types)
        states = EncoderGraph(model)(ids, mask)
        short = (states[:, :, : shape[1] // 2 + 1], mask[:, : shape[1] // 2 + 1])
        judged = HeadsGraph(model)(states, mask, *short)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    torch.testing.assert_close(run(folder / "onnx/pair.onnx", **inputs), list(expected), atol=1e-4, rtol=0)
    (found,) = run(folder / "onnx/encoder.onnx", **inputs)
    there = mask.bool()[:, None, :, None].expand_as(states)  # what is padding is nobody's
    torch.testing.assert_close(found[there], states[there], atol=2e-3, rtol=2e-3)  # a rounding in float16
    sides = {"premise_states": found, "premise_mask": mask}
    sides |= {"hypothesis_states": found[:, :, : short[0].shape[2]], "hypothesis_mask": short[1]}
    logits = run(folder / "onnx/heads.onnx", **sides)
    torch.testing.assert_close(logits, list(judged), atol=1e-3, rtol=0)


def test_what_is_in_the_files(exported):
    """Valid, of the opset that is named, dynamic, nothing above what is read, and no path of this machine."""
    folder, model = exported
    for path in sorted((folder / "onnx").glob("*.onnx")):
        graph = onnx.load(path)
        onnx.checker.check_model(graph, full_check=True)
        assert [entry.version for entry in graph.opset_import if not entry.domain] == [OPSET]
        for node in graph.graph.input:
            assert node.type.tensor_type.shape.dim[0].dim_param, (path.name, node.name)
        assert str(ROOT).encode() not in path.read_bytes()
    # Joint encoding reads no third layer: with all its heads the graph is smaller than that of three layers.
    assert {name: layers[-1] for name, layers in model.config.encoder_layers.items()} == {
        "joint": 2,
        "separate": 3,
    }
    assert (folder / "onnx/pair.onnx").stat().st_size < (folder / "onnx/encoder.onnx").stat().st_size


@RUNTIMES
def test_the_same_decisions(exported, backend):
    """Pairs, routes, whole sources and kept states, by the pipeline that any reader opens, without a base."""
    folder, model = exported
    expected = model.as_pipeline()
    found = pipeline(model=str(folder), trust_remote_code=True, model_kwargs={"backend": backend})
    assert "backend" not in found.tokenizer.init_kwargs
    for encoding in ENCODINGS:
        same(found(PAIRS, encoding=encoding), expected(PAIRS, encoding=encoding))
        assert found(PAIRS[0][0], PAIRS[0][0], encoding=encoding)["rule"] == "verbatim"
    categories = {"food": "this example is about food", "sports": "this example is about sports"}
    same(found.route("A man eats.", categories), expected.route("A man eats.", categories))
    question = ("The cat sleeps. Nobody is outside.", {"report": "The cat sleeps in the park. A man eats."})
    same(found.check(*question), expected.check(*question))
    passages = model.encode([premise for premise, _ in PAIRS])  # by PyTorch, judged beside ONNX's own
    claim = "Somebody eats."
    same(found.validate_fact(passages, claim), expected.validate_fact(passages, claim))


def same(found, expected) -> None:
    """Equal, but for the rounding of numbers."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-4)
    else:
        assert found == expected


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_odd_text(exported, data):
    """Whatever the text is, the probabilities are those of PyTorch, in both encodings."""
    folder, model = exported
    text = st.sampled_from(ODD) | st.text(min_size=1, max_size=60).filter(str.strip)
    pair = (data.draw(text), data.draw(text))
    if "onnx" not in vars(model):
        model.onnx = load_pipeline(str(folder), backend="onnx")
    for encoding in ENCODINGS:
        outcomes = []
        for pipe in (model.onnx, model.as_pipeline()):
            try:
                outcomes.append(pipe(*pair, encoding=encoding)["probs"])
            except ValueError as error:  # lone surrogates: the same error
                outcomes.append(str(error))
        same(*outcomes)


@RUNTIMES
def test_a_graph_of_another_checkpoint(copied, backend):
    """Heads that were changed since, and a graph under another's name, are refused by name."""
    heads = load_file(copied / "model.safetensors")
    encoder, pair = copied / "onnx/encoder.onnx", copied / "onnx/pair.onnx"
    shutil.move(encoder, copied / "aside")
    shutil.copy(pair, encoder)
    with pytest.raises(GraphMismatch, match=r"encoder\.onnx is not of this checkpoint .graph: 'pair'"):
        ModernBertNliModel.from_pretrained(copied, backend=backend)
    shutil.move(copied / "aside", encoder)
    save_file({**heads, "nli_output.bias": heads["nli_output.bias"] + 1}, copied / "model.safetensors")
    with pytest.raises(GraphMismatch, match="the heads were changed since"):
        ModernBertNliModel.from_pretrained(copied, backend=backend)


def test_what_stands_in_the_way(copied, monkeypatch, capsys):
    """No graphs, a broken one, no ONNX Runtime, arguments that do not go together: what to do is said."""
    with pytest.raises(ValueError, match="must be one of torch, onnx, onnx-int8, openvino, got 'tensorrt'"):
        ModernBertNliModel.from_pretrained(copied, backend="tensorrt")
    with pytest.raises(ValueError, match="give no `encoder`"):
        ModernBertNliModel.from_pretrained(copied, backend="onnx", encoder=torch.nn.Identity())
    with pytest.raises(
        OSError, match=r"no graph onnx/encoder_int8\.onnx\. Write it by `python export\.py .*--int8"
    ):
        ModernBertNliModel.from_pretrained(copied, backend="onnx-int8")
    model = ModernBertNliModel.from_pretrained(copied, backend="onnx")
    with pytest.raises(ValueError, match="no `last_hidden_state`"):
        model(**model.tokenizer(*PAIRS[0], return_tensors="pt"), mode="embed")
    assert export.main(["--model", str(copied), "--output", str(copied)]) == 2
    assert "is not empty" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="pip install onnxruntime"):
        ModernBertNliModel.from_pretrained(copied, backend="onnx")
    assert predict.main(["a", "b", "--model", str(copied), "--backend", "onnx"]) == 2
    assert "pip install onnxruntime" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImportError, match="pip install openvino"):
        ModernBertNliModel.from_pretrained(copied, backend="openvino")


@RUNTIMES
def test_a_broken_graph(copied, backend):
    """Said with its path."""
    (copied / "onnx/encoder.onnx").write_bytes(b"half of a graph")
    with pytest.raises(OSError, match=r"encoder\.onnx cannot be read"):
        ModernBertNliModel.from_pretrained(copied, backend=backend)


@RUNTIMES
def test_copies(exported, backend):
    """A copied or pickled model opens its graphs again."""
    model = ModernBertNliModel.from_pretrained(exported[0], backend=backend)
    expected = model.as_pipeline()(*PAIRS[0])
    assert copy.deepcopy(model).as_pipeline()(*PAIRS[0]) == expected
    assert pickle.loads(pickle.dumps(model)).as_pipeline()(*PAIRS[0]) == expected


def test_a_guarantee_of_their_own(with_int8, tmp_path, capsys):
    """What float32 guarantees is not that of int8, whose calibration lies beside the graphs, and is taken."""
    data = write(tmp_path / "pairs.jsonl", rows(300))
    folder = str(with_int8)
    assert (
        calibrate.main(["--model", folder, "--data", data, "--backend", "onnx", "--target_risk", "0.9"]) == 0
    )
    before = (with_int8 / "config.json").read_bytes()
    int8 = load_pipeline(folder, backend="onnx-int8")
    with pytest.raises(ValueError, match="is not calibrated"):
        int8(*PAIRS[0], target_risk=0.9)
    command = ["--model", folder, "--data", data, "--backend", "onnx-int8", "--target_risk", "0.8"]
    assert calibrate.main(command) == 0, capsys.readouterr().err
    assert (with_int8 / "config.json").read_bytes() == before
    stored = json.loads((with_int8 / "onnx/int8.json").read_text())
    found = load_pipeline(folder, backend="onnx-int8")
    assert found.threshold == stored["abstention_threshold"]
    assert found.model.calibration == expanded(stored["calibration"])
    assert found.threshold_for(0.8) == found.threshold
    assert load_pipeline(folder, backend="onnx").model.calibration != found.model.calibration
    found.model.set_calibration(None, 0.4)  # of no risk, and of these heads: not what float32 has, then
    none = {name: getattr(found.model.config, name) for name in calibrate.CALIBRATED}
    (with_int8 / "onnx/int8.json").write_text(json.dumps(none))
    assert load_pipeline(folder, backend="onnx-int8").model.calibration is None


def test_int8_judges_each_text_by_itself(with_int8):
    """Who else is in a batch changes nothing; states are not those of float32, and files are smaller."""
    pipe = load_pipeline(str(with_int8), backend="onnx-int8")
    for encoding in ENCODINGS:
        together = pipe(PAIRS, encoding=encoding)
        pipe.texts.clear()
        same([pipe(*pair, encoding=encoding) for pair in PAIRS], together)
    states = load_pipeline(str(with_int8), backend="onnx").model.encode("The cat sleeps.")
    with pytest.raises(StatesMismatch, match="int8"):
        pipe.validate_fact(states, "The cat sleeps.")
    for kind in ("encoder", "pair"):
        sizes = [(with_int8 / f"onnx/{kind}{end}.onnx").stat().st_size for end in ("", "_int8")]
        assert sizes[1] < 0.6 * sizes[0]  # of such small ones, a part is the graph itself
