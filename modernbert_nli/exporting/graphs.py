"""A model to ONNX graphs with dynamic shapes, each of which says what it belongs to.

    encoder   input_ids, attention_mask (batch, tokens)
              -> states (batch, layers, tokens, hidden_size), float16: what separate encoding reads
    heads     premise_states, premise_mask, hypothesis_states, hypothesis_mask: of texts encoded alone
              -> logits (batch, num_labels), abstention_logits (batch, 2), uncertainty (batch,) and, of heads
                 that tell, familiarity (batch, 2)
    pair      input_ids, attention_mask, token_type_ids where the base takes them: of pairs in one sequence
              -> the same

Which of them there are follows from the encodings that the heads know. States are float16 because that is
how texts are kept (`modernbert_nli.states.half`): the graphs then round as PyTorch does.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ..heads import HYPOTHESIS, PREMISE
from ..modeling_modernbert_nli import ModernBertNliModel
from ..onnx_backend import JUDGEMENT, METADATA, graph_identity
from ..states import half

OPSET = 18  # the least that knows all operators; every runtime of the last years reads it
MODULES = "namespace"  # under which the exporter notes of each node the modules that it is in


class Graph(NamedTuple):
    """What is exported as one file.

    Args:
        module (`nn.Module`): What it computes.
        inputs (`dict[str, torch.Tensor]`): An example of each input, by name.
        axes (`dict[str, dict[int, str]]`): The dynamic dimensions of each, by their names.
        outputs (`tuple[str, ...]`): Names.
    """

    module: nn.Module
    inputs: dict[str, torch.Tensor]
    axes: dict[str, dict[int, str]]
    outputs: tuple[str, ...]


class EncoderGraph(nn.Module):
    """Texts alone to the states that the heads read, and nothing above them."""

    def __init__(self, model: ModernBertNliModel):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        return half(self.model.encoder_states(inputs, "separate"))


class HeadsGraph(nn.Module):
    """The states of two texts to their judgement."""

    def __init__(self, model: ModernBertNliModel):
        super().__init__()
        self.model = model

    def forward(
        self,
        premise_states: torch.Tensor,
        premise_mask: torch.Tensor,
        hypothesis_states: torch.Tensor,
        hypothesis_mask: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        model = self.model
        sides = (
            (premise_states.unbind(dim=1), premise_mask),
            (hypothesis_states.unbind(dim=1), hypothesis_mask),
        )
        tokens = torch.cat([model.project(states, "separate") for states, _ in sides], dim=1)
        segments = torch.cat([premise_mask * PREMISE, hypothesis_mask * HYPOTHESIS], dim=1)
        familiarity = [model.familiarity_of(states, "separate", mask) for states, mask in sides]
        return model.judge(tokens, segments, torch.cat(familiarity, dim=-1)).to_tuple()


class PairGraph(nn.Module):
    """Pairs in one sequence to their judgement."""

    def __init__(self, model: ModernBertNliModel):
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        inputs = self.model.base_inputs(input_ids, attention_mask, token_type_ids, None)
        _, tokens, where, familiarity = self.model.read_joint(inputs, whole=False)
        return self.model.judge(tokens, where, familiarity).to_tuple()


def graphs_of(model: ModernBertNliModel) -> dict[str, Graph]:
    """The graphs of a model, by the names of their files."""
    graphs = {}
    judgement = JUDGEMENT if model.familiarity is not None else JUDGEMENT[:-1]
    ids, mask = _example(model, tokens=8), torch.ones(2, 8, dtype=torch.long)
    axes = {0: "batch", 1: "tokens"}
    if "separate" in model.config.encoder_layers:
        inputs = {"input_ids": ids, "attention_mask": mask}
        graphs["encoder"] = Graph(EncoderGraph(model), inputs, dict.fromkeys(inputs, axes), ("states",))
        layers = len(model.config.encoder_layers["separate"])
        inputs, where = {}, {}
        for side, tokens in (("premise", 8), ("hypothesis", 6)):
            shape = (2, layers, tokens, model.config.hidden_size)
            inputs[f"{side}_states"] = torch.randn(shape).to(torch.float16)
            inputs[f"{side}_mask"] = mask[:, :tokens]
            where[f"{side}_states"] = {0: "batch", 2: f"{side}_tokens"}
            where[f"{side}_mask"] = {0: "batch", 1: f"{side}_tokens"}
        graphs["heads"] = Graph(HeadsGraph(model), inputs, where, judgement)
    if "joint" in model.config.encoder_layers:
        inputs = {"input_ids": ids, "attention_mask": mask}
        if model.takes_token_types and "token_type_ids" in model.tokenizer.model_input_names:
            inputs["token_type_ids"] = torch.zeros_like(ids)
        graphs["pair"] = Graph(PairGraph(model), inputs, dict.fromkeys(inputs, axes), judgement)
    return graphs


def export_graph(model: ModernBertNliModel, kind: str, graph: Graph, path: Path) -> None:
    """Write one graph, with what it belongs to in its metadata.

    Raises:
        ImportError: onnx or onnxscript is not installed.
        ValueError: it does not fit into one file (2 GB).
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f'{error.name} is not installed: `pip install ".[onnx]"`.') from error
    dimensions: dict[str, Any] = {}
    for axes in graph.axes.values():
        for name in axes.values():
            dimensions.setdefault(name, torch.export.Dim(name))
    shapes = {
        name: {axis: dimensions[size] for axis, size in axes.items()} for name, axes in graph.axes.items()
    }
    with torch.no_grad(), quiet():
        program = torch.onnx.export(
            graph.module.eval(),
            kwargs=graph.inputs,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # it is only where a file is named
    proto = program.model_proto
    for node in proto.graph.node:  # also noted: stack traces, with the paths of whoever exports
        modules = [entry for entry in node.metadata_props if entry.key == MODULES]
        del node.metadata_props[:]
        node.metadata_props.extend(modules)
    identity = graph_identity(model.config, model.heads_digest())
    identity.update(graph=kind, layers=model.config.encoder_layers)
    onnx.helper.set_model_props(proto, {METADATA: json.dumps(identity, sort_keys=True)})
    if proto.ByteSize() >= onnx.checker.MAXIMUM_PROTOBUF:
        raise ValueError(
            f"The graph {kind!r} has {proto.ByteSize() / 1e9:.1f} GB, and 2 GB are the most that a file of "
            "ONNX holds: take a smaller base."
        )
    onnx.save_model(proto, path)


def _example(model: ModernBertNliModel, tokens: int) -> torch.Tensor:
    """Two pairs, whose separators are where the heads look for them."""
    ids = torch.arange(2 * tokens).view(2, tokens) % model.config.vocab_size
    separator = model.config.sep_token_id
    if separator is not None:
        ids[ids == separator] += 1
        ids[:, [tokens // 2, -1]] = separator
    return ids


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporter says of its own steps, of packages that it does not need and of its plans."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
