"""What a run leaves beside its checkpoint, so that it can go on after an interruption."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def prepare_work_folder(folder: Path, identity: dict[str, Any], resume: bool) -> None:
    """Empty the work folder of a run that starts; check that of one that goes on.

    Args:
        folder (`Path`): Trainer's checkpoints and all that is not published.
        identity (`dict`): Options and data on which the heads depend.
        resume (`bool`): Go on where that folder was left, if there is one.

    Raises:
        ValueError: it was left by a run with other options; they are named.
    """
    noted = folder / "arguments.json"
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    elif noted.exists():
        before = json.loads(noted.read_text())
        keys = sorted(before.keys() | identity.keys())
        changed = [key for key in keys if before.get(key) != identity.get(key)]
        if changed:
            shown = ", ".join(f"{key} was {before.get(key)!r}, is {identity.get(key)!r}" for key in changed)
            raise ValueError(
                f"`--resume`, but {folder} belongs to another run: {shown}. Start anew without it."
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_aside(noted, json.dumps(identity, indent=2))


def last_checkpoint(folder: Path) -> str | None:
    """The last checkpoint of Trainer's that was written to its end; younger ones are removed."""
    if not folder.is_dir():
        return None
    checkpoints = sorted(
        (path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()),
        key=lambda path: -int(path.name.rpartition("-")[2]),
    )
    for path in checkpoints:
        if _complete(path):
            return str(path)
        shutil.rmtree(path)
    return None


def _complete(checkpoint: Path) -> bool:
    """Trainer writes its state last."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return False
    return True


def write_aside(path: Path, text: str) -> None:
    """Write a file whole: whoever reads it, now or after an interruption, finds the old or the new one."""
    aside = path.with_name(path.name + ".new")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


@contextmanager
def folder_aside(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which then becomes `folder`, new or empty; after an error, nothing is left."""
    aside = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    if folder.is_dir():
        folder.rmdir()
    aside.rename(folder)


def move_into(aside: Path, folder: Path) -> None:
    """Put each file of a folder into its place in another: no reader finds half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in aside.iterdir():
        path.replace(folder / path.name)
