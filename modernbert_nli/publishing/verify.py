"""What has landed, loaded as a reader would: in a process, a cache and a folder of its own.

The part below `if __name__` runs there. It knows what is on the Hub and nothing of this repository.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..modeling_modernbert_nli import ModernBertNliModel
    from ..pipeline_modernbert_nli import NliAbstentionPipeline

TOLERANCE = 1e-5  # of logits and probabilities: the same weights and texts, on the same kind of processor
# A reader has none of these; what they name would hide that something did not arrive.
_LOCAL = ("HF_HUB_CACHE", "HF_MODULES_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "TRANSFORMERS_CACHE")


class NotAsLocal(RuntimeError):
    """What landed cannot be loaded, or computes something else than what was published."""


def read_back(
    repo_id: str,
    revision: str,
    pairs: Sequence[tuple[str, str]],
    *,
    endpoint: str,
    token: str | None,
    base: str | None = None,
) -> dict[str, Any]:
    """Download a checkpoint into a fresh cache and judge pairs with it, on a CPU.

    Args:
        repo_id (`str`), revision (`str`): What is read, at which commit.
        pairs (`Sequence[tuple[str, str]]`): Premises and hypotheses.
        endpoint (`str`), token (`str`, *optional*): The Hub, and who asks.
        base (`str`, *optional*): Folder to take the base from instead of the Hub.

    Returns:
        `dict`: `logits`, by pair, from `AutoModel`; `decisions`, what the pipeline returns; `code`, the
        SHA-256 of each file of Python that `trust_remote_code` ran, by its name.

    Raises:
        NotAsLocal: it cannot be loaded.
    """
    task = {"repo_id": repo_id, "revision": revision, "pairs": list(pairs), "base": base}
    with tempfile.TemporaryDirectory(prefix="as-a-reader-") as home:
        known = {name: value for name, value in os.environ.items() if name not in _LOCAL}
        hub = {"HF_HOME": home, "HF_ENDPOINT": endpoint, **({"HF_TOKEN": token} if token else {})}
        process = subprocess.run(
            [sys.executable, "-I", __file__],  # isolated: no path of this repository
            input=json.dumps(task),
            env={**known, **hub},
            cwd=home,
            capture_output=True,
            text=True,
        )
    if process.returncode != 0:
        lines = process.stderr.strip().splitlines() or [f"exit status {process.returncode}"]
        raise NotAsLocal(f"it cannot be loaded from the Hub: {lines[-1]}")
    return json.loads(process.stdout.splitlines()[-1])


def compare(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """The greatest difference between what `read_back` found and what was published.

    Raises:
        NotAsLocal: it is greater than `TOLERANCE`, or another label or abstention comes out.
    """
    for here, there in zip(expected["decisions"], found["decisions"], strict=True):
        if (here["label"], here["abstain"]) != (there["label"], there["abstain"]):
            raise NotAsLocal(f"its pipeline answers {there} where the local one answers {here}")
    values = [
        (here["probs"][label], there["probs"][label])
        for here, there in zip(expected["decisions"], found["decisions"], strict=True)
        for label in here["probs"]
    ]
    rows = zip(expected["logits"], found["logits"], strict=True)
    values += [pair for here, there in rows for pair in zip(here, there, strict=True)]
    differences = [abs(here - there) for here, there in values]
    if not all(difference <= TOLERANCE for difference in differences):  # nor is one no number
        raise NotAsLocal(f"its logits or probabilities differ from the local ones by {max(differences):.2g}")
    return max(differences)


def judged(
    model: "ModernBertNliModel",
    tokenizer: Any,
    pipe: "NliAbstentionPipeline",
    pairs: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    """Logits of a model and decisions of a pipeline on pairs, one after the other."""
    import torch

    with torch.no_grad():
        rows = [model(**tokenizer(*pair, return_tensors="pt"), mode="nli")[0].tolist() for pair in pairs]
    return {"logits": rows, "decisions": pipe([tuple(pair) for pair in pairs])}


def _as_a_reader(task: dict[str, Any]) -> dict[str, Any]:
    import hashlib
    from pathlib import Path

    from transformers import AutoModel, AutoTokenizer, pipeline

    where = {"revision": task["revision"], "trust_remote_code": True}
    base = {} if task["base"] is None else {"base_model_name_or_path": task["base"]}
    model = AutoModel.from_pretrained(task["repo_id"], **where, **base)
    tokenizer = AutoTokenizer.from_pretrained(task["repo_id"], **where)
    pipe = pipeline(model=task["repo_id"], **where, model_kwargs=base, device="cpu")
    code = Path(os.environ["HF_HOME"], "modules").rglob("*.py")
    hashes = {
        path.name: hashlib.sha256(content).hexdigest() for path in code if (content := path.read_bytes())
    }
    return {**judged(model, tokenizer, pipe, task["pairs"]), "code": hashes}


if __name__ == "__main__":
    try:
        print(json.dumps(_as_a_reader(json.load(sys.stdin))))
    except Exception as error:  # whatever a reader would see, in a line
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")
