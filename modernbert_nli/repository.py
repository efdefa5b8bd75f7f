"""Where this package lies, and whether in a clone of its repository, which has more: docs and `web/`."""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # of the clone, where it is one


def is_clone() -> bool:
    """Whether the package is used from a clone of the repository, not from where it was installed."""
    return (ROOT / "pyproject.toml").is_file()


def licence() -> Path:
    """The licence of the code, which goes wherever the code does.

    Raises:
        FileNotFoundError: it is neither in a clone nor among the installed files.
    """
    if is_clone():
        return ROOT / "LICENSE"
    try:
        for file in files("modernbert-nli") or ():
            if file.name == "LICENSE":
                return Path(str(file.locate()))
    except PackageNotFoundError:
        pass
    raise FileNotFoundError("The file LICENSE of this package is not there: install it again.")
