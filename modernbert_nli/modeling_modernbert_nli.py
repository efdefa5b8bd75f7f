"""ModernBERT-NLI: natural language inference with learned abstention, as small heads on a frozen encoder.

    model = AutoModel.from_pretrained(checkpoint, trust_remote_code=True)
    output = model(**tokenizer(premise, hypothesis, return_tensors="pt"))
    output.logits, output.uncertainty

A checkpoint stores the heads alone. The encoder comes from its own repository, is never trained, and its
outputs are bit-identical to those of the plain `AutoModel`, so that embeddings stay compatible with an
existing index.
"""

from typing import Any, Literal

import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import logging

from .configuration_modernbert_nli import PROBLEM_TYPES, ModernBertNliConfig
from .heads import first_tokens
from .judging import Encoding, ModernBertNliOutput
from .onnx_backend import OnnxEncoder
from .opening import OpeningMixin
from .texts import ModernBertNliTexts

logger = logging.get_logger(__name__)

Mode = Literal["embed", "late_interaction", "nli", "abstention"]
_WITHOUT_CLS = ("t5", "mt5", "umt5", "xlnet")  # whose first token is text
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
        mode: Mode | None = None,
        encoding: Encoding | None = None,
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
                Classes, -100 for a pair without one; adds their cross-entropy as `loss`, which trains the
                NLI head alone: `train.py` has the stage of the abstention head.
            mode (`str`, *optional*): What to compute and return, below.
            encoding (`"joint"` or `"separate"`, *optional*): Defaults to the configuration's.
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
            ValueError: an unknown mode or encoding, a text without a second one, labels that are no classes,
                an encoder that is to learn, or arguments that do not go together.
        """
        if mode is not None and mode not in MODES:
            raise ValueError(f"`mode` must be one of {', '.join(MODES)} or None, got {mode!r}.")
        if mode is not None and labels is not None:
            raise ValueError("A `mode` has no loss: leave it out with labels.")
        inputs = self._base_inputs(input_ids, attention_mask, token_type_ids, inputs_embeds)
        if mode in ("embed", "late_interaction"):
            tokens = self._plain_pass(inputs)
            return first_tokens(tokens, attention_mask) if mode == "embed" else tokens

        self._require_frozen()
        if (
            mode is not None or labels is not None
        ):  # tools that embed give texts alone, and look at their states
            self._require_pairs(input_ids, attention_mask)
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
        loss = self._loss(output.logits, labels)
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
        self._require_pairs(input_ids, attention_mask)
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
        where = None
        if self.config.head_type == "cls":
            states = [first_tokens(layer, attention_mask)[:, None] for layer in states]
        else:
            where = self._segments(input_ids, attention_mask)
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
                given[name] = None
                logger.warning_once(
                    f"The base gives no {name}: `attn_implementation='eager'`, when it is loaded, gives all."
                )
        return given

    def _as_dict(self, return_dict: bool | None) -> bool:
        return getattr(self.config, "return_dict", True) if return_dict is None else return_dict

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor | None:
        if self.config.problem_type not in PROBLEM_TYPES:
            raise ValueError(f"`problem_type={self.config.problem_type!r}`, but each pair has one label.")
        if labels is None:
            return None
        count = logits.shape[-1]
        if labels.is_floating_point() or labels.shape != logits.shape[:-1]:
            raise ValueError(
                f"`labels` are numbers of classes, a whole one for each of {len(logits)} pairs, got "
                f"{labels.dtype} of shape {tuple(labels.shape)}."
            )
        if not torch.compiler.is_compiling() and ((labels >= count) | (labels < 0) & (labels != -100)).any():
            raise ValueError(
                f"`labels` are 0 to {count - 1}, for {', '.join(self.config.id2label.values())}, or -100 for "
                f"none, got {labels.unique().tolist()}."
            )
        return nn.functional.cross_entropy(logits, labels.to(logits.device))

    def _require_frozen(self) -> None:
        """Raise a ValueError where somebody means to train the encoder, or an adapter inside it."""
        if not (self.training and torch.is_grad_enabled()):
            return
        if any(parameter.requires_grad for parameter in self.encoder.parameters()):
            raise ValueError(
                "The encoder is frozen: no gradient reaches it, nor an adapter inside it, such as peft's. "
                "Call `model.encoder.requires_grad_(False)` and train the heads; `train.py --adapter lora` "
                "trains an adapter that belongs to them."
            )

    def _require_pairs(self, input_ids: torch.Tensor | None, attention_mask: torch.Tensor | None) -> None:
        """Raise a ValueError where a row is one text alone, which would be judged against nothing."""
        if input_ids is None or torch.jit.is_tracing() or torch.compiler.is_compiling():
            return
        first = 0 if self.config.encoder_config.model_type in _WITHOUT_CLS else 1
        ends = input_ids == self.config.sep_token_id
        before = ends.cumsum(dim=1) == 0
        texts = ~ends if attention_mask is None else ~ends & attention_mask.bool()
        missing = ((texts & before).sum(dim=1) <= first) | ((texts & ~before).sum(dim=1) == 0)
        if missing.any():
            raise ValueError(
                f"Row {missing.nonzero()[0].item()} of the batch is one text alone, and what is judged are "
                "pairs, neither side empty: tokenizer(premise, hypothesis); for text-classification {'text': "
                "premise, 'text_pair': hypothesis}; for CrossEncoder (premise, hypothesis)."
            )


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
        loss = self._loss(logits, labels)
        inner = self._inner_states(self._base_inputs(*inputs), output_hidden_states, output_attentions)
        output = SequenceClassifierOutput(loss=loss, logits=logits, **inner)
        return output if self._as_dict(return_dict) else output.to_tuple()


ModernBertNliConfig.register_for_auto_class()
ModernBertNliModel.register_for_auto_class("AutoModel")
ModernBertNliForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
