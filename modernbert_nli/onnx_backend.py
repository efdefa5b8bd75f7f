"""Tokens to states without PyTorch: the graphs that `export.py` wrote, run by ONNX Runtime or OpenVINO.

    nli = pipeline(model=exported, trust_remote_code=True, model_kwargs={"backend": "onnx"})

They lie in the folder `onnx/` of a checkpoint and take the place of its base, which is then not needed: the
graph `encoder` for texts encoded alone, `pair` for joint encoding, whose heads it has inside. What is kept of
texts, and the heads that judge them, stay PyTorch's. The graph `heads` is for those who have none of it.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig
from transformers.utils import cached_file

from .calibration import expanded
from .encoder import Backend

FOLDER = "onnx"
METADATA = "modernbert_nli"  # the key under which a graph says what it belongs to, in JSON
INT8_GUARANTEE = "int8.json"  # threshold and calibration of the int8 graphs, as `calibrate.py` writes them
JUDGEMENT = ("logits", "abstention_logits", "uncertainty", "familiarity")  # the last of heads that tell
GUARANTEE = ("calibration", "calibrated_heads", "abstention_threshold")

_EXPORT = "python export.py --model CHECKPOINT --output FOLDER"


class GraphMismatch(ValueError):
    """A graph of another checkpoint, base or format than the one that it lies beside."""


def graph_file(kind: str, int8: bool) -> str:
    """The name of a graph's file. Heads stay float32 in any case: they are small."""
    return f"{kind}_int8.onnx" if int8 and kind != "heads" else f"{kind}.onnx"


def graph_identity(config: PretrainedConfig, heads: str) -> dict[str, Any]:
    """What a graph says it belongs to: the heads, by `heads_digest`, and the base that they read."""
    return {
        "heads": heads,
        "base": config.base_model_name_or_path,
        "revision": config.base_model_revision,
        **({"familiarity": config.familiarity} if config.familiarity else {}),
    }


class OnnxEncoder(nn.Module):
    """The graphs of a checkpoint, in the place of its base.

    A graph is opened when it is first needed, that of the checkpoint's own encoding at once.

    Args:
        config (`ModernBertNliConfig`): The checkpoint's.
        heads (`str`): Digest of its heads.
        name (`str`): The checkpoint: folder or repository id.
        backend (`str`): What runs them: `"onnx"`, `"openvino"`, or `"onnx-int8"` its int8 graphs.
        **location: Where the Hub has it: `revision`, `subfolder`, `token`, `cache_dir`, …

    Raises:
        ImportError: the runtime is not installed.
        OSError: the checkpoint has no such graph, or it cannot be read.
        GraphMismatch: it is of another checkpoint.
    """

    _no_split_modules = None

    def __init__(self, config: PretrainedConfig, heads: str, name: str, backend: Backend, **location: Any):
        super().__init__()
        self.config = config.encoder_config
        self.int8 = backend == "onnx-int8"
        self._opened: dict[str, _OnnxRuntime | _OpenVino] = {}
        self._arguments = (config, heads, name, backend, location)
        self._layers = {encoding: list(layers) for encoding, layers in config.encoder_layers.items()}
        self._expected = graph_identity(config, heads)
        self._graph("encoder" if config.encoding == "separate" else "pair")

    def __reduce__(self) -> Any:  # sessions cannot be copied, but opened again
        config, heads, name, backend, location = self._arguments
        location = {key: value for key, value in location.items() if key != "token"}
        return _opened_again, (config, heads, name, backend, location)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,  # which the graphs take, where the base did
        **kwargs: Any,
    ) -> Any:
        """Refused: of the base there is no more than what the heads read."""
        raise ValueError(
            "These graphs give what the heads read, and no `last_hidden_state`: ask for "
            '`mode="nli"` or `"abstention"`, or load the checkpoint without `backend` for embeddings.'
        )

    def states(self, inputs: dict[str, Any], encoding: str) -> torch.Tensor:
        """What the heads read of texts encoded alone, `(batch, layers, tokens, hidden_size)` in float16.

        Args:
            inputs (`dict`): `input_ids` and `attention_mask`, `(batch, tokens)`, padded.
            encoding (`str`): Only `"separate"`: of pairs the graph gives the judgement.
        """
        if encoding != "separate":
            raise ValueError(
                "The states of pairs are inside their graph: load the checkpoint without `backend`."
            )
        return self._run("encoder", inputs)[0]

    def judge_pairs(self, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Of pairs in one sequence what `ModernBertNliOutput` has of the heads, by its names there."""
        return dict(zip(JUDGEMENT, self._run("pair", inputs), strict=False))

    def digest(self) -> str:
        """SHA-256 of the graph files that may be used: what their decisions depend on."""
        _, _, name, _, location = self._arguments
        kinds = {"separate": "encoder", "joint": "pair"}
        files = [graph_file(kinds[encoding], self.int8) for encoding in self._layers]
        paths = [_file_of(name, file, **location) for file in files]
        return "".join(hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths if path)

    def _run(self, kind: str, inputs: dict[str, Any]) -> list[torch.Tensor]:
        graph = self._graph(kind)
        ids = inputs["input_ids"]
        if ids is None:
            raise ValueError("The graphs read `input_ids`, no embeddings.")
        blank = {"attention_mask": torch.ones_like, "token_type_ids": torch.zeros_like}
        given = {}
        for name in graph.inputs:
            value = inputs.get(name)
            value = blank[name](ids) if value is None else value
            given[name] = value.long().cpu().numpy()
        return [torch.from_numpy(output) for output in graph.run(given)]

    def _graph(self, kind: str) -> "_OnnxRuntime | _OpenVino":
        if kind not in self._opened:
            _, _, name, backend, location = self._arguments
            file = graph_file(kind, self.int8)
            path = _file_of(name, file, **location)
            if path is None:
                how = f"{_EXPORT}{' --int8' if self.int8 else ''}"
                raise OSError(
                    f"The checkpoint {name!r} has no graph {FOLDER}/{file}. Write it by `{how}`, and load "
                    "that folder."
                )
            graph = (_OpenVino if backend == "openvino" else _OnnxRuntime)(path)
            self._check(path, kind, graph.metadata)
            self._opened[kind] = graph
        return self._opened[kind]

    def _check(self, path: str, kind: str, metadata: str | None) -> None:
        found = json.loads(metadata or "{}")
        expected = {**self._expected, "graph": kind, "layers": self._layers}
        wrong = [key for key, value in expected.items() if found.get(key) != value]
        if wrong:
            shown = "; ".join(f"{key}: {found.get(key)!r}, not {expected[key]!r}" for key in wrong)
            raise GraphMismatch(
                f"{path} is not of this checkpoint ({shown}): the heads were changed since, or files of two "
                f"checkpoints mixed. Export it again: `{_EXPORT}`."
            )


def int8_guarantee(name: str, **location: Any) -> dict[str, Any]:
    """What the int8 graphs of a checkpoint guarantee, of `GUARANTEE`; what float32 guarantees is not "
    "theirs."""
    path = _file_of(name, INT8_GUARANTEE, **location)
    if path is None:
        return {"calibration": None, "calibrated_heads": None}
    stored = json.loads(Path(path).read_text(encoding="utf-8"))
    calibration = expanded(stored.get("calibration") or {}) or None
    return {**{key: stored.get(key) for key in GUARANTEE}, "calibration": calibration}


def _opened_again(
    config: PretrainedConfig, heads: str, name: str, backend: Backend, location: dict[str, Any]
) -> OnnxEncoder:
    return OnnxEncoder(config, heads, name, backend, **location)


def _file_of(name: str | os.PathLike, file: str, **location: Any) -> str | None:
    """A file in the folder of graphs, of a local checkpoint or of the Hub; None where there is none."""
    folder = os.path.join(location.pop("subfolder", None) or "", FOLDER)
    quiet = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "gated_repo")}
    return cached_file(str(name), file, subfolder=folder, **location, **quiet)


class _OnnxRuntime:
    """A graph, run by ONNX Runtime."""

    def __init__(self, path: str):
        try:
            import onnxruntime
        except ImportError as error:
            raise _not_installed("onnx", "ONNX Runtime", "onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()  # whoever limits one limits both
        if os.path.basename(path).startswith("encoder"):
            # Torch computes the heads that follow, and its threads would wait for those that spin here.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of its own types, one for each way in which a file can be broken
            raise _unreadable(path, error) from error
        self._session = session
        self.inputs = [node.name for node in session.get_inputs()]
        self.metadata: str | None = session.get_modelmeta().custom_metadata_map.get(METADATA)

    def run(self, given: dict[str, Any]) -> list[Any]:
        return self._session.run(None, given)


class _OpenVino:
    """A graph, run by OpenVINO."""

    def __init__(self, path: str):
        try:
            import openvino
        except ImportError as error:
            raise _not_installed("openvino", "OpenVINO", "openvino") from error
        core = openvino.Core()
        options = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),  # whoever limits one limits both
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it: other decisions
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            model = core.read_model(path)
            self._compiled = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise _unreadable(path, error) from error
        self.inputs = [node.get_any_name() for node in model.inputs]
        place = ["framework", METADATA]  # where its reader of ONNX puts the metadata of a graph
        self.metadata: str | None = model.get_rt_info(place).astype(str) if model.has_rt_info(place) else None

    def run(self, given: dict[str, Any]) -> list[Any]:
        # A request of its own for each call, which several threads may make.
        found = self._compiled.create_infer_request().infer(given)
        return [found[output] for output in self._compiled.outputs]


def _not_installed(backend: str, title: str, package: str) -> ImportError:
    return ImportError(
        f'`backend="{backend}"` needs {title}, which is not installed: `pip install {package}`.'
    )


def _unreadable(path: str, error: Exception) -> OSError:
    return OSError(f"The graph {path} cannot be read, it is truncated or of another format ({error}).")
