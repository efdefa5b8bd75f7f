"""Heads that learn from states of pairs: no encoder runs, and a stage may ask for a loss of its own.

A label may be `num_labels`, "any but entailment", which is for these trainers alone: see `label_loss`.
"""

import copy
from typing import Any

import torch
from torch import nn

from ..heads import label_loss
from ..modeling_modernbert_nli import ModernBertNliModel, ModernBertNliOutput

ByEncoding = dict[str, torch.Tensor]


class QuickDropout(nn.Dropout):
    """`nn.Dropout`, drawn sooner on a CPU, where a random number for each element outlasts a matrix product.

    Four elements share one: each goes by 16 of its 64 bits.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training or input.device.type != "cpu" or not 0 < self.p < 1:
            return super().forward(input)
        words = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        draws = words.view(torch.int16)[: input.numel()].view(input.shape)  # -2^15 to 2^15 - 1
        kept = draws >= round(self.p * 2**16) - 2**15
        return input * (kept * (1 / (1 - self.p))).to(input.dtype)


class HeadsOnStates(ModernBertNliModel):
    """The heads of a model as what Trainer trains: see `heads_alone`."""

    _auto_class = None  # what Trainer writes meanwhile needs no code

    def forward(  # type: ignore[override]
        self,
        encoder_states: ByEncoding,
        segments: ByEncoding,
        labels: torch.Tensor | None = None,
        abstention_labels: ByEncoding | None = None,
    ) -> ModernBertNliOutput:
        """As `judge_states`."""
        return judge_states(self, encoder_states, segments, labels, abstention_labels)


def heads_alone(model: ModernBertNliModel) -> HeadsOnStates:
    """The very heads of a model, but not its encoder: at every step Trainer walks through all modules."""
    for module in (*model.nli_hidden.modules(), *model.abstention_head.modules()):
        if type(module) is nn.Dropout:
            module.__class__ = QuickDropout
    heads = copy.copy(model)
    heads.__class__ = HeadsOnStates
    heads._modules = {**model._modules, "encoder": None}
    assert isinstance(heads, HeadsOnStates)
    return heads


def judge_states(
    model: ModernBertNliModel,
    encoder_states: ByEncoding,
    segments: ByEncoding,
    labels: torch.Tensor | None = None,
    abstention_labels: ByEncoding | None = None,
) -> ModernBertNliOutput:
    """Judge pairs by their states; loss and logits are means over the encodings.

    Args:
        model (`ModernBertNliModel`): Whose heads.
        encoder_states (`dict[str, torch.Tensor]`): By encoding, `(batch, layers, tokens, hidden_size)`.
        segments (`dict[str, torch.Tensor]`): For each of them, `(batch, tokens)`: 1 in the premise, 2 in the
            hypothesis, 0 for padding.
        labels (`torch.LongTensor` of shape `(batch,)`, *optional*): Classes, see `label_loss`.
        abstention_labels (`dict[str, torch.Tensor]`, *optional*): By encoding what the abstention head is to
            say, `(batch,)`, and the loss is then its own: 1 (or a probability) where the NLI head errs.
    """
    outputs = []
    for encoding, batch in encoder_states.items():
        layers, where = batch.unbind(dim=1), segments[encoding]
        targets = (abstention_labels or {}).get(encoding)
        output = model.judge(model.project(layers, encoding), where)
        outputs.append(ModernBertNliOutput(loss=_loss(model, output, labels, targets), **output))
    means = {key: sum(output[key] for output in outputs) / len(outputs) for key in outputs[0]}
    return ModernBertNliOutput(**means)


def _loss(
    model: ModernBertNliModel, output: ModernBertNliOutput, labels: Any, abstention_labels: Any
) -> torch.Tensor | None:
    entailment = model.config.label2id.get("entailment", 0)
    if abstention_labels is None:
        return None if labels is None else label_loss(output.logits, labels, entailment)
    assert output.abstention_logits is not None
    if abstention_labels.is_floating_point():
        abstention_labels = torch.stack([1 - abstention_labels, abstention_labels], dim=-1)
        abstention_labels = abstention_labels.to(output.abstention_logits)
    return nn.functional.cross_entropy(output.abstention_logits, abstention_labels)
