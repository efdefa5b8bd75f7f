"""A graph to int8: the weights of the base's matrix products and embeddings; the heads stay as they are.

Products are quantised block by block, and so are the activations that meet them (`MatMulNBits`). The usual
dynamic quantisation has one scale for the activations of a whole batch, so that a text is judged otherwise in
other company. `experiments/speed.py` measures how far the decisions are from those of float32.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..onnx_backend import METADATA
from .graphs import MODULES

if TYPE_CHECKING:
    from ..modeling_modernbert_nli import ModernBertNliModel

KINDS = ("encoder", "pair")
BLOCK = 16  # weights that share a scale
INT8_COMPUTE = 4  # `accuracy_level` of MatMulNBits: activations may be rounded to int8
LARGE = 1000  # rows from which a table of embeddings is worth it


def quantize(graph: Path, path: Path) -> None:
    """Write a graph of 8 bits; aside first, then renamed.

    Raises:
        ImportError: onnx or ONNX Runtime is not installed.
    """
    try:
        import onnx

        with _quiet():  # from the import on, which sets up logging
            from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    except ImportError as error:
        raise ImportError(f'{error.name} is not installed: `pip install ".[onnx]"`.') from error
    model = onnx.load(graph)
    (identity,) = [entry.value for entry in model.metadata_props if entry.key == METADATA]
    with _quiet():
        quantizer = MatMulNBitsQuantizer(
            model,
            bits=8,
            block_size=BLOCK,
            is_symmetric=True,
            accuracy_level=INT8_COMPUTE,
            nodes_to_exclude=[node.name for node in model.graph.node if _of_heads(node)],
        )
        quantizer.process()
    quantized = quantizer.model.model
    _quantize_embeddings(quantized)
    precision = {**json.loads(identity), "precision": "int8"}
    onnx.helper.set_model_props(quantized, {METADATA: json.dumps(precision, sort_keys=True)})
    aside = path.with_name(path.name + ".partial")
    onnx.save_model(quantized, aside)
    aside.replace(path)


def _of_heads(node: Any) -> bool:
    """Whether a node comes from no module of the base: see `graphs.MODULES`."""
    modules = {entry.key: entry.value for entry in node.metadata_props}.get(MODULES, "")
    return "model.encoder:" not in modules


def _quantize_embeddings(model: "ModernBertNliModel") -> None:
    """Large tables of embeddings to int8 with a scale for each row, in place."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    tables = {table.name: table for table in graph.initializer if len(table.dims) == 2}
    nodes = []
    for node in graph.node:
        table = tables.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or table.dims[0] < LARGE or table.data_type != TensorProto.FLOAT:
            nodes.append(node)
            continue
        values = numpy_helper.to_array(table)
        scales = np.maximum(np.abs(values).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / 127
        names = [f"{table.name}_{part}" for part in ("int8", "scales")]
        if table in graph.initializer:
            graph.initializer.remove(table)
            rounded = np.round(values / scales).astype(np.int8)
            graph.initializer.append(numpy_helper.from_array(rounded, names[0]))
            graph.initializer.append(numpy_helper.from_array(scales.astype(np.float32), names[1]))
        (output,), rows = node.output, node.input[1]
        of = {part: f"{output}_{part}" for part in ("int8", "float", "scales")}
        nodes += [
            helper.make_node("Gather", [names[0], rows], [of["int8"]]),
            helper.make_node("Cast", [of["int8"]], [of["float"]], to=TensorProto.FLOAT),
            helper.make_node("Gather", [names[1], rows], [of["scales"]]),
            helper.make_node("Mul", [of["float"], of["scales"]], [output]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without a line for each node, and with the logging of whoever calls as it was."""
    root, disabled = logging.root, logging.root.manager.disable
    handlers, level = list(root.handlers), root.level
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.handlers[:], root.level = handlers, level
