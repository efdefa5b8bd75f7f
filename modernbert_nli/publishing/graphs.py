"""The ONNX graphs of a checkpoint, to be published beside its heads: only if they are of these heads."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ..exporting.card import section
from ..onnx_backend import FOLDER, INT8_GUARANTEE, METADATA, graph_identity

if TYPE_CHECKING:
    from ..modeling_modernbert_nli import ModernBertNliModel


def add_graphs(checkpoint: Path, model: "ModernBertNliModel", folder: Path, repo_id: str) -> str:
    """Copy the graphs that lie in a checkpoint into the folder that is to be published.

    Args:
        checkpoint (`Path`): What `export.py` wrote.
        model (`ModernBertNliModel`): Its heads.
        folder (`Path`): Where its other files are already.
        repo_id (`str`): Where it goes.

    Returns:
        The section of the card that tells of them.

    Raises:
        ValueError: there are none, or they are of other heads.
    """
    paths = sorted((checkpoint / FOLDER).glob("*.onnx"))
    if not paths:
        raise ValueError(
            f"{checkpoint} has no graphs: publish the folder that `python export.py --model {checkpoint} "
            "--output FOLDER` writes."
        )
    (folder / FOLDER).mkdir()
    for path in paths:
        check_graph(path, model)
        shutil.copyfile(path, folder / FOLDER / path.name)
    if (guarantee := checkpoint / FOLDER / INT8_GUARANTEE).is_file():
        shutil.copyfile(guarantee, folder / FOLDER / guarantee.name)
    return section(folder, repo_id)


def check_graph(path: Path, model: "ModernBertNliModel") -> None:
    """Raise a ValueError unless a graph was made from the heads of this model."""
    try:
        import onnx
    except ImportError as error:
        raise ValueError('onnx is not installed, which reads the graphs: `pip install ".[onnx]"`.') from error
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    found = json.loads(metadata.get(METADATA, "{}"))
    expected = graph_identity(model.config, model.heads_digest())
    if any(found.get(key) != value for key, value in expected.items()):
        raise ValueError(f"{path} is not of the heads beside it, but of others: export them again.")
