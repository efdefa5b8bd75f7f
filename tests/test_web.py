"""The page that computes in the browser: what its folder holds, and how it is sent."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, make_model, reach
from guarantees import entry
from loopback_hub import LoopbackHub
from sentence_cases import KINDS

pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

import onnx

from modernbert_nli import guards, routing
from modernbert_nli.calibrating import command as calibrate
from modernbert_nli.calibrating.over_domains import domain_guarantee
from modernbert_nli.claims import read_parts
from modernbert_nli.coverage import best_matches, cosines, of_passages
from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel
from modernbert_nli.onnx_backend import METADATA, graph_identity
from modernbert_nli.page import answers, documents
from modernbert_nli.page.guarantee import limit
from modernbert_nli.publishing import command as push_to_hub
from modernbert_nli.publishing import static
from modernbert_nli.reading import statements
from modernbert_nli.sentences import split_sentences
from modernbert_nli.states import TokenStates

FETCHED = re.compile(r"""(?:src|href)=["']?(?:https?:)?//|@import|url\(|from "[^.]""")


@pytest.fixture
def packages(tmp_path, monkeypatch) -> Path:
    """What npm would install, by names and sizes alone."""
    folder = tmp_path / "npm"
    for package, file in static.VENDORED.values():
        path = folder / "node_modules" / package / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{package} {file}")
        entry = {"version": "1.2.3", "license": "MIT"}
        (folder / "node_modules" / package / "package.json").write_text(json.dumps(entry))
    (folder / "node_modules" / ".installed").write_bytes((static.WEB / static.LOCK).read_bytes())
    monkeypatch.setattr(static, "PACKAGES", folder)
    return folder


@pytest.fixture
def checkpoint(tiny_bert, tmp_path) -> Path:
    """Heads, with graphs that say they are theirs."""
    folder = tmp_path / "exported"
    model = make_model(tiny_bert, "separate")
    model.save_pretrained(folder)
    (folder / "onnx").mkdir()
    for kind, name in zip(("encoder", "heads"), static.GRAPHS, strict=True):
        write_graph(folder / "onnx" / name, model, kind)
    return folder


def write_graph(path: Path, model, kind: str) -> None:
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(name, number, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], kind, ends[:1], ends[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    identity = graph_identity(model.config, model.heads_digest())
    identity.update(graph=kind, layers=model.config.encoder_layers)
    helper.set_model_props(made, {METADATA: json.dumps(identity)})
    onnx.save_model(made, path)


def run(capsys, *options: object) -> tuple[int, str]:
    """Exit status and what was printed, either way."""
    status = push_to_hub.main([str(option) for option in options])
    said = capsys.readouterr()
    return status, said.out or said.err


def test_a_folder_that_any_static_server_can_serve(packages, checkpoint, tmp_path, capsys):
    """All that the page names is in it, with its size; nothing of the heads' weights or of other packages."""
    folder = tmp_path / "web"
    status, said = run(capsys, "--static-space", "--model", checkpoint, "--dry-run", folder)
    assert status == 0, said
    assert f"python -m http.server --directory {folder}" in said
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert set(static.VENDORED) <= set(files)
    assert not [name for name in files if name.endswith((".safetensors", "package-lock.json"))]
    assert {name for name in files if name.endswith(".py")} >= {
        "python/bridge.py",
        "python/modernbert_nli/sentences.py",
    }
    index = json.loads(files["index.json"].read_text())
    assert all(files[path].stat().st_size == size for path, size in index["files"].items())
    assert {"model/config.json", "model/onnx/encoder_int8.onnx", "python/bridge.py"} <= set(index["files"])
    for name, path in files.items():
        if path.suffix in (".js", ".html", ".css"):
            text = path.read_text()
            assert not FETCHED.search(text), name
            for other in re.findall(r"""from "\./([^"]+)"|(?:src|href)="([\w.]+)\"""", text):
                assert next(filter(None, other)) in files, (name, other)
    assert "default-src 'none'" in files["index.html"].read_text()
    assert str(ROOT) not in "".join(path.read_text(errors="replace") for path in files.values())


def test_what_int8_guarantees_goes_along(packages, checkpoint, tmp_path):
    """Where it was calibrated, and for these heads only."""
    guarantee = checkpoint / "onnx" / "int8.json"
    stored = {"calibration": None, "calibrated_heads": None, "abstention_threshold": 0.3}
    guarantee.write_text(json.dumps(stored))
    (tmp_path / "web").mkdir()
    static.write_static(tmp_path / "web", checkpoint)
    assert json.loads((tmp_path / "web/model/onnx/int8.json").read_text()) == stored
    guarantee.write_text(json.dumps({**stored, "calibrated_heads": "0" * 64}))
    with pytest.raises(ValueError, match=r"int8\.json: .* was made for other heads"):
        static.write_static(tmp_path / "web", checkpoint)


def test_the_page_gets_a_calibration_as_it_is_used(packages, checkpoint, tiny_bert, tmp_path, monkeypatch):
    """By row and with its configuration, which is stored by column and beside it."""
    monkeypatch.setattr(ModernBertNliModel, "changed_base", lambda self: None)  # these graphs compute nothing
    model = ModernBertNliModel.from_pretrained(checkpoint, base_model_name_or_path=tiny_bert)
    model.set_calibration({"separate": entry({0.05: None, 0.1: 0.4})}, 0.4)
    model.config.save_pretrained(checkpoint)
    guarantee = {name: getattr(model.config, name) for name in calibrate.CALIBRATED}
    calibrate.write(guarantee, str(checkpoint), None, None, int8=True)
    assert "targets" in (checkpoint / "onnx" / "int8.json").read_text()
    (tmp_path / "web").mkdir()
    static.write_static(tmp_path / "web", checkpoint)
    for name in ("config.json", "onnx/int8.json"):
        shown = json.loads((tmp_path / "web" / "model" / name).read_text())
        rows = shown["calibration"]["separate"]["table"]
        assert [row["threshold"] for row in rows] == [None, 0.4]
        assert shown["calibrated_heads"] == model.heads_digest()


def test_it_is_sent_in_one_commit_as_a_static_space(packages, checkpoint, tmp_path, capsys, monkeypatch):
    """Once, with all of its files; what it has no longer goes; another Space is left alone."""
    (tmp_path / "game").mkdir()
    (tmp_path / "game" / "game.js").write_text("")
    with LoopbackHub() as hub:
        reach(hub, monkeypatch)
        hub.add("spaces/tester/game", tmp_path / "game")
        options = ("--static-space", "testers/page", "--model", checkpoint, "--repo_id", "tester/nli")
        status, said = run(capsys, *options)
        assert status == 0, said
        files = hub.files("spaces/testers/page")
        (tmp_path / "web").mkdir()
        expected = static.write_static(tmp_path / "web", checkpoint, "tester/nli")
        assert {name for name in files if name != ".gitattributes"} == set(expected)
        assert all(files[name] == (tmp_path / "web" / name).read_bytes() for name in expected)
        _, front, text = files["README.md"].decode().split("---\n")
        front = yaml.safe_load(front)
        assert (front["sdk"], front["app_file"], front["models"]) == ("static", "index.html", ["tester/nli"])
        assert len(front["short_description"]) <= 60
        assert "onnxruntime-web) 1.2.3 (MIT)" in text
        commits = hub.repos["spaces/testers/page"].commits
        count = len(commits)
        assert run(capsys, *options)[0] == 0
        assert len(commits) == count
        hub.repos["spaces/testers/page"].commit({**files, "vendor/gone.mjs": b""}, "an earlier version")
        assert run(capsys, *options)[0] == 0
        assert "vendor/gone.mjs" not in hub.files("spaces/testers/page")
        status, said = run(capsys, "--static-space", "tester/game", "--model", checkpoint)
        assert status == 2
        assert "The Space holds something else already (game.js)" in said
        assert list(hub.files("spaces/tester/game")) == ["game.js"]


def test_what_is_not_for_a_browser_is_refused(packages, checkpoint, tiny_bert, tmp_path, capsys):
    """Without graphs, with those of other heads, of heads that read pairs together: a sentence each."""
    options = ("--static-space", "--dry-run", tmp_path / "web", "--model")
    other = tmp_path / "other"
    make_model(tiny_bert, "separate", nli_hidden_size=24).save_pretrained(other)
    status, said = run(capsys, *options, other)
    assert (status, "has no onnx/encoder_int8.onnx" in said) == (2, True)
    shutil.copytree(checkpoint / "onnx", other / "onnx")
    status, said = run(capsys, *options, other)
    assert (status, "is not of this checkpoint" in said) == (2, True)
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "encoding": "joint"}))
    status, said = run(capsys, *options, checkpoint)
    assert (status, "encodes pairs together" in said) == (2, True)
    assert not (tmp_path / "web").exists()


def test_packages_are_installed_once_for_each_lock(tmp_path, monkeypatch):
    """By npm, without running their scripts; what fails is told, and not taken for installed."""
    monkeypatch.setattr(static, "PACKAGES", tmp_path)
    calls, codes = [], [1, 0]

    def npm(command, **options):
        calls.append(command)
        (tmp_path / "node_modules").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, codes.pop(0), "", "no such host")

    monkeypatch.setattr(static.subprocess, "run", npm)
    with pytest.raises(OSError, match=r"cannot be installed .*no such host"):
        static.vendored()
    assert static.vendored() == static.vendored() == tmp_path
    assert len(calls) == 2
    assert all("--ignore-scripts" in command for command in calls)

    def missing(command, **options):
        raise FileNotFoundError

    monkeypatch.setattr(static.subprocess, "run", missing)
    (tmp_path / "node_modules" / ".installed").unlink()
    with pytest.raises(OSError, match="npm is not installed"):
        static.vendored()


def test_the_lock_has_a_hash_for_every_package():
    """So that npm takes nothing else, from wherever; and versions are exact."""
    entries = json.loads((static.WEB / static.LOCK).read_text())["packages"]
    root = entries.pop("")
    assert all(entry["integrity"].startswith("sha512-") for entry in entries.values())
    assert all(re.fullmatch(r"[\d.]+", version) for version in root["dependencies"].values())
    assert root["dependencies"] == json.loads((static.WEB / "package.json").read_text())["dependencies"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--static-space a/b", "--static-space goes with --model"),
        ("--static-space a/b --model x --tag v1", "--static-space goes with --model"),
        ("--static-space --model x", "give --static-space OWNER/PAGE, or --dry-run FOLDER"),
        ("--static-space page --model x", "--static-space is OWNER/NAME, not 'page'"),
    ],
)
def test_options_of_a_static_space(options, complaint, capsys):
    """Told at once, with what to do."""
    with pytest.raises(SystemExit):
        push_to_hub.main(options.split())
    assert complaint in " ".join(capsys.readouterr().err.split())


# The same decisions ---------------------------------------------------------------------------------------

# As `python.js` calls the bridge, without torch and transformers; the tokenizer knows words and signs.
ASKS = """
import json, re, sys
sys.path.insert(0, sys.argv[1])
import bridge

class Tokens:
    unknown, most = 1, 512

    def read(self, text):
        def unit(place):
            return len(text[:place].encode("utf-16-le")) // 2
        found = list(re.finditer(r"\\w+|[^\\w\\s]", text))
        ids = [2 if one[0].isascii() else 1 for one in found]
        return json.dumps({"ids": ids, "places": [[unit(one.start()), unit(one.end())] for one in found]})

    def decode(self, ids):
        return "word " * len(json.loads(ids))

    def vocabulary(self):
        return json.dumps({word: 2 for word in "the it is in here no a of rain".split()})

window = bridge.connect(Tokens(), sys.argv[2])
answers = [json.loads(bridge.call(name, json.dumps(values))) for name, values in json.load(sys.stdin)]
print(json.dumps([window, *answers, sorted({"torch", "transformers"} & set(sys.modules))]))
"""
CONFIG = {
    "encoder_config": {"model_type": "bert", "max_position_embeddings": 512},
    "id2label": {"0": "entailment", "1": "neutral", "2": "contradiction"},
    "label2id": {"entailment": 0, "neutral": 1, "contradiction": 2},
    "abstention_threshold": 0.4,
    "evidence": None,
}
ODD = [
    "😀 Hello! The dog 🏳️‍🌈 runs [1]. It sleeps 𝔘.",
    "**Rules**\n\n- No dogs 😀\n- No bikes\n\nSources:\n[1] rules.pdf",
    "| Place | Sat |\n|---|---|\n| Harbour 😀 | closed |\n| Market | 09:00 |\n\n猫。犬！ AT&amp;T. Café",
    "\u2028 x\x85y. \x1c z",
]


@pytest.fixture
def asks(packages, checkpoint, tmp_path):
    """Asks the Python of a written page, in an interpreter that has no packages."""
    (tmp_path / "page").mkdir()
    static.write_static(tmp_path / "page", checkpoint)

    def ask(*questions: tuple) -> list:
        command = [sys.executable, "-I", "-S", "-c", ASKS, str(tmp_path / "page/python"), json.dumps(CONFIG)]
        done = subprocess.run(command, input=json.dumps(questions), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        window, *answers, there = json.loads(done.stdout)
        assert window == 512
        return [*answers, there]

    return ask


def units(text: str, span) -> str:
    """What stands at a place that is counted in units of UTF-16."""
    return text.encode("utf-16-le")[2 * span["start"] : 2 * span["end"]].decode("utf-16-le")


def test_an_answer_is_read_and_decided_by_the_package_itself(asks):
    """Claims, passages, what cannot be about a claim, verdicts: with the places of JavaScript."""
    texts = [*ODD, *(text.replace("|", "") for kind in KINDS.values() for text in kind)]
    texts = [text for text in texts if re.search(r"\w", text)]
    compared = asks(*(("compare", (text, text)) for text in texts))
    assert compared.pop() == ["torch", "transformers"]  # which stand for what is not there
    for text, found in zip(texts, compared, strict=True):
        parts = [part for part in read_parts(text, split_sentences(text)) if part.judged]
        assert found["value"]["claims"] == [part.plain.text for part in parts], text
        assert found["value"]["sentences"] == [one.text for one in statements(text)], text
        assert all(abs(sum(share) - 1) < 1e-6 for share in found["value"]["shares"])
    for text, found in zip(ODD, compared, strict=False):
        value = found["value"]
        met = [
            {
                "matches": [[0.1] * len(share)] * 2,
                "passages": [
                    {
                        "row": row,
                        "nearness": 1.0,
                        "features": {},
                        "probs": [0.8, 0.1, 0.1],
                        "uncertainty": 0.1,
                        "unread": False,
                    }
                    for row in range(len(value["passages"]))
                    if row not in silent
                ],
            }
            for share, silent in zip(value["shares"], value["silent"], strict=True)
        ]
        _, decided, _ = asks(("compare", (text, text)), ("decide_answer", (met, None)))
        sentences = decided["value"]["sentences"]
        assert {one["verdict"] for one in sentences} - {None}
        for one in sentences:
            assert units(text, one) == one["text"]
            for place in (*one["evidence"], *one["unsupported"]):
                assert units(text, place) == place["text"]


def test_pairs_are_overruled_by_the_package_itself(asks):
    """Word for word, text that is not read, unknown signs, a number; else what the heads say."""
    pairs = [
        ("It is here. It rains.", "it rains"),
        ("It is ✅ here.", "It is ❌ here."),
        ("The rain is in at 7 a.m. here.", "The rain is in at 7 p.m. here."),
        ("The rain is here.", "It is no rain."),
    ]
    said = {"probs": [0.9, 0.06, 0.04], "uncertainty": 0.1, "unread": False, "truncated": False}
    found = [one["value"] for one in asks(*(("decide_pair", (*pair, said, 0.4)) for pair in pairs))[:-1]]
    assert [one.get("rule") for one in found] == ["verbatim", None, None, None]
    assert [one["reason"] for one in found] == [None, guards.SIGNS, guards.QUANTITY, None]
    assert [one["abstain"] for one in found] == [False, True, True, False]
    unsure, _ = asks(("decide_pair", (*pairs[3], {**said, "uncertainty": 0.4}, 0.4)))
    assert (unsure["value"]["abstain"], unsure["value"]["reason"]) == (True, guards.UNCERTAIN)
    strange = {**said, "uncertainty": 1.0, "unread": True}
    same, other, _ = asks(*(("decide_pair", (*pair, strange, 0.4)) for pair in (pairs[0], pairs[3])))
    assert (same["value"]["abstain"], same["value"]["rule"]) == (False, "verbatim")
    assert (other["value"]["abstain"], other["value"]["reason"]) == (True, guards.UNREADABLE)


def test_what_has_no_word_is_told(asks):
    """An answer without words is an error that says so; a text without any gets no route."""
    error, route, other, _ = asks(
        ("compare", ("?!", "It rains.")),
        ("read_categories", ("✅", ["RefundRequest"], ["It asks for money."])),
        ("read_categories", ("x", [], [])),
    )
    assert "no words" in error["error"]
    assert route["value"]["declined"]["category"] is None
    assert route["value"]["words"] == ["refund request"]
    assert [one["value"]["readable"] for one in (route, other)] == [False, True]
    assert other["value"]["ANY_TEXT"] == list(routing.ANY_TEXT)


def in_node(folder: Path, module: str, code: str, given: object) -> object:
    """What an expression of `given` and of a module of the page comes to in Node."""
    if shutil.which("node") is None:
        pytest.skip("Node.js is missing, in which the page's modules run without a browser")
    (folder / "package.json").write_text('{"type": "module"}')
    script = (
        f'import * as module from "{(folder / module).as_uri()}";'
        "const given = JSON.parse((await import('node:fs')).readFileSync(0, 'utf8'));"
        f"console.log(JSON.stringify({code}));"
    )
    command = ["node", "--input-type=module", "--eval", script]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_routes_come_to_the_same_in_node(tmp_path):
    """Of random scores, some of them equal, with a background and without."""
    for name in ("route.js", "numbers.js"):
        shutil.copy(static.WEB / name, tmp_path)
    entry = {**routing.UNFITTED, "offset": -1.0, "slope": 0.3, "background": 30.0, "background_offset": 8.0}
    draw, given, expected = torch.Generator().manual_seed(0), [], []
    for count in (1, 2, 3, 12) * 25:
        scores = 4 * torch.rand(count, generator=draw) - 2
        if count > 2 and len(given) % 3 == 0:
            scores[1] = scores[0]
        anything = torch.rand(1, 5, generator=draw)
        near = torch.rand(5, count, generator=draw)
        evidence = routing.CategoryScores(scores[None], scores[None], None, None, anything, near)
        known = dict(entry) if len(given) % 2 else {key: entry[key] for key in routing.UNFITTED}
        names = [f"kind {row}" for row in range(count)]
        (result,) = routing.routes(routing.decide(evidence, known), names, 0.7, False)
        given.append([scores.tolist(), evidence.background().item(), names, known])
        expected.append(result)
    values = {"CLOSE": routing.CLOSE, "NO_CHOICE": routing.NO_CHOICE}
    code = "given[0].map(([scores, near, ...rest]) => module.decided(scores, near, ...rest, 0.7, given[1]))"
    for ours, theirs in zip(in_node(tmp_path, "route.js", code, [given, values]), expected, strict=True):
        assert (ours["category"], ours["reason"]) == (
            theirs["category"],
            theirs["reason"] and in_quotes(theirs),
        )
        assert ours["uncertainty"] == pytest.approx(theirs["uncertainty"], abs=1e-5)
        assert [value for _, value in ours["ranking"]] == pytest.approx(
            [v for _, v in theirs["ranking"]], abs=1e-5
        )
    assert {one["category"] is None for one in expected} == {True, False}
    assert {str(one["reason"])[:3] for one in expected} == {"Non", "too", "not"}


def test_the_page_has_what_python_has(tmp_path):
    """Texts, limits and signs that both need stand in Python alone; what a module takes of them is there."""
    (tmp_path / static.CONSTANTS).write_text(static.constants())
    known = in_node(tmp_path, static.CONSTANTS, "{ ...module }", None)
    assert (known["MEANINGS"], known["MAX_CHARACTERS"]) == (answers.MEANINGS, answers.MAX_CHARACTERS)
    assert list(known["TONES"].items()) == list(documents.TONES.items())
    assert not known["SPACES"].strip()
    assert known["LINE_BREAKS"] == "".join(sign for sign in known["SPACES"] if sign != sign.splitlines()[0])
    taken = set()
    for path in static.WEB.glob("*.js"):
        for names in re.findall(rf'import {{ (.*?) }} from "./{static.CONSTANTS}"', path.read_text()):
            taken |= set(names.split(", "))
    assert taken == set(known)


@pytest.mark.parametrize("of_domains", [False, True])
def test_a_guarantee_is_worded_alike_in_node(tmp_path, tiny_bert, of_domains):
    """For pairs like calibration's, and for kinds of text never seen."""
    (tmp_path / static.CONSTANTS).write_text(static.constants())
    shutil.copy(static.WEB / "guarantee.js", tmp_path)
    model = make_model(tiny_bert, "separate")
    calibration = {"separate": entry({0.05: None, 0.1: 0.4})}
    if of_domains:
        draw = np.random.default_rng(0)
        uncertainty = [draw.uniform(0, 0.5, 300) for _ in range(12)]
        kinds = {f"kind {row}": (draw.random(300) < 0.5 * one, one) for row, one in enumerate(uncertainty)}
        calibration["separate"]["domains"] = domain_guarantee(kinds)
    model.set_calibration(calibration, 0.4)
    pipe = model.as_pipeline(device="cpu")
    offered = in_node(tmp_path, "guarantee.js", "module.choices(given)", {"calibration": calibration})
    assert offered
    for one in offered:
        assert (one["threshold"], one["guarantee"], one["detail"]) == limit(pipe, one["risk"])


def in_quotes(result: dict) -> str:
    return re.sub(r"'([^']*)'", r"“\1”", result["reason"])


def test_passages_are_as_near_in_node(tmp_path, tiny_bert):
    """Features and the nearest passages of each size, of random states."""
    for name in ("check.js", "coverage.js", "numbers.js"):
        shutil.copy(static.WEB / name, tmp_path)
    (tmp_path / "tokens.js").write_text("export const checkText = null;")
    draw = torch.Generator().manual_seed(0)
    lengths = [5, 9, 4, 12, 3, 7, 6]
    states = [torch.randn(length, 2, 8, generator=draw) for length in lengths]
    claim, *sentences = states
    passages = [(at, at + 1) for at in range(6)] + [(at, at + 3) for at in range(4)]
    ours, theirs = TokenStates.gather([claim], None), TokenStates.gather(sentences, None)
    layers = [of_passages(best_matches(ours, theirs, layer), passages) for layer in (0, -1)]
    share = torch.tensor([0.5, 0.25, 0.25])
    features = {
        "cosine": cosines(ours, theirs, passages)[0],
        "coverage": layers[1].mean(dim=0),
        "words": layers[0].mean(dim=0),
        "content": share @ layers[0],
    }
    nearness = {"cosine": 3.0, "coverage": 10.0, "words": 10.0, "content": 1.0}
    near = sum(weight * features[name] for name, weight in nearness.items())
    silent = [2, 7]
    near[silent] = -torch.inf
    chosen = [near[:6].topk(3).indices.tolist(), (6 + near[6:].topk(2).indices).tolist()]
    asked = {
        "passages": passages,
        "sizes": [0] * 6 + [1] * 4,
        "silent": [silent],
        "shares": [share.tolist()],
        "rules": {"nearness": nearness, "candidates": [3, 2]},
    }
    code = """await (async () => {
        const { innerSum } = await import(given.coverage);
        const [claim, ...sentences] = given.states.map((layers) => {
            const layer = (number) => Float32Array.from(layers.at(number).flat());
            return { length: layers[0].length, width: 8, layer };
        });
        return module.nearest(claim, 0, sentences, sentences.map(innerSum), given.asked);
    })()"""
    given = {"states": [one.transpose(0, 1).tolist() for one in states], "asked": asked}
    given["coverage"] = (tmp_path / "coverage.js").as_uri()
    found = in_node(tmp_path, "check.js", code, given)
    assert [one["row"] for one in found["passages"]] == [*chosen[0], *chosen[1]]
    for one in found["passages"]:
        for name, values in features.items():
            assert one["features"][name] == pytest.approx(values[one["row"]].item(), abs=1e-4)
        assert one["nearness"] == pytest.approx(near[one["row"]].item(), abs=1e-3)
    spoken = [row for row in range(len(passages)) if row not in silent]
    for layer, values in zip(found["matches"], layers, strict=True):
        assert layer == pytest.approx(values[:, spoken].amax(dim=1).tolist(), abs=1e-4)
