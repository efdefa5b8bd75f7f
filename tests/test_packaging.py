"""What `pip install .` brings: one package with its checkpoint, under no name of common use, that judges."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import HANGS, PACKAGE, ROOT

pytest.importorskip("setuptools", reason="setuptools, which builds the wheel, is not installed")

CHECKPOINT = ROOT / "checkpoints" / "quickstart"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, in which whatever a build leaves behind does no harm."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for path in [*ROOT.glob("*.py"), *(ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE"))]:
        shutil.copy(path, source)
    for path in ("modernbert_nli", "checkpoints/quickstart", "training", "page"):
        shutil.copytree(ROOT / path, source / path)
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(folder)],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / done.stdout.split()[-1]


def test_the_wheel_holds_the_package_and_its_checkpoint(wheel):
    """Modules, weights, the licence, and nothing else: the commands stay in the repository."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    found = {name for name in names if ".dist-info/" not in name}
    assert found == {f"modernbert_nli/{path.name}" for path in PACKAGE.glob("*.py")} | {
        f"modernbert_nli/quickstart/{path.relative_to(CHECKPOINT).as_posix()}"
        for path in CHECKPOINT.rglob("*")
        if path.is_file()
    }
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert wheel.stat().st_size < 5 * 2**20


def test_what_is_installed_judges_without_consent_or_network(wheel, tmp_path):
    """Three lines, far from this repository; and importing alone loads no library, and says nothing."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    code = (
        "import json, sys, modernbert_nli\n"
        "light = not {'torch', 'transformers'} & set(sys.modules)\n"
        "nli = modernbert_nli.load()\n"
        "answer = nli('A man is playing guitar on stage.', 'A person is making music.')\n"
        "print(json.dumps([modernbert_nli.__file__, light, answer['label'], answer['abstain']]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    where, light, label, abstains = json.loads(done.stdout)  # the one line that is printed
    assert Path(where).is_relative_to(tmp_path)
    assert (light, label, abstains) == (True, "entailment", False)
