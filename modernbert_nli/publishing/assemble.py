"""A checkpoint and its results to the folder that a repository of the Hub will be: nothing else gets in."""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.dynamic_module_utils import get_relative_import_files

from ..repository import PACKAGE, licence
from .upload import COMMIT, REPOSITORY

NEEDED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
TAKEN = (
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "calibration.json",
    "adaptation.json",
    "results.json",
    "replay.safetensors",
    *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
    "1_Pooling/config.json",
)  # where they are
PICTURES = ("risk_coverage.png", "reliability.png", "scores.png")
HANDLER = Path(__file__).parent / "handler.py"  # what Inference Endpoints call
# Of earlier versions, which shipped files that later ones do not (the page lists all that is run), or of a
# checkpoint that was calibrated or adapted.
STALE = (
    *("*_modernbert_nli.py", "calibration.json", "adaptation.json"),
    *sorted(path.name for path in PACKAGE.glob("[!_]*.py")),
)


def assemble(checkpoint: Path, evaluation: Path, folder: Path) -> dict[str, Any]:
    """Copy what is to be published, all but the card.

    The code is that of this repository, which its tests hold to what the card says of it and which the local
    model runs; not what lies in the checkpoint.

    Args:
        checkpoint (`Path`): What `train.py` or `calibrate.py` wrote. Links are followed.
        evaluation (`Path`): What `evaluate_nli.py` wrote, as far as it is there.
        folder (`Path`): An empty folder.

    Returns:
        `dict`: The checkpoint's configuration.

    Raises:
        ValueError: a file is missing, or would not work or be safe for a reader.
    """
    config = read_config(checkpoint)
    for name in NEEDED:
        if not (checkpoint / name).is_file():
            raise ValueError(f"{checkpoint} has no {name}, which a reader needs: save the checkpoint again.")
        shutil.copyfile(checkpoint / name, folder / name)
    for name in code_of(config):
        shutil.copyfile(PACKAGE / name, folder / name)
    _check_weights(folder / "model.safetensors")
    optional = [(checkpoint, name) for name in TAKEN]
    optional += [(evaluation, name) for name in ("evaluation.json", *PICTURES)]
    for source, name in optional:
        if (source / name).is_file():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, folder / name)
    for path in (licence(), HANDLER):
        shutil.copyfile(path, folder / path.name)
    return config


def read_config(checkpoint: Path) -> dict[str, Any]:
    """The configuration of a checkpoint that a reader elsewhere can use; a ValueError says why it is none."""
    path = checkpoint / "config.json"
    if not path.is_file():
        raise ValueError(f"{checkpoint} is no checkpoint: it has no config.json.")
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("model_type") != "modernbert_nli":
        raise ValueError(f"{path} says model_type {config.get('model_type')!r}, not 'modernbert_nli'.")
    base, revision = config.get("base_model_name_or_path"), config.get("base_model_revision")
    if not REPOSITORY.fullmatch(str(base)):
        raise ValueError(f"{path} names the base {base!r}, which is no repository of the Hub (owner/name).")
    if not COMMIT.fullmatch(str(revision)):
        raise ValueError(
            f"{path} names no commit of its base {base!r}, but {revision!r}: set `base_model_revision` to "
            "the SHA of the commit that the heads were trained on, or they may meet another encoder."
        )
    return config


def code_of(config: dict[str, Any]) -> list[str]:
    """The files that `trust_remote_code` runs: those that the configuration names, and what they import."""
    named = list(config.get("auto_map", {}).values())
    named += [pipeline["impl"] for pipeline in config.get("custom_pipelines", {}).values()]
    files = {f"{reference.rpartition('.')[0]}.py" for reference in named}
    unknown = sorted(name for name in files if not (PACKAGE / name).is_file())
    if unknown or not files:
        raise ValueError(
            f"config.json names code that is none of this project's ({', '.join(unknown) or 'none'})."
        )
    for name in sorted(files):
        files |= {Path(path).name for path in get_relative_import_files(PACKAGE / name)}
    return sorted(files)


def _check_weights(path: Path) -> None:
    try:
        with safe_open(path, "pt") as file:
            foreign = [name for name in file.keys() if name.startswith("encoder.")]  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} is no file of safetensors ({error}): save the checkpoint again."
        ) from None
    if foreign:
        raise ValueError(f"{path.name} holds weights of the base, such as {foreign[0]}, beside the heads.")
