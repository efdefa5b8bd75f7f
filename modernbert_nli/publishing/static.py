"""A page that runs the int8 graphs of a checkpoint in its visitors' browsers: a folder for any static server.

    folder/
      index.html, *.js, *.css   of `web/` and `modernbert_nli/page/style.css`
      constants.js              what the modules of the page have in common with the package's
      index.json                which files are read, with their sizes; examples; what the page is about
      model/                    configuration, tokenizer, graphs
      python/                   `web/bridge.py`, and the modules of the package that it imports, as they are
      vendor/                   the few files of npm packages that the page needs, at the versions of
                                `web/package-lock.json`, whose hashes npm checks

As a static Space it needs no machine of the Hub. Nothing is built, nothing is fetched from elsewhere.
"""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from ..calibration import expanded
from ..categories import TEMPLATE
from ..loading import stored_config
from ..onnx_backend import FOLDER, INT8_GUARANTEE, graph_file
from ..page import answers, documents, drawing, examples, guarantee
from ..repository import PACKAGE, ROOT, is_clone, licence
from .graphs import check_graph
from .upload import REPOSITORY, refuse_others

WEB = ROOT / "web"
BRIDGE = WEB / "bridge.py"
CONSTANTS = "constants.js"
LOCK = "package-lock.json"
PACKAGES = ROOT / "build" / "npm"  # where npm installs them, once for each lock
GRAPHS = (graph_file("encoder", int8=True), graph_file("heads", int8=True))
MARK = "page.js"  # by which a Space is known as this page
# Without these a browser gives WebAssembly one thread.
HEADERS = {
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "cross-origin",
}

_TEXTS = ("config.json", "tokenizer.json", "tokenizer_config.json")
_RUNTIME = "vendor/onnxruntime-web/ort-wasm-simd-threaded.wasm"
# By place in the page: package, and file in it.
VENDORED = {
    "vendor/onnxruntime-web/ort.wasm.bundle.min.mjs": ("onnxruntime-web", "dist/ort.wasm.bundle.min.mjs"),
    _RUNTIME: ("onnxruntime-web", "dist/ort-wasm-simd-threaded.wasm"),
    "vendor/tokenizers/tokenizers.min.mjs": ("@huggingface/tokenizers", "dist/tokenizers.min.mjs"),
    "vendor/tokenizers/LICENSE": ("@huggingface/tokenizers", "LICENSE"),
    **{
        f"vendor/pyodide/{name}": ("pyodide", name)
        for name in (
            "pyodide.mjs",
            "pyodide.asm.mjs",
            "pyodide.asm.wasm",
            "pyodide-lock.json",
            "python_stdlib.zip",
        )
    },
}
_NEW_SPACE = (".gitattributes", "README.md", "index.html", "style.css")  # what a new one may hold

_README = """---
{front}---

# ModernBERT-NLI in your browser

Does a text support a claim, contradict it, or say nothing about it? The model answers, and where it had
better not, it abstains. It runs on the visitor's own machine, and what is written there stays there.

{model}Serve this folder by anything: `python -m http.server`, then http://127.0.0.1:8000. Several threads
are used where the server sends the headers that are named above.

`vendor/` has files of these packages, unchanged: {packages}.
"""


def write_static(folder: Path, checkpoint: Path, model_id: str | None = None) -> list[str]:
    """Write the page of a checkpoint into an empty folder: the paths of its files.

    Args:
        folder (`Path`): Where to.
        checkpoint (`Path`): What `export.py --int8` wrote.
        model_id (`str`, *optional*): Its repository on the Hub, which the page then names.

    Raises:
        ValueError: it has no int8 graphs, or they are of other heads, or it does not encode texts alone.
        OSError: the npm packages cannot be installed.
    """
    if model_id is not None and not REPOSITORY.fullmatch(model_id):
        raise ValueError(f"The model's repository is owner/name, not {model_id!r}.")
    if not is_clone():
        raise ValueError("This page is made in a clone of the repository, which has its sources in `web/`.")
    config = _checked(checkpoint)
    packages = vendored()
    files = {path: path.name for path in WEB.iterdir() if path.suffix in (".html", ".js", ".css")}
    files |= {PACKAGE / "page" / "style.css": "answers.css", licence(): "LICENSE"}
    files |= {packages / "node_modules" / package / file: at for at, (package, file) in VENDORED.items()}
    read = {checkpoint / name: f"model/{name}" for name in _TEXTS}
    read |= {checkpoint / FOLDER / name: f"model/{FOLDER}/{name}" for name in GRAPHS}
    if (int8 := checkpoint / FOLDER / INT8_GUARANTEE).is_file():
        read[int8] = f"model/{FOLDER}/{int8.name}"
    read |= {path: f"python/{name}" for name, path in python_files().items()}
    for path, name in (files | read).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    # What it guarantees is read there with the rest, as it is used, not as it is stored.
    _write_json(folder / "model/config.json", config)
    if int8.is_file():
        stored = json.loads(int8.read_text(encoding="utf-8"))
        calibration = expanded(stored.get("calibration") or {}) or None
        _write_json(folder / read[int8], {**stored, "calibration": calibration})
    (folder / CONSTANTS).write_text(constants(), encoding="utf-8")
    package = "python/modernbert_nli/__init__.py"
    (folder / package).write_text("")  # the real one is for what is not here
    loaded = [*read.values(), package, _RUNTIME]
    name = model_id or config["base_model_name_or_path"]
    about = f"Small heads on the frozen encoder {config['base_model_name_or_path']}, in int8."
    index = {
        "files": {path: (folder / path).stat().st_size for path in sorted(loaded)},
        "examples": {"pair": examples.PAIRS, "route": examples.ROUTES, "check": examples.FACTS},
        "about": about if model_id is None else f"{name}: {about[0].lower()}{about[1:]}",
    }
    (folder / "index.json").write_text(json.dumps(index, ensure_ascii=False, indent=1), encoding="utf-8")
    (folder / "README.md").write_text(_readme(packages, model_id), encoding="utf-8")
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def constants() -> str:
    """What the page's modules have in common with the package's, as a module of JavaScript."""
    spaces = "".join(sign for sign in map(chr, range(sys.maxunicode + 1)) if sign.isspace())
    values = {
        "MAX_CHARACTERS": answers.MAX_CHARACTERS,
        "MAX_CATEGORIES": answers.MAX_CATEGORIES,
        "MEANINGS": answers.MEANINGS,
        "SHOWN": answers.SHOWN,
        "QUOTED": drawing.QUOTED,
        "TONES": documents.TONES,
        "NOT_COVERED": guarantee.NOT_COVERED,
        "NOT_COVERED_BY_DOMAINS": guarantee.NOT_COVERED_BY_DOMAINS,
        "TEMPLATE": TEMPLATE,
        "SPACES": spaces,  # what Python calls white space
        "LINE_BREAKS": "".join(sign for sign in spaces if len(f"a{sign}b".splitlines()) == 2),
    }
    lines = [f"export const {name} = {json.dumps(value)};\n" for name, value in values.items()]
    return "".join(["// Written by `modernbert_nli/publishing/static.py`.\n\n", *lines])


def python_files() -> dict[str, Path]:
    """The Python that the page runs, by its place there: the bridge, and what that imports of the package."""
    package = PACKAGE
    files, waiting, bridge = {BRIDGE.name: BRIDGE}, [BRIDGE], BRIDGE.read_text(encoding="utf-8")
    while waiting:
        for node in ast.parse(waiting.pop().read_text(encoding="utf-8")).body:
            name = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if not isinstance(node, ast.ImportFrom) or not (node.level or name.startswith(package.name)):
                continue
            modules = [one.name for one in node.names] if name == package.name else [name.rpartition(".")[2]]
            for path in [package / f"{module}.py" for module in modules]:
                place, elsewhere = f"{package.name}/{path.name}", f'"{package.name}.{path.stem}"' in bridge
                if place not in files and not elsewhere:
                    files[place] = path
                    waiting.append(path)
    return files


def vendored() -> Path:
    """The folder with the installed npm packages; installed where they are not those of the lock.

    Raises:
        OSError: npm is missing, or cannot reach its registry.
    """
    lock = (WEB / LOCK).read_bytes()
    installed = PACKAGES / "node_modules" / ".installed"  # the lock that they are of, written last
    if installed.is_file() and installed.read_bytes() == lock:
        return PACKAGES
    PACKAGES.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", LOCK):
        shutil.copyfile(WEB / name, PACKAGES / name)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(command, cwd=PACKAGES, capture_output=True, text=True)
    except FileNotFoundError:
        raise OSError("npm is not installed, by which the page gets its packages: install Node.js.") from None
    if done.returncode:
        said = " ".join(done.stderr.split())[-300:]
        raise OSError(f"The npm packages of the page cannot be installed (`{' '.join(command)}`): {said}")
    installed.write_bytes(lock)
    return PACKAGES


def no_other_page(info: Any) -> None:
    """Raise a `PublishError` where the repository holds something that this page would be written into."""
    refuse_others(info, MARK, _NEW_SPACE)


def _checked(checkpoint: Path) -> dict[str, Any]:
    """The configuration of a checkpoint whose graphs are its own."""
    from ..loading import load_pipeline

    missing = [name for name in _TEXTS if not (checkpoint / name).is_file()]
    missing += [f"{FOLDER}/{name}" for name in GRAPHS if not (checkpoint / FOLDER / name).is_file()]
    if missing:
        raise ValueError(
            f"{checkpoint} has no {missing[0]}, which the page needs: name the folder that `python export.py "
            "--model CHECKPOINT --output FOLDER --int8` writes, of heads that encode texts alone."
        )
    config = stored_config(checkpoint)
    if config["encoding"] != "separate":
        raise ValueError(
            f"{checkpoint} encodes pairs together; the page needs heads that encode texts alone."
        )
    model = load_pipeline(str(checkpoint), device="cpu", backend="onnx-int8").model
    for name in GRAPHS:
        check_graph(checkpoint / FOLDER / name, model)
    if problem := model.stale_calibration():
        raise ValueError(f"{checkpoint / FOLDER / INT8_GUARANTEE}: {problem}")
    return config


def _readme(packages: Path, model_id: str | None) -> str:
    front: dict[str, Any] = {
        "title": "ModernBERT-NLI in your browser",
        "short_description": "Natural language inference on your own machine",
        "sdk": "static",
        "app_file": "index.html",
        "license": "apache-2.0",
        "custom_headers": HEADERS,
    }
    if model_id is not None:
        front["models"] = [model_id]
    names = []
    for package in sorted({package for package, _ in VENDORED.values()}):
        path = packages / "node_modules" / package / "package.json"
        entry = json.loads(path.read_text(encoding="utf-8"))
        names.append(
            f"[{package}](https://www.npmjs.com/package/{package}) {entry['version']} ({entry['license']})"
        )
    return _README.format(
        front=yaml.safe_dump(front, sort_keys=False),
        model=f"The model is [{model_id}](https://huggingface.co/{model_id}).\n" if model_id else "",
        packages=", ".join(names),
    )
