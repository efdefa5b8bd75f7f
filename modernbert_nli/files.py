"""Files as commands read and write them: whole or not at all, and wrong ones told in a sentence."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(ValueError):
    """Something that the user can put right; the message is all there is to say."""


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


def require_new(folder: Path, otherwise: str = "remove it") -> None:
    """Raise an `InputError` where a folder is to be written and something is there already.

    Args:
        otherwise (`str`): What else than naming a new folder the user may do.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not empty: name a new folder, or {otherwise}.")
