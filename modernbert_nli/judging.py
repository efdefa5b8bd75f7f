"""States to logits: a pair's tokens, as the frozen encoder gives them, through the heads to a judgement."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import ModelOutput

from .configuration_modernbert_nli import ModernBertNliConfig
from .encoder import layer_states
from .heads import ABSTENTION_HEADS, HEADS, HYPOTHESIS, PREMISE, doubt
from .lora import LowRankAdapter, applied
from .onnx_backend import OnnxEncoder
from .pretrained import IN_FLOAT32, ModernBertNliPreTrainedModel

Encoding = Literal["joint", "separate"]


@dataclass
class ModernBertNliOutput(ModelOutput):
    """All that one pass computed.

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`, *optional*): Given `labels`.
        last_hidden_state (`torch.FloatTensor` of shape `(batch, tokens, hidden_size)`): Of the base.
        logits (`torch.FloatTensor` of shape `(batch, num_labels)`): Of entailment, neutral, contradiction.
        abstention_logits (`torch.FloatTensor` of shape `(batch, 2)`): Of confident, uncertain.
        uncertainty (`torch.FloatTensor` of shape `(batch,)`): 0 to 1; abstain from the threshold upwards.
        opinion_logits (`torch.FloatTensor` of shape `(batch, num_labels)`, *optional*):
            Of an abstention head that is an auxiliary classifier, with an opinion of its own on the labels.
        hidden_states, attentions (`tuple[torch.FloatTensor]`, *optional*): The base's own, where asked for.
    """

    loss: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    logits: Any = None
    abstention_logits: Any = None
    uncertainty: torch.Tensor | None = None
    opinion_logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class ModernBertNliHeads(ModernBertNliPreTrainedModel):
    """The heads on the base: what `ModernBertNliModel` and the texts that it keeps are judged by."""

    def __init__(
        self,
        config: ModernBertNliConfig,
        encoder: PreTrainedModel | None = None,
        _without_encoder: bool = False,
    ):
        super().__init__(config)
        self.nli_hidden: Any = HEADS[config.head_type](config)
        self.nli_output = nn.Linear(config.nli_hidden_size, config.num_labels)
        self.abstention_head: Any = ABSTENTION_HEADS[config.abstention_type](config)
        self.adapter: Any = None
        if config.adapter:
            self.adapter = LowRankAdapter(**config.adapter)
            self._keep_in_fp32_modules_strict = [*IN_FLOAT32, "adapter"]
        random = encoder is None and not _without_encoder
        if random:
            encoder = AutoModel.from_config(config.encoder_config)
        if encoder is not None:
            self.encoder = encoder
        self.post_init()
        self.free_heads()
        if encoder is not None:
            self.attach_encoder(encoder)
            if not random:
                config.base_fingerprint = self.base_fingerprint()
            if not random and encoder.config._name_or_path:
                self._remember_base({}, pin=False)

    @torch.no_grad()
    def encoder_states(self, inputs: dict[str, Any], encoding: Encoding) -> torch.Tensor:
        """The states that the heads read of a padded batch, `(batch, layers, tokens, hidden_size)`.

        Args:
            inputs (`dict`): What the base's tokenizer returns, for pairs (joint) or for texts (separate).
            encoding (`"joint"` or `"separate"`): Which layers.
        """
        if isinstance(self.encoder, OnnxEncoder):
            return self.encoder.states(inputs, encoding)
        inputs = {
            key: value for key, value in inputs.items() if key != "token_type_ids" or self._takes_token_types
        }
        return torch.stack(self._run_encoder(inputs, encoding, whole=False)[0], dim=1)

    def _run_encoder(
        self, inputs: dict[str, Any], encoding: str, whole: bool
    ) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        layers = self.config.encoder_layers[encoding]
        if self.adapter is None:
            return layer_states(self.encoder, layers, inputs, self._hooked, whole)
        if torch.compiler.is_compiling():
            raise ValueError(
                "A base with an adapter cannot be compiled or exported: train heads without one."
            )
        with applied(self.adapter):
            learns = self.adapter.trains
            states, _ = layer_states(self.encoder, layers, inputs, self._hooked, whole=False, learns=learns)
        return states, None  # the last states are to be those of the plain base

    def _judge_by_graph(self, inputs: dict[str, Any]) -> ModernBertNliOutput:
        """Pairs in one sequence, through encoder and heads at once, where a graph has both."""
        logits, abstention_logits = (part.to(self._heads_device) for part in self.encoder.judge_pairs(inputs))
        uncertainty = self.uncertainty(logits, abstention_logits)
        judged = {"logits": logits, "abstention_logits": abstention_logits, "uncertainty": uncertainty}
        return ModernBertNliOutput(**judged)

    def _project(self, states: Sequence[torch.Tensor], encoding: str) -> torch.Tensor:
        """States to what the heads make of each token alone, side by side, (batch, tokens, size)."""
        states = [layer.to(self._heads_device) for layer in states]
        tokens = self.nli_hidden.project(states, encoding)
        if not self._has_opinion:
            return tokens
        return torch.cat([tokens, self.abstention_head.project(states, encoding)], dim=-1)

    def _judge(self, tokens: torch.Tensor, segments: torch.Tensor | None) -> ModernBertNliOutput:
        """Projected tokens of pairs to logits and uncertainty."""
        segments = None if segments is None else segments.to(tokens.device)
        (head, own), *rest = self._parts(tokens)
        opinion = [head(theirs, segments) for head, theirs in rest]
        return self._judgement(head(own, segments), *opinion)

    def _parts(self, tokens: torch.Tensor) -> list[tuple[Any, torch.Tensor]]:
        """The heads that read the states, each with its part of the projected tokens."""
        if not self._has_opinion:
            return [(self.nli_hidden, tokens)]
        own = self.config.alignment_size
        return [(self.nli_hidden, tokens[..., :own]), (self.abstention_head, tokens[..., own:])]

    def _judgement(self, hidden: torch.Tensor, opinion: torch.Tensor | None = None) -> ModernBertNliOutput:
        """Hidden vectors, and the abstention head's opinion if it has one, to logits and uncertainty."""
        if torch.is_autocast_enabled(hidden.device.type):
            # In eight bits, many pairs would be equally uncertain.
            with torch.autocast(hidden.device.type, enabled=False):
                return self._judgement(hidden.float(), None if opinion is None else opinion.float())
        logits = self.nli_output(hidden)
        if opinion is not None:
            abstention_logits = doubt(opinion, logits.argmax(dim=-1))
        else:
            abstention_logits = self.abstention_head(torch.cat([hidden, logits], dim=-1))
        return ModernBertNliOutput(
            logits=logits,
            abstention_logits=abstention_logits,
            uncertainty=self.uncertainty(logits, abstention_logits),
            opinion_logits=opinion,
        )

    def _chosen(self, encoding: str | None) -> str:
        encoding = encoding or self.config.encoding
        if encoding not in self.config.encoder_layers:
            raise ValueError(
                f"These heads know {' and '.join(self.config.encoder_layers)} encoding, not {encoding!r}."
            )
        return encoding

    def head_tensors(self) -> Iterator[torch.Tensor]:
        """Parameters and buffers of all but the encoder."""
        for name, part in self._modules.items():
            if part is not None and name != "encoder":
                yield from part.parameters()
                yield from part.buffers()

    @property
    def _heads_device(self) -> torch.device:
        """Where the heads compute: those that accelerate offloads are elsewhere between calls."""
        output: Any = self.nli_output
        device = next(self.head_tensors()).device
        return device if device.type != "meta" else torch.device(output._hf_hook.execution_device)

    @property
    def _heads_dtype(self) -> torch.dtype:
        """In what the heads compute; of those that were quantised, in place, norms are left."""
        return next(tensor.dtype for tensor in self.head_tensors() if tensor.is_floating_point())

    @property
    def _has_opinion(self) -> bool:
        return self.config.abstention_type == "opinion"

    def uncertainty(self, logits: torch.Tensor, abstention_logits: torch.Tensor) -> torch.Tensor:
        """(batch,): how likely the label is wrong, as a mean of the abstention head and 1 - MaxProb."""
        weight = self.config.abstention_weight
        learned, max_prob = abstention_logits.softmax(dim=-1)[..., 1], logits.softmax(dim=-1).amax(dim=-1)
        return weight * learned + (1 - weight) * (1 - max_prob)

    def _segments(self, input_ids: torch.Tensor | None, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """(batch, tokens): 1 in the premise, 2 in the hypothesis, special tokens included; 0 for padding."""
        if input_ids is None:
            raise ValueError(
                "The alignment head finds the hypothesis by its separator in `input_ids`: give them too."
            )
        separator = input_ids == self.config.sep_token_id
        after_first = separator.cumsum(dim=1) - separator.long() > 0
        segments = torch.where(after_first, HYPOTHESIS, PREMISE)
        return segments if attention_mask is None else segments * attention_mask
