"""The embedded default and the README: what a newcomer runs first, run."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import HANGS, ROOT
from safetensors import safe_open

from modernbert_nli import embedded
from modernbert_nli.embedded import CHECKPOINT, base_folder
from modernbert_nli.loading import stored_config
from modernbert_nli.prediction import command as predict

sys.path.insert(0, str(ROOT / "docs" / "render"))
import overview
import snippets
from readme import PAGES as PATHS
from readme import rendered

PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in PATHS}
DEMO = ("A man is playing guitar on stage.", "A person is making music.")
PAGES["CONTRIBUTING.md"] = (ROOT / "CONTRIBUTING.md").read_text()


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
    monkeypatch.setattr(embedded, "BASE_SHA256", "0" * 64)
    base_folder.cache_clear()
    with pytest.raises(ValueError, match=r"is not the file of .* on the Hub.*pip install --force-reinstall"):
        base_folder()


def test_a_missing_wheel_is_named(monkeypatch):
    """Without the wheel, the message says what to install."""
    monkeypatch.setattr(embedded, "WHEEL", "no-such-wheel")
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
        parts = {key.split(".")[0] for key in file.keys()}  # noqa: SIM118
        assert parts == {"nli_hidden", "nli_output", "abstention_head", "familiarity"}
        assert sum(file.get_tensor(key).numel() for key in file.keys()) <= 600_000  # noqa: SIM118
    files = list(CHECKPOINT.iterdir())
    assert not any(path.is_symlink() for path in files)
    sizes = {path.name: path.stat().st_size for path in files}
    assert sizes.pop("replay.safetensors", 0) <= 2**20
    assert sum(sizes.values()) <= 3 * 2**20
    config = json.loads((CHECKPOINT / "config.json").read_text())
    assert config["base_model_name_or_path"] == embedded.BASE
    assert config["base_model_revision"] == embedded.BASE_REVISION
    for path in files:
        if path.suffix == ".json":
            assert str(ROOT) not in path.read_text()
            assert "site-packages" not in path.read_text()
    assert not list(CHECKPOINT.glob("*.py"))  # the code is this package's


def judged(capsys, *arguments: str) -> dict:
    """What predict.py says of a pair, in this process."""
    assert predict.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_it_judges_what_a_newcomer_sees_first(capsys):
    """The pair of `make demo` is entailed, its opposite is not, and both come as a decision."""
    answer = json.loads(run(sys.executable, "predict.py", *DEMO, "--json"))
    assert answer["label"] == "entailment"
    assert answer["confidence"] == pytest.approx(answer["probs"]["entailment"])
    assert isinstance(answer["abstain"], bool)
    assert judged(capsys, DEMO[0], "Nobody is on the stage.")["label"] == "contradiction"


def test_heads_of_ones_own_on_the_embedded_base_need_no_hub(tmp_path, capsys):
    """What train.py proposes at its end works offline: the base comes from the wheel, by name and commit."""
    folder = shutil.copytree(CHECKPOINT, tmp_path / "mine")
    assert judged(capsys, *DEMO, "--model", str(folder)) == judged(capsys, *DEMO)
    assert embedded.embedded_folder(embedded.BASE, "f" * 40) is None
    assert embedded.embedded_folder("tester/other", embedded.BASE_REVISION) is None


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


# docs/own-data.md writes files, and has commands between its snippets: see below.
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if snippets.snippets(PAGES[page]) and page != "docs/own-data.md"],
)
def test_the_snippets_run_as_pasted_and_print_what_is_shown(page, hub):
    """From the top of a page, in a fresh process at the root, without asking a Hub that is there."""
    asked = len(hub.requests)
    printed = snippets.run(PAGES[page], HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0")
    assert snippets.wrong(PAGES[page], printed) == []
    assert not [request for request in hub.requests[asked:] if "/resolve/" in request.path]


def test_the_tutorial_on_own_data_runs_as_pasted(tmp_path):
    """Snippet after snippet and command after command, in a folder of links to the repository."""
    for path in ROOT.iterdir():
        if path.name not in (".git", ".venv", "runs"):
            (tmp_path / path.name).symlink_to(path)
    said = []
    for language, block in re.findall(r"```(python|bash)\n(.*?)```", PAGES["docs/own-data.md"], re.DOTALL):
        command = [sys.executable, "-c", block]
        if language == "bash":
            command = ["bash", "-ec", block.replace(".venv/bin/python", f'"{sys.executable}"')]
        known = {**os.environ, "PYTHONPATH": str(tmp_path), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=known, capture_output=True, text=True, timeout=HANGS)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert re.search(r"120 pairs.* A risk of 10%", said[1])
    assert "of these 40 pairs" in said[2]
    assert len((tmp_path / "runs/own/chosen/to_label.csv").read_text().splitlines()) == 21


def test_outputs_may_differ_by_a_rounding_alone():
    """Numbers by one in their last place; words, and how many numbers there are, not at all."""
    assert snippets.alike("entailment 88%, 0.12", "entailment 87%, 0.13")
    assert not snippets.alike("entailment 88%", "entailment 86%")
    assert not snippets.alike("entailment 0.88", "entailment 0.86")
    assert not snippets.alike("entailment 88%", "neutral 88%")
    assert not snippets.alike("88%", "88% 88%")
    page = "```python\nprint(1)\n```\n\n```text\n3\n```\n\n```python\nx = 1\n```\n"
    assert [code for code, _, _ in snippets.wrong(page, ["1\n", ""])] == ["print(1)\n"]
    assert snippets.refreshed(page, ["1\n", ""]) == page.replace("3", "1")
    assert snippets.wrong(page.replace("3", "2"), ["1\n", ""]) == []


@pytest.mark.parametrize("page", PAGES)
def test_what_pages_show_is_that_of_the_results(page):
    """docs/render/readme.py has nothing to change."""
    assert rendered(PAGES[page]) == PAGES[page]
    assert "Not measured yet" not in PAGES["README.md"]


def test_the_overview_is_that_of_the_checkpoint():
    """Each share that the calibration in its configuration names, and what is known of other text."""
    picture = overview.PICTURE.read_text()
    assert picture == overview.picture()
    config = stored_config(CHECKPOINT)
    rows = config["calibration"][config["encoding"]]["table"]
    (row,) = [row for row in rows if row["target_risk"] == 0.1]
    assert f">{row['coverage']:.0%}<" in picture
    guaranteed = {"table": rows, "n": 9, "delta": 0.1}
    domains = {"delta": 0.2, "table": [{"target_risk": 0.3, "threshold": 0.1, "coverage": 0.04}]}
    assert "at most 30% wrong, 4% answered, in 80%" in overview.drawn(
        {**guaranteed, "domains": domains}, "joint"
    )


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """Within the repository: to files, and to headings of pages."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGES[page]):
        name, _, heading = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), target
        headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE) if heading else []
        assert not heading or heading in [_anchor(title) for title in headings], target


def _anchor(title: str) -> str:
    """Of a heading, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
