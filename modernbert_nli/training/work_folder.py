"""What a run leaves beside its checkpoint, so that it can go on after an interruption."""

import json
import shutil
from pathlib import Path
from typing import Any

from ..files import write_aside


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
