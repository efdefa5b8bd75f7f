"""What `trust_remote_code` runs: the shipped files import little, and do nothing by being imported."""

import ast
import importlib.util
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import HANGS, PACKAGE, ROOT, SHIPPED

FILES = SHIPPED
# The third is what transformers reads weights with; the last two are imported where they are asked for alone.
LIBRARIES = {"torch", "transformers", "safetensors", "onnxruntime", "openvino"}
STANDARD = {
    "bisect",
    "collections",
    "contextlib",
    "contextvars",
    "copy",
    "dataclasses",
    "datetime",
    "functools",
    "hashlib",
    "html",
    "inspect",
}
STANDARD |= {
    "itertools",
    "json",
    "logging",
    "math",
    "numbers",
    "operator",
    "os",
    "pathlib",
    "re",
    "statistics",
    "tempfile",
    "threading",
    "typing",
    "unicodedata",
}
# What runs code that is not in the files, or reaches beyond the process.
FUNCTIONS = {"eval", "exec", "compile", "__import__", "breakpoint", "input", "open"}
METHODS = ("torch.load", "torch.hub", "os.exec", "os.spawn", "os.system", "os.popen", "importlib")
# Python's own doing while it finds and reads a module, and a decorator that looks at its function.
IMPORTING = {
    "import",
    "compile",
    "exec",
    "marshal.loads",
    "os.listdir",
    "sys._getframe",
    "object.__getattr__",
    "object.__setattr__",  # what a NamedTuple does to its own class
    "builtins.id",  # of a function that torch is told not to compile
}

_events: list[tuple[str, tuple]] | None = None
_watched = 0


def _hook(event: str, args: tuple) -> None:
    if _events is not None and threading.get_ident() == _watched:
        _events.append((event, args))


@contextmanager
def watched() -> Iterator[list[tuple[str, tuple]]]:
    """The audit events of this thread. A hook cannot be taken away again: outside of this it does nothing."""
    global _events, _watched
    if not getattr(_hook, "added", False):
        sys.addaudithook(_hook)
        _hook.added = True
    found: list[tuple[str, tuple]] = []
    _events, _watched = found, threading.get_ident()
    try:
        yield found
    finally:
        _events = None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_imported(path):
    """The standard library's harmless parts, torch, transformers with its safetensors, and each other."""
    siblings = {file.stem for file in FILES}
    tree = ast.parse(path.read_text())
    # What only the package has may be asked for, where its absence is said in a sentence.
    asked = {inner for node in ast.walk(tree) if isinstance(node, ast.Try) for inner in node.body}
    for node in ast.walk(tree):
        if node in asked and ast.unparse(node).startswith("from modernbert_nli."):
            continue
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
            assert names <= LIBRARIES | STANDARD, names
        elif isinstance(node, ast.ImportFrom):
            name = (node.module or "").partition(".")[0]
            assert name in (siblings if node.level else LIBRARIES | STANDARD), name
            assert node.level <= 1
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in FUNCTIONS, called
            assert not called.startswith(METHODS), called


def import_all(name: str, patch: pytest.MonkeyPatch) -> None:
    """The files as the modules of a package of that name, as transformers imports them."""
    package = types.ModuleType(name)
    package.__path__ = [str(PACKAGE)]
    patch.setitem(sys.modules, name, package)
    for path in FILES:
        importlib.import_module(f"{name}.{path.stem}")
    for path in FILES:
        patch.delitem(sys.modules, f"{name}.{path.stem}")


def test_importing_them_does_nothing(monkeypatch):
    """Under Python's own audit: no file but the modules themselves, no socket, no process."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import_all("unwatched", monkeypatch)  # what they need of the libraries is then there
    with watched() as events:
        import_all("watched", monkeypatch)
    assert len([event for event, _ in events if event == "exec"]) >= len(FILES)
    own = {str(path) for path in FILES} | {importlib.util.cache_from_source(str(path)) for path in FILES}
    for event, args in events:
        if event == "open":
            assert str(Path(args[0])) in own, args
        else:
            assert event in IMPORTING, (event, args)


def test_the_audit_sees_what_it_should():
    """A file, a socket, a process: each leaves an event, or the test above would be worth nothing."""
    import socket
    import subprocess

    with watched() as events:
        Path(__file__).read_bytes()
        socket.socket().close()
        subprocess.run(["true"], check=True)
    assert {"open", "socket.__new__", "subprocess.Popen"} <= {event for event, _ in events}


# Types ------------------------------------------------------------------------------------------------------

MYPY = """\
[mypy]
ignore_missing_imports = true
mypy_path = {root}

[mypy-torch.*,transformers.*,safetensors.*,numpy.*]
follow_imports = skip
"""
WRONG = """\
from modernbert_nli.fitting import RouteFeatures, adapted_routing
from modernbert_nli.categories import Categories
from modernbert_nli.configuration_modernbert_nli import UNFITTED
from modernbert_nli.routing import decide, guaranteed


def call(known: RouteFeatures, categories: Categories) -> None:
    adapted_routing(known, UNFITTED, categories, 0.1, 0)
    guaranteed(UNFITTED, "separate", categories, 0.1)
    decide(known, UNFITTED)
"""


def checked(folder: Path, code: str) -> list[str]:
    """What mypy says of a module that imports ours, in a line each."""
    pytest.importorskip("mypy", reason="mypy is missing, which `make check` runs")
    (folder / "mypy.ini").write_text(MYPY.format(root=ROOT))
    (folder / "snippet.py").write_text(code)
    words = ["--config-file", "mypy.ini", "--cache-dir", ".cache", "--no-error-summary", "snippet.py"]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *words], cwd=folder, capture_output=True, text=True, timeout=HANGS
    )
    assert not run.stderr
    return run.stdout.splitlines()


def test_types_are_checked_between_shipped_modules(tmp_path):
    """No name that one takes from another is `Any` to mypy, and a wrong argument is told: none was, once."""
    taken, decorated = set(), set()  # the latter by torch, whose types are left out here: they take long
    for path in SHIPPED:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                taken |= {(node.module, alias.name) for alias in node.names}
            elif isinstance(node, ast.FunctionDef) and node.decorator_list:
                decorated.add((path.stem, node.name))
    taken -= decorated
    imports = [
        f"from modernbert_nli.{module} import {name} as {module}__{name}" for module, name in sorted(taken)
    ]
    reveals = [f"reveal_type({module}__{name})" for module, name in sorted(taken)]
    said = checked(tmp_path, "\n".join([*imports, *reveals]))
    revealed = [line for line in said if "Revealed type" in line]
    assert len(revealed) == len(taken) > 50
    assert not [line for line in revealed if line.endswith('"Any"')]

    errors = [line.partition("error: ")[2] for line in checked(tmp_path, WRONG)]
    assert [error.rpartition("[")[2] for error in errors] == ["arg-type]", "call-arg]", "arg-type]"]
    assert 'Argument 4 to "adapted_routing" has incompatible type "float"; expected "str"' in errors[0]
