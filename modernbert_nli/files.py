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


def move_into(aside: Path, folder: Path) -> None:
    """Put each file of a folder into its place in another: no reader finds half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in aside.iterdir():
        path.replace(folder / path.name)
