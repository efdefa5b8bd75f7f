"""What `pip install .` brings: one package, under no name of common use."""

import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import HANGS, PACKAGE, ROOT

pytest.importorskip("setuptools", reason="setuptools, which builds the wheel, is not installed")


def test_the_wheel_holds_the_package(tmp_path):
    """Its modules, the licence, and nothing else: the commands stay here."""
    source = tmp_path / "source"
    source.mkdir()
    for path in [*ROOT.glob("*.py"), *(ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE"))]:
        shutil.copy(path, source)
    for path in ("modernbert_nli", "training", "page"):  # of which discovery may find the first alone
        shutil.copytree(ROOT / path, source / path)
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        names = wheel.namelist()
    modules = {name for name in names if ".dist-info/" not in name}
    assert modules == {f"modernbert_nli/{path.name}" for path in PACKAGE.glob("*.py")}
    assert any(name.endswith("/licenses/LICENSE") for name in names)
