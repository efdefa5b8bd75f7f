"""The page that computes in the browser: what its folder holds, and how it is sent."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, make_model, reach
from loopback_hub import LoopbackHub
from promises import entry

pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

import onnx

import calibrate
import push_to_hub
from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel
from modernbert_nli.onnx_backend import METADATA, graph_identity
from publishing import static

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
    assert not [name for name in files if name.endswith((".safetensors", ".py", "package-lock.json"))]
    index = json.loads(files["index.json"].read_text())
    assert all(files[path].stat().st_size == size for path, size in index["files"].items())
    assert {"model/config.json", "model/onnx/encoder_int8.onnx"} <= set(index["files"])
    for name, path in files.items():
        if path.suffix in (".js", ".html", ".css"):
            text = path.read_text()
            assert not FETCHED.search(text), name
            for other in re.findall(r"""from "\./([^"]+)"|(?:src|href)="([\w.]+)\"""", text):
                assert next(filter(None, other)) in files, (name, other)
    assert "default-src 'none'" in files["index.html"].read_text()
    assert str(ROOT) not in "".join(path.read_text(errors="replace") for path in files.values())


def test_what_int8_promises_goes_along(packages, checkpoint, tmp_path):
    """Where it was calibrated, and for these heads only."""
    promise = checkpoint / "onnx" / "int8.json"
    stored = {"calibration": None, "calibrated_heads": None, "abstention_threshold": 0.3}
    promise.write_text(json.dumps(stored))
    (tmp_path / "web").mkdir()
    static.write_static(tmp_path / "web", checkpoint)
    assert json.loads((tmp_path / "web/model/onnx/int8.json").read_text()) == stored
    promise.write_text(json.dumps({**stored, "calibrated_heads": "0" * 64}))
    with pytest.raises(ValueError, match=r"int8\.json: .* was made for other heads"):
        static.write_static(tmp_path / "web", checkpoint)


def test_the_page_gets_a_calibration_as_it_is_used(packages, checkpoint, tiny_bert, tmp_path, monkeypatch):
    """By row and with its configuration, which is stored by column and beside it."""
    monkeypatch.setattr(ModernBertNliModel, "changed_base", lambda self: None)  # these graphs compute nothing
    model = ModernBertNliModel.from_pretrained(checkpoint, base_model_name_or_path=tiny_bert)
    model.set_calibration({"separate": entry({0.05: None, 0.1: 0.4})}, 0.4)
    model.config.save_pretrained(checkpoint)
    promise = {name: getattr(model.config, name) for name in calibrate.CALIBRATED}
    calibrate.write(promise, str(checkpoint), None, None, int8=True)
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
