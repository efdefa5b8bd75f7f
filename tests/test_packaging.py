"""What `pip install .` brings: what a checkpoint ships and the loader, under no name of common use."""

import ast
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import HANGS, ROOT

pytest.importorskip("setuptools", reason="setuptools, which builds the wheel, is not installed")


def test_the_wheel_holds_what_others_import(tmp_path):
    """The shipped files and the loader, the licence, and nothing else: the commands stay here."""
    source = tmp_path / "source"
    source.mkdir()
    for path in [*ROOT.glob("*.py"), *(ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE"))]:
        shutil.copy(path, source)
    for path in ("training", "page"):  # which no discovery may find
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
    assert modules == {"load_model.py", *(path.name for path in ROOT.glob("*_modernbert_nli.py"))}
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    # The loader needs nothing that was left behind.
    tree = ast.parse((ROOT / "load_model.py").read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {f"{name}.py" for name in imported} & {path.name for path in ROOT.glob("*.py")} <= modules
