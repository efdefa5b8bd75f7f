"""ModernBERT-NLI: natural language inference with learned abstention, as small heads on a frozen encoder.

    model = AutoModel.from_pretrained(checkpoint, trust_remote_code=True)
    output = model(**tokenizer(premise, hypothesis, return_tensors="pt"))
    output.logits, output.uncertainty

A checkpoint stores the heads alone. The encoder comes from its own repository, is never trained, and its
outputs are bit-identical to those of the plain `AutoModel`, so that embeddings stay compatible with an
existing index.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from .configuration_modernbert_nli import PROBLEM_TYPES, ModernBertNliConfig
from .heads import label_loss
from .judging import Encoding, ModernBertNliOutput
from .onnx_backend import OnnxEncoder
from .opening import OpeningMixin
from .texts import ModernBertNliTexts

Mode = Literal["embed", "late_interaction", "nli", "abstention"]
MODES = ("embed", "late_interaction", "nli", "abstention")


class ModernBertNliModel(OpeningMixin, ModernBertNliTexts):
    """NLI head and abstention head on a frozen encoder.

    `ModernBertNliModel(config)` has a random encoder, as everywhere in transformers. `from_pretrained` loads
    a checkpoint, `from_base` puts new heads on a pretrained encoder.

    Args:
        config (`ModernBertNliConfig`): The configuration.
        encoder (`PreTrainedModel`, *optional*): The base, already loaded.
    """

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        abstention_labels: Any = None,
        mode: Mode | None = None,
        encoding: Encoding | None = None,
        encoder_states: dict[str, torch.Tensor] | None = None,
        segments: dict[str, torch.Tensor] | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """
        Args:
            input_ids (`torch.LongTensor` of shape `(batch, tokens)`):
                "[CLS] premise [SEP] hypothesis [SEP]"; any text where only its embedding is wanted.
            attention_mask, token_type_ids (of the same shape, *optional*): From the base's tokenizer.
            inputs_embeds (`torch.FloatTensor` of shape `(batch, tokens, hidden_size)`, *optional*):
                Instead of `input_ids`, for the embedding modes and the CLS head.
            labels (`torch.LongTensor` of shape `(batch,)`, *optional*):
                Classes, or `num_labels` for "any but entailment"; adds their cross-entropy as `loss`.
            abstention_labels (`torch.Tensor` of shape `(batch,)`, *optional*):
                What the abstention head is to say, and the loss is then its own: 1 (or a probability) where
                the NLI head errs; for an opinion, classes. With `encoder_states`, a dict of such tensors by
                encoding.
            mode (`str`, *optional*): What to compute and return, below.
            encoding (`"joint"` or `"separate"`, *optional*): Defaults to the configuration's.
            encoder_states (`dict[str, torch.Tensor]`, *optional*):
                For training: states by encoding, `(batch, layers, tokens, hidden_size)`; no encoder is run.
                The loss and the logits are means over the encodings.
            segments (`dict[str, torch.Tensor]`, *optional*):
                For each of them, `(batch, tokens)`: 1 in the premise, 2 in the hypothesis, 0 for padding.
            output_hidden_states, output_attentions (`bool`, *optional*):
                Return the base's too, without a mode, of the pair in one sequence, for a further pass.
            return_dict (`bool`, *optional*): False for a tuple, without a mode.

        Returns:
            - `mode="embed"`: the [CLS] state, `(batch, hidden_size)`
            - `mode="late_interaction"`: the states of all tokens, `(batch, tokens, hidden_size)`
            - `mode="nli"`: logits, `(batch, num_labels)`
            - `mode="abstention"`: logits and abstention logits, `(batch, num_labels)` and `(batch, 2)`
            - without a mode: [`ModernBertNliOutput`]

        Raises:
            ValueError: an unknown mode or encoding, inputs that do not show where the hypothesis begins, or
                arguments that do not go together.
        """
        if mode is not None and mode not in MODES:
            raise ValueError(f"`mode` must be one of {', '.join(MODES)} or None, got {mode!r}.")
        for_loss = (labels, abstention_labels, encoder_states)
        if mode is not None and any(value is not None for value in for_loss):
            raise ValueError("A `mode` has no loss: leave it out with labels or `encoder_states`.")
        if encoder_states is not None:
            output = self._judge_cached(encoder_states, segments or {}, labels, abstention_labels)
            return output if self._as_dict(return_dict) else output.to_tuple()
        inputs = self._base_inputs(input_ids, attention_mask, token_type_ids, inputs_embeds)
        if mode in ("embed", "late_interaction"):
            tokens = self._plain_pass(inputs)
            return tokens[:, 0] if mode == "embed" else tokens

        if isinstance(self.encoder, OnnxEncoder) and self._chosen(encoding) == "joint":
            output, last_hidden_state = self._judge_by_graph(inputs), None
        else:
            tokens, where, last_hidden_state = self._read_pairs(inputs, encoding, whole=mode is None)
            output = self._judge(tokens, where)
            if mode is None and last_hidden_state is None:
                last_hidden_state = self._plain_pass(inputs)
        if mode == "nli":
            return output.logits
        if mode == "abstention":
            return output.logits, output.abstention_logits
        # Made anew, because a field that is set later comes last, or is no item at all.
        loss = self._loss(output, labels, abstention_labels)
        inner = self._inner_states(inputs, output_hidden_states, output_attentions)
        output = ModernBertNliOutput(loss=loss, last_hidden_state=last_hidden_state, **output, **inner)
        return output if self._as_dict(return_dict) else output.to_tuple()

    @torch.no_grad()
    def summaries(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        encoding: Encoding | None = None,
    ) -> dict[str, torch.Tensor]:
        """What the label of each pair is concluded from, `(batch, size)`: see `heads.py`.

        Args:
            input_ids, attention_mask, token_type_ids, encoding: As for `forward`.

        Returns:
            `dict`: `nli`, and `opinion` of an abstention head that has one.
        """
        if isinstance(self.encoder, OnnxEncoder):
            raise ValueError("A graph gives no summaries: load the checkpoint without `backend` to adapt it.")
        inputs = self._base_inputs(input_ids, attention_mask, token_type_ids, None)
        tokens, where, _ = self._read_pairs(inputs, encoding, whole=False)
        where = None if where is None else where.to(tokens.device)
        parts = zip(("nli", "opinion"), self._parts(tokens), strict=False)
        return {name: head.summary(own, where) for name, (head, own) in parts}

    def _read_pairs(
        self, inputs: dict[str, Any], encoding: Encoding | None, whole: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Projected tokens of pairs, their segments, and the base's last states if all of its layers ran."""
        input_ids, attention_mask = inputs["input_ids"], inputs["attention_mask"]
        if self._chosen(encoding) == "separate":
            return *self._text_pairs(input_ids, attention_mask), None
        states, last_hidden_state = self._run_encoder(inputs, "joint", whole=whole)
        needs_segments = self.config.head_type != "cls"
        where = self._segments(input_ids, attention_mask) if needs_segments else None
        return self._project(states, "joint"), where, last_hidden_state

    def _base_inputs(
        self, input_ids: Any, attention_mask: Any, token_type_ids: Any, inputs_embeds: Any
    ) -> dict[str, Any]:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "inputs_embeds": inputs_embeds}
        if token_type_ids is not None and self._takes_token_types:
            inputs["token_type_ids"] = token_type_ids
        return inputs

    def _plain_pass(self, inputs: dict[str, Any]) -> torch.Tensor:
        with torch.no_grad():
            return self.encoder(**inputs).last_hidden_state

    def _inner_states(self, inputs: dict[str, Any], hidden_states: Any, attentions: Any) -> dict[str, Any]:
        """What the base gives beside its last states, where the caller or the configuration asks for it."""
        asked = {"hidden_states": hidden_states, "attentions": attentions}
        for name, value in asked.items():
            asked[name] = getattr(self.config, f"output_{name}", False) if value is None else value
        if not any(asked.values()):
            return {}
        with torch.no_grad():
            output = self.encoder(**inputs, **{f"output_{name}": value for name, value in asked.items()})
        given = {name: getattr(output, name, None) for name, value in asked.items() if value}
        for name, value in given.items():
            if asked[name] is True and (not value or any(layer is None for layer in value)):
                raise ValueError(
                    f"The base gives no {name}. Attentions need `attn_implementation='eager'` when it is "
                    "loaded."
                )
        return given

    def _as_dict(self, return_dict: bool | None) -> bool:
        return getattr(self.config, "return_dict", True) if return_dict is None else return_dict

    def _loss(
        self,
        output: ModernBertNliOutput,
        labels: torch.Tensor | None,
        abstention_labels: torch.Tensor | None,
    ) -> torch.Tensor | None:
        if self.config.problem_type not in PROBLEM_TYPES:
            raise ValueError(f"`problem_type={self.config.problem_type!r}`, but each pair has one label.")
        entailment = self.config.label2id.get("entailment", 0)
        if abstention_labels is not None:
            if output.opinion_logits is not None:
                return label_loss(output.opinion_logits, abstention_labels, entailment)
            if abstention_labels.is_floating_point():
                abstention_labels = torch.stack([1 - abstention_labels, abstention_labels], dim=-1)
                abstention_labels = abstention_labels.to(output.abstention_logits)
            return nn.functional.cross_entropy(output.abstention_logits, abstention_labels)
        return None if labels is None else label_loss(output.logits, labels, entailment)

    # Training, on states that are kept -------------------------------------------------------------------

    def _judge_cached(
        self,
        states: dict[str, torch.Tensor],
        segments: dict[str, torch.Tensor],
        labels: Any,
        abstention_labels: Any,
    ) -> ModernBertNliOutput:
        outputs = []
        for encoding, batch in states.items():
            layers, where = batch.unbind(dim=1), segments[encoding]
            targets = (abstention_labels or {}).get(encoding)
            if self.training and self._has_opinion:
                output = self._judge_in_part(layers, encoding, where, opinion=targets is not None)
            else:
                output = self._judge(self._project(layers, encoding), where)
            loss = self._loss(output, labels, targets)
            outputs.append(ModernBertNliOutput(loss=loss, **output))
        means = {key: sum(output[key] for output in outputs) / len(outputs) for key in outputs[0]}
        return ModernBertNliOutput(**means)

    def _judge_in_part(
        self, states: Sequence[torch.Tensor], encoding: str, segments: torch.Tensor, opinion: bool
    ) -> ModernBertNliOutput:
        """What one of two heads that share nothing learns from; the other is not asked."""
        head = self.abstention_head if opinion else self.nli_hidden
        result = head(head.project(states, encoding), segments)
        if opinion:
            return ModernBertNliOutput(opinion_logits=result)
        return ModernBertNliOutput(logits=self.nli_output(result))


class ModernBertNliForSequenceClassification(ModernBertNliModel):
    """The same checkpoint as a plain classifier, for text-classification, zero-shot and CrossEncoder."""

    def forward(  # type: ignore[override]
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        encoding: Encoding | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """As [`ModernBertNliModel`]: logits `(batch, num_labels)` and, given `labels`, their loss."""
        inputs = (input_ids, attention_mask, token_type_ids, inputs_embeds)
        logits = super().forward(*inputs, mode="nli", encoding=encoding)
        loss = self._loss(ModernBertNliOutput(logits=logits), labels, None)
        inner = self._inner_states(self._base_inputs(*inputs), output_hidden_states, output_attentions)
        output = SequenceClassifierOutput(loss=loss, logits=logits, **inner)
        return output if self._as_dict(return_dict) else output.to_tuple()


ModernBertNliConfig.register_for_auto_class()
ModernBertNliModel.register_for_auto_class("AutoModel")
ModernBertNliForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
