"""What `pip install .` brings: one package with its checkpoint, under no name of common use, that judges."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import HANGS, PACKAGE, ROOT

from modernbert_nli.__main__ import COMMANDS

pytest.importorskip("setuptools", reason="setuptools, which builds the wheel, is not installed")

CHECKPOINT = ROOT / "checkpoints" / "quickstart"
PAIR = ("A man is playing guitar on stage.", "A person is making music.")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy, in which whatever a build leaves behind does no harm."""
    folder = tmp_path_factory.mktemp("build") / "source"
    folder.mkdir()
    for path in [*ROOT.glob("*.py"), *(ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE"))]:
        shutil.copy(path, folder)
    for path in ("modernbert_nli", "checkpoints/quickstart", "model_card", "tests"):
        shutil.copytree(ROOT / path, folder / path, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def run(*words: str, **options) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=HANGS, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(source) -> Path:
    """As a tool that builds gets it from setuptools."""
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    return source.parent / run(sys.executable, "-c", build, str(source.parent), cwd=source).split()[-1]


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder with nothing but this package, for `PYTHONPATH`."""
    folder = tmp_path_factory.mktemp("installed")
    pip = ("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--target")
    run(sys.executable, *pip, str(folder), str(wheel))
    return folder


def contents() -> set[str]:
    """What belongs to the package: its modules, what they read, the checkpoint."""
    read = ("recipes/*.yaml", "*.css")
    of_package = {path for pattern in ("*.py", *read) for path in PACKAGE.rglob(pattern)}
    of_package |= {path for path in PACKAGE.glob("metrics/*/*.*") if path.is_file()}
    beside = {CHECKPOINT: "quickstart", ROOT / "model_card": "model_card"}
    return {path.relative_to(ROOT).as_posix() for path in of_package} | {
        f"modernbert_nli/{name}/{path.relative_to(folder).as_posix()}"
        for folder, name in beside.items()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_wheel_holds_the_package_and_its_checkpoint(wheel):
    """All folders of the package, what its modules read, weights, the licence; nothing beside the package."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name for name in names if ".dist-info/" not in name} == contents()
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert wheel.stat().st_size < 5 * 2**20


def test_a_registry_takes_what_is_built(source, tmp_path):
    """`python -m build` makes a source distribution, and a wheel from that; both describe themselves well."""
    for name in ("build", "twine"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(source))
    paths = sorted(tmp_path.iterdir())
    assert [path.name.endswith(kind) for path, kind in zip(paths, (".whl", ".tar.gz"), strict=True)]
    with zipfile.ZipFile(paths[0]) as archive:
        assert contents() <= set(archive.namelist())
    with tarfile.open(paths[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if "/" in name}
    packed = {
        name.replace("modernbert_nli/quickstart", "checkpoints/quickstart").replace(
            "modernbert_nli/model_card", "model_card"
        )
        for name in contents()
    }
    assert packed | {"LICENSE", "README.md", "pyproject.toml"} <= names
    said = run(sys.executable, "-m", "twine", "check", *map(str, paths))
    assert said.count("PASSED") == 2


def test_the_command_tells_what_there_is_at_once(installed, tmp_path):
    """Without loading anything; an unknown name is told."""
    script = installed / "bin" / "modernbert-nli"
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONVERBOSE": ""}
    said = run(sys.executable, str(script), cwd=tmp_path, env=environment)
    names = [line.split()[0] for line in said.splitlines() if line.startswith("  ")]
    assert names == list(COMMANDS)
    assert run(sys.executable, "-m", "modernbert_nli", cwd=tmp_path, env=environment) == said
    done = subprocess.run(
        [sys.executable, str(script), "jugde"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("modernbert-nli: error: 'jugde' is no command: predict, check, ")


def test_what_is_installed_judges_without_consent_or_network(installed, tmp_path):
    """In three lines, and by the command, far from this repository; importing alone loads no library."""
    code = (
        "import json, sys, modernbert_nli\n"
        "from importlib.metadata import entry_points\n"
        "light = not {'torch', 'transformers'} & set(sys.modules)\n"
        "nli = modernbert_nli.load()\n"
        f"answer = nli{PAIR!r}\n"
        "print(json.dumps([modernbert_nli.__file__, light, answer['label'], answer['abstain']]))\n"
        "(command,) = entry_points(group='console_scripts', name='modernbert-nli')\n"
        f"sys.exit(command.load()(['predict', *{PAIR!r}, '--json']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"}
    said = run(sys.executable, "-c", code, cwd=tmp_path, env=environment)
    first, second = map(json.loads, said.splitlines())  # the lines that are printed
    where, light, label, abstains = first
    assert Path(where).is_relative_to(installed)
    assert (light, label, abstains) == (True, "entailment", False)
    assert (second["label"], second["abstain"]) == (label, abstains)
