"""ModernBERT-NLI: natural language inference with learned abstention, as small heads on a frozen encoder.

    model = AutoModel.from_pretrained(checkpoint, trust_remote_code=True)
    output = model(**tokenizer(premise, hypothesis, return_tensors="pt"))
    output.logits, output.uncertainty

A checkpoint stores the heads alone. The encoder comes from its own repository, is never trained, and its
outputs are bit-identical to those of the plain `AutoModel`, so that embeddings stay compatible with an
existing index.
"""

import copy
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import ModelOutput, SequenceClassifierOutput
from transformers.utils import logging

from .checkpoint import HUB_ARGUMENTS, Origin, explained, location_of, replacing
from .configuration_modernbert_nli import ENCODINGS, PROBLEM_TYPES, ModernBertNliConfig
from .encoder import (
    BACKENDS,
    Backend,
    check_encoder,
    install_hooks,
    layer_states,
    load_encoder,
    runs_graphs,
)
from .fingerprint import HOW, changed_base, fingerprint_of, heads_digest, require_base, stale, tokens_of
from .heads import HEADS, HYPOTHESIS, PREMISE, ErrorHead, Familiarity, first_tokens
from .tokenization import TokenizerMismatch

if TYPE_CHECKING:
    from .states import TokenStates

logger = logging.get_logger(__name__)

Encoding = Literal["joint", "separate"]
Mode = Literal["embed", "late_interaction", "nli", "abstention", "judgement"]
MODES = ("embed", "late_interaction", "nli", "abstention", "judgement")
# Small, and confidences are calibrated in float32.
IN_FLOAT32 = ("nli_hidden", "nli_output", "abstention_head", "familiarity", "adapter")

# Arguments of `from_pretrained` that concern base and heads, or the base alone.
_PLACEMENT_ARGUMENTS = (
    "dtype",
    "torch_dtype",
    "device_map",
    "max_memory",
    "offload_folder",
    "offload_buffers",
)
_BASE_ARGUMENTS = ("attn_implementation", "quantization_config")
_PUSH_ARGUMENTS = ("repo_id", "commit_message", "private", "token", "revision", "create_pr", "tags")
_WITHOUT_CLS = ("t5", "mt5", "umt5", "xlnet")  # whose first token is text


@dataclass
class ModernBertNliOutput(ModelOutput):
    """All that one pass computed.

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`, *optional*): Given `labels`.
        last_hidden_state (`torch.FloatTensor` of shape `(batch, tokens, hidden_size)`): Of the base.
        logits (`torch.FloatTensor` of shape `(batch, num_labels)`): Of entailment, neutral, contradiction.
        abstention_logits (`torch.FloatTensor` of shape `(batch, 2)`): Of confident, uncertain.
        uncertainty (`torch.FloatTensor` of shape `(batch,)`): 0 to 1; abstain from the threshold upwards. 1
            where the encoder does not read one of the texts.
        familiarity (`torch.FloatTensor` of shape `(batch, 2)`, *optional*): How much premise and hypothesis
            are like text that the encoder reads, 0 to 1; of heads that tell.
        hidden_states, attentions (`tuple[torch.FloatTensor]`, *optional*): The base's own, where asked for.
    """

    loss: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    logits: Any = None
    abstention_logits: Any = None
    uncertainty: Any = None
    familiarity: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class ModernBertNliModel(PreTrainedModel):
    """NLI head and abstention head on a frozen encoder.

    `ModernBertNliModel(config)` has a random encoder, as everywhere in transformers. `from_pretrained` loads
    a checkpoint, `from_base` puts new heads on a pretrained encoder.

    Args:
        config (`ModernBertNliConfig`): The configuration.
        encoder (`PreTrainedModel`, *optional*): The base, already loaded.
    """

    config_class = ModernBertNliConfig
    base_model_prefix = "encoder"
    _no_split_modules: Any = None
    supports_gradient_checkpointing = False  # nothing flows back through the encoder
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True
    _keep_in_fp32_modules_strict = list(IN_FLOAT32[:3])  # and the others, where there are any

    def __init__(
        self,
        config: ModernBertNliConfig,
        encoder: PreTrainedModel | None = None,
        _without_encoder: bool = False,
    ):
        super().__init__(config)
        self.origin = Origin()
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._replay_sample: Any = None
        self.register_module("encoder", None)
        self.nli_hidden: Any = HEADS[config.head_type](config)
        self.nli_output = nn.Linear(config.nli_hidden_size, config.num_labels)
        self.abstention_head: Any = ErrorHead(config)
        self.familiarity: Any = Familiarity(config.hidden_size) if config.familiarity else None
        self.adapter: Any = None
        if config.adapter:
            from .lora import LowRankAdapter

            self.adapter = LowRankAdapter(**config.adapter)
        self._keep_in_fp32_modules_strict = [name for name in IN_FLOAT32 if getattr(self, name) is not None]
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
                self.origin.remember_base(config, encoder, {}, pin=False)

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
            - `mode="judgement"`: [`ModernBertNliOutput`] of what the heads say
            - without a mode: the same, with the base's last states

        Raises:
            ValueError: an unknown mode or encoding, a text without a second one, labels that are no classes,
                an encoder that is to learn, or arguments that do not go together.
        """
        if mode is not None and mode not in MODES:
            raise ValueError(f"`mode` must be one of {', '.join(MODES)} or None, got {mode!r}.")
        if mode is not None and labels is not None:
            raise ValueError("A `mode` has no loss: leave it out with labels.")
        inputs = self.base_inputs(input_ids, attention_mask, token_type_ids, inputs_embeds)
        if mode in ("embed", "late_interaction"):
            tokens = self._plain_pass(inputs)
            return first_tokens(tokens, attention_mask) if mode == "embed" else tokens

        self._require_frozen()
        if (
            mode is not None or labels is not None
        ):  # tools that embed give texts alone, and look at their states
            self._require_pairs(input_ids, attention_mask)
        last_hidden_state: torch.Tensor | None = None
        if runs_graphs(self.encoder) and self.chosen_encoding(encoding) == "joint":
            output = self._judge_by_graph(inputs)
        elif self.chosen_encoding(encoding) == "separate":
            from .separate import judge_texts_of

            output = judge_texts_of(self, input_ids, attention_mask)
        else:
            last_hidden_state, tokens, where, familiarity = self.read_joint(inputs, whole=mode is None)
            output = self.judge(tokens, where, familiarity)
        if mode is None and last_hidden_state is None and not runs_graphs(self.encoder):
            last_hidden_state = self._plain_pass(inputs)
        if mode == "nli":
            return output.logits
        if mode == "abstention":
            return output.logits, output.abstention_logits
        if mode == "judgement":
            return output
        # Made anew, because a field that is set later comes last, or is no item at all.
        loss = self._loss(output.logits, labels)
        inner = self._inner_states(inputs, output_hidden_states, output_attentions)
        output = ModernBertNliOutput(loss=loss, last_hidden_state=last_hidden_state, **output, **inner)
        return output if self._as_dict(return_dict) else output.to_tuple()

    def encode(self, texts: str | Sequence[str], batch_size: int = 32, cut: bool = True) -> "TokenStates":
        """Encode texts alone, each distinct one once, for `classify`.

        Args:
            texts (`str` or `Sequence[str]`): One text or many.
            batch_size (`int`, *optional*, defaults to 32): Texts in a batch; long ones meet long ones.
            cut (`bool`, *optional*, defaults to `True`):
                Leave out the end of a text that exceeds the window, with a warning; otherwise raise.

        Raises:
            PairError: something that is no text, or too long without `cut`; its position is named.
            ValueError: the heads were not trained for separate encoding, or the base has changed.
        """
        from .separate import encode

        return encode(self, texts, batch_size, cut)

    def classify(
        self,
        premises: "TokenStates",
        hypotheses: "TokenStates",
        rows: torch.Tensor | None = None,
        batch_size: int = 256,
    ) -> ModernBertNliOutput:
        """Judge pairs of encoded texts, without the encoder.

        Args:
            premises, hypotheses (`TokenStates`): What `encode` or `project_states` returned, or
                `TokenStates.load`.
            rows (`torch.LongTensor` of shape `(pairs, 2)`, *optional*):
                Which premise meets which hypothesis. By default the first meets the first, and so on; where
                there is one on a side, it meets all others.
            batch_size (`int`, *optional*, defaults to 256): Pairs in a batch; long ones meet long ones.

        Raises:
            ValueError: states of another encoder, projected by other heads, or sides that do not match in
                number.
        """
        from .separate import classify

        return classify(self, premises, hypotheses, rows, batch_size)

    def project_states(self, states: "TokenStates", batch_size: int = 256) -> "TokenStates":
        """What these heads make of encoded texts by themselves: fewer bytes, and nothing to do again.

        Any heads on the same base read raw states; projected ones are bound to the heads that made them, and
        nothing can be trained on them.

        Args:
            states (`TokenStates`): What `encode` returned, or `TokenStates.load`.
            batch_size (`int`, *optional*, defaults to 256): Texts in a batch.

        Raises:
            ValueError: states of another encoder, or the heads are in training.
        """
        from .separate import project_states

        return project_states(self, states, batch_size)

    @torch.no_grad()
    def summaries(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        encoding: str | None = None,
    ) -> torch.Tensor:
        """What the label of each pair is concluded from, `(batch, size)`: see `heads.py`.

        Args:
            input_ids, attention_mask, token_type_ids, encoding: As for `forward`.
        """
        if runs_graphs(self.encoder):
            raise ValueError("A graph gives no summaries: load the checkpoint without `backend` to adapt it.")
        inputs = self.base_inputs(input_ids, attention_mask, token_type_ids, None)
        self._require_pairs(input_ids, attention_mask)
        where: torch.Tensor | None
        if self.chosen_encoding(encoding) == "separate":
            from .separate import side_by_side, texts_of

            tokens, where, _ = side_by_side(self, texts_of(self, input_ids, attention_mask))
        else:
            _, tokens, where, _ = self.read_joint(inputs, whole=False)
        return self.nli_hidden.summary(tokens, None if where is None else where.to(tokens.device))

    # States to judgements ---------------------------------------------------------------------------------

    def read_joint(
        self, inputs: dict[str, Any], whole: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Of pairs: the base's last states if all of its layers ran, and what `judge` takes."""
        states, last_hidden_state = self.run_encoder(inputs, "joint", whole=whole)
        if self.config.head_type == "cls":
            states = [first_tokens(layer, inputs["attention_mask"])[:, None] for layer in states]
            return last_hidden_state, self.project(states, "joint"), None, None
        where = self.segments(inputs["input_ids"], inputs["attention_mask"])
        familiarity = self.familiarity_of(states, "joint", where == PREMISE, where == HYPOTHESIS)
        return last_hidden_state, self.project(states, "joint"), where, familiarity

    @torch.no_grad()
    def encoder_states(self, inputs: dict[str, Any], encoding: Encoding) -> torch.Tensor:
        """The states that the heads read of a padded batch, `(batch, layers, tokens, hidden_size)`.

        Args:
            inputs (`dict`): What the base's tokenizer returns, for pairs (joint) or for texts (separate).
            encoding (`"joint"` or `"separate"`): Which layers.
        """
        if runs_graphs(self.encoder):
            return self.encoder.states(inputs, encoding)
        inputs = {
            key: value for key, value in inputs.items() if key != "token_type_ids" or self.takes_token_types
        }
        return torch.stack(self.run_encoder(inputs, encoding, whole=False)[0], dim=1)

    def run_encoder(
        self, inputs: dict[str, Any], encoding: str, whole: bool
    ) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """States of the layers that the heads read and, if `whole`, the last ones of the plain base."""
        layers = self.config.encoder_layers[encoding]
        if self.adapter is None:
            return layer_states(self.encoder, layers, inputs, self.is_hooked, whole)
        if torch.compiler.is_compiling():
            raise ValueError(
                "A base with an adapter cannot be compiled or exported: train heads without one."
            )
        from .lora import applied

        with applied(self.adapter):
            learns = self.adapter.trains
            states, _ = layer_states(self.encoder, layers, inputs, self.is_hooked, whole=False, learns=learns)
        return states, None  # the last states are to be those of the plain base

    def _judge_by_graph(self, inputs: dict[str, Any]) -> ModernBertNliOutput:
        """Pairs in one sequence, through encoder and heads at once, where a graph has both."""
        judged = {name: part.to(self.heads_device) for name, part in self.encoder.judge_pairs(inputs).items()}
        return ModernBertNliOutput(**judged)

    def project(self, states: Sequence[torch.Tensor], encoding: str) -> torch.Tensor:
        """States to what the NLI head makes of each token alone, (batch, tokens, size)."""
        return self.nli_hidden.project([layer.to(self.heads_device) for layer in states], encoding)

    def familiarity_of(
        self, states: Sequence[torch.Tensor], encoding: str, *present: torch.Tensor
    ) -> torch.Tensor:
        """Whether the encoder reads texts, `(batch, len(present))`; 1 of heads that cannot tell.

        Args:
            states (`Sequence[torch.Tensor]`): By layer that is read, `(batch, tokens, hidden_size)`.
            encoding (`str`): Which layers these are.
            *present (`torch.Tensor` of shape `(batch, tokens)`): Where the tokens of each text are.
        """
        if self.familiarity is None:
            return states[0].new_ones(states[0].shape[0], len(present), dtype=torch.float32)
        layer = states[self.config.encoder_layers[encoding].index(self.config.familiarity["layer"])]
        layer = layer.to(self.heads_device)
        return torch.stack([self.familiarity(layer, where.to(layer.device)) for where in present], dim=-1)

    def judge(
        self, tokens: torch.Tensor, segments: torch.Tensor | None, familiarity: torch.Tensor | None = None
    ) -> ModernBertNliOutput:
        """Projected tokens of pairs, and whether the encoder reads them, to logits and uncertainty."""
        segments = None if segments is None else segments.to(tokens.device)
        return self.conclude(self.nli_hidden(tokens, segments), familiarity)

    def conclude(self, hidden: torch.Tensor, familiarity: torch.Tensor | None = None) -> ModernBertNliOutput:
        """Hidden vectors of the NLI head, `(batch, nli_hidden_size)`, to logits and uncertainty."""
        if torch.is_autocast_enabled(hidden.device.type):
            # In eight bits, many pairs would be equally uncertain.
            with torch.autocast(hidden.device.type, enabled=False):
                return self.conclude(hidden.float(), familiarity)
        logits = self.nli_output(hidden)
        abstention_logits = self.abstention_head(torch.cat([hidden, logits], dim=-1))
        uncertainty = self.uncertainty(logits, abstention_logits)
        familiarity = familiarity if self.tells else None
        if familiarity is not None:
            uncertainty = uncertainty.masked_fill(self.unread(familiarity).any(dim=-1), 1.0)
        return ModernBertNliOutput(
            logits=logits,
            abstention_logits=abstention_logits,
            uncertainty=uncertainty,
            familiarity=familiarity,
        )

    @property
    def tells(self) -> bool:
        """Whether these heads tell text that the encoder does not read."""
        return self.familiarity is not None

    def unread(self, familiarity: torch.Tensor) -> torch.Tensor:
        """Which texts the encoder does not read, by what `familiarity_of` says of them."""
        return familiarity < self.config.familiarity["threshold"]

    def chosen_encoding(self, encoding: str | None) -> str:
        """The encoding that the caller or the configuration chose; a ValueError where these heads lack it."""
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
    def heads_device(self) -> torch.device:
        """Where the heads compute: those that accelerate offloads are elsewhere between calls."""
        output: Any = self.nli_output
        device = next(self.head_tensors()).device
        return device if device.type != "meta" else torch.device(output._hf_hook.execution_device)

    @property
    def heads_dtype(self) -> torch.dtype:
        """In what the heads compute; of those that were quantised, in place, norms are left."""
        return next(tensor.dtype for tensor in self.head_tensors() if tensor.is_floating_point())

    def uncertainty(self, logits: torch.Tensor, abstention_logits: torch.Tensor) -> torch.Tensor:
        """(batch,): how likely the label is wrong, as a mean of the abstention head and 1 - MaxProb."""
        weight = self.config.abstention_weight
        learned, max_prob = abstention_logits.softmax(dim=-1)[..., 1], logits.softmax(dim=-1).amax(dim=-1)
        return weight * learned + (1 - weight) * (1 - max_prob)

    def segments(self, input_ids: torch.Tensor | None, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """(batch, tokens): 1 in the premise, 2 in the hypothesis, special tokens included; 0 for padding."""
        if input_ids is None:
            raise ValueError(
                "The alignment head finds the hypothesis by its separator in `input_ids`: give them too."
            )
        separator = input_ids == self.config.sep_token_id
        after_first = separator.cumsum(dim=1) - separator.long() > 0
        segments = torch.where(after_first, HYPOTHESIS, PREMISE)
        return segments if attention_mask is None else segments * attention_mask

    def base_inputs(
        self, input_ids: Any, attention_mask: Any, token_type_ids: Any, inputs_embeds: Any
    ) -> dict[str, Any]:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "inputs_embeds": inputs_embeds}
        if token_type_ids is not None and self.takes_token_types:
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

    # The base, a frozen guest ----------------------------------------------------------------------------

    def attach_encoder(self, encoder: Any) -> None:
        """Take a loaded encoder as the frozen base."""
        check_encoder(encoder, self.config)
        self.encoder = encoder.requires_grad_(False).eval()
        self.config.encoder_config = encoder.config
        # Exact names: `save_pretrained` drops them and Trainer's resume expects them missing.
        self._keys_to_ignore_on_save = {f"encoder.{key}" for key in encoder.state_dict()}
        self._no_split_modules = set(self._no_split_modules or ()) | set(encoder._no_split_modules or ())
        layers = {layer for layers in self.config.encoder_layers.values() for layer in layers}
        if getattr(self, "adapter", None) is not None:
            self.adapter.install(encoder)
        self.is_hooked = install_hooks(encoder, sorted(layers))
        self.takes_token_types = "token_type_ids" in inspect.signature(encoder.forward).parameters

    def free_heads(self) -> None:
        """Let those parameters learn that the loss of labels reaches, and no others.

        The abstention head has a stage of its own, and so has another encoding than the configuration's.
        """
        of_layers = "nli_hidden.layer_weights."
        for name, parameter in self.named_parameters():
            own = not name.startswith(of_layers) or name == of_layers + self.config.encoding
            parameter.requires_grad_(own and name.startswith(("nli_hidden.", "nli_output.")))

    def requires_grad_(self, requires_grad: bool = True) -> "ModernBertNliModel":
        """As in PyTorch for what can learn: the encoder stays frozen, and warns of it."""
        if not requires_grad:
            return super().requires_grad_(False)
        logger.warning_once(
            "The encoder stays frozen: `requires_grad_()` lets the NLI head learn. (Said once.)"
        )
        self.free_heads()
        return self

    def train(self, mode: bool = True) -> "ModernBertNliModel":
        """Training mode for what is trained; frozen parts, the encoder among them, stay as at inference."""
        super().train(mode)
        for part in self.children():
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Refused: the base is frozen, and its embeddings are those of its own repository."""
        raise NotImplementedError(
            "The base stays as it is, so its embeddings cannot be resized: put new heads on a base that has "
            "the tokens that you need."
        )

    def base_fingerprint(self) -> dict[str, Any] | None:
        """What tells the base, as it is now, from others: see `fingerprint.py`. One short pass."""
        return fingerprint_of(self)

    def changed_base(self) -> str | None:
        """Whether the base is another than the one that these heads belong to: a sentence, or None."""
        return changed_base(self)

    def require_base(self) -> None:
        """Raise `EncoderMismatch` where the base is another than the one that these heads belong to.

        A base that was quantised on loading may be as far off: its heads can be asked, and guarantee nothing.
        """
        require_base(self)

    # What the heads guarantee -------------------------------------------------------------------------------

    def set_calibration(self, calibration: Mapping[str, Any] | None, threshold: float) -> None:
        """Give these heads a guarantee and a threshold, which hold for them alone: see `calibration`.

        Args:
            calibration (`Mapping`, *optional*): By encoding, see `calibration.py`.
            threshold (`float`): The uncertainty from which to abstain unless told otherwise.
        """
        from .calibration import check_calibration

        check_calibration(calibration, ENCODINGS)
        self.config.calibration = calibration
        self.config.abstention_threshold = threshold
        self.config.calibrated_heads = self.heads_digest()
        if self.changed_base():  # quantised, say: that is then what was calibrated
            self.config.base_fingerprint = {**self.config.base_fingerprint, **(self.base_fingerprint() or {})}

    @property
    def calibration(self) -> Mapping[str, Any] | None:
        """The configuration's calibration.

        Raises:
            StaleCalibration: it was made for other heads, or on another base, of which it says nothing.
        """
        from .calibration import StaleCalibration

        if self.config.calibration and (problem := self.stale_calibration()):
            raise StaleCalibration(problem)
        return self.config.calibration

    def stale_calibration(self) -> str | None:
        """Whether the configuration's calibration is of other heads or another base: a sentence, or None."""
        if self.config.calibrated_heads is None and self.config.calibration is None:
            return None
        problem = stale(self.config, self.heads_digest())
        if problem is None and (changed := self.changed_base()):
            problem = f"no longer holds: the encoder {changed}. Undo that, or calibrate again: {HOW}"
        return problem and f"The calibration in the configuration {problem}"

    def heads_digest(self) -> str:
        """See `fingerprint.heads_digest`: computed anew, for weights change in many ways."""
        return heads_digest(self.head_state(), self.config)

    def _own_state(self) -> dict[str, Any]:
        return {key: value for key, value in self.state_dict().items() if not key.startswith("encoder.")}

    def head_state(self) -> dict[str, torch.Tensor]:
        """The heads' tensors by name, as in `model.safetensors`, wherever they are kept."""
        tensors = {}
        for key, value in self._own_state().items():
            if isinstance(value, torch.Tensor):
                tensors[key] = value
            elif isinstance(value, tuple):  # weight and bias of a layer that was quantised in place
                tensors[key] = torch.cat([part.dequantize().flatten() for part in value if part is not None])
        for name, module in self.named_modules():  # those that accelerate keeps elsewhere between calls
            offloaded: Any = getattr(getattr(module, "_hf_hook", None), "weights_map", None)
            for key, _ in module.named_parameters(recurse=False) if offloaded is not None else ():
                if (path := f"{name}.{key}") in tensors and tensors[path].is_meta:
                    tensors[path] = offloaded[key]
        return tensors

    @property
    def replay_sample(self) -> Any:
        """A sample of what the heads learnt from; `None` without one of heads that summarise as these.

        Raises:
            OSError: its file cannot be read.
        """
        from .replay import FILES, ReplaySample, summariser

        if self._replay_sample is None:
            paths = filter(None, map(self.origin.beside_heads, FILES))
            self._replay_sample = next(map(ReplaySample.load, paths), None)
        sample = self._replay_sample
        known = sample is not None and sample.summarised_by == summariser(self.head_state(), self.config)
        return sample if known else None

    @replay_sample.setter
    def replay_sample(self, sample: Any) -> None:
        self._replay_sample = sample

    # Loading and saving -----------------------------------------------------------------------------------

    @classmethod
    def from_base(
        cls, config: ModernBertNliConfig, encoder: PreTrainedModel | None = None, **kwargs: Any
    ) -> "ModernBertNliModel":
        """New, untrained heads on the pretrained base that the configuration names.

        Args:
            config (`ModernBertNliConfig`): See `ModernBertNliConfig.from_base`.
            encoder (`PreTrainedModel`, *optional*): That base, already loaded.
            **kwargs: Arguments of `AutoModel.from_pretrained` for the base.
        """
        build: Any = cls  # a subclass, which takes the encoder
        model = build(config, encoder=load_encoder(config, **kwargs) if encoder is None else encoder)
        model.origin.remember_base(config, model.encoder, kwargs, pin=encoder is None)
        return model

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *model_args: Any,
        config: Any = None,
        encoder: PreTrainedModel | None = None,
        backend: Backend | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load heads from a checkpoint and their base from its own repository.

        Args:
            pretrained_model_name_or_path (`str`): Checkpoint of the heads: repository id or folder.
            config (`PretrainedConfig` or `str`, *optional*): To use instead of the checkpoint's.
            encoder (`PreTrainedModel`, *optional*): The base, already loaded, to be used as it is.
            backend (`"torch"`, `"onnx"`, `"onnx-int8"` or `"openvino"`, *optional*, defaults to `"torch"`):
                What runs the base: with ONNX Runtime or OpenVINO the graphs in the checkpoint's folder
                `onnx/`, which `export.py` writes. See `onnx_backend.py`.
            **kwargs: As in transformers. `dtype`, `device_map`, `attn_implementation`, `quantization_config`
                concern the base (the heads stay float32, on one device); `revision`, `subfolder` the heads
                (transformers looks for a checkpoint's code at the top, whatever `subfolder` is: put it
                there, or install the package and call `modernbert_nli.register()`);
                `base_model_name_or_path`, `base_model_revision` say where to take the base from this time.

        Raises:
            OSError: the checkpoint or its base cannot be reached or read.
            ValueError: the heads and the base do not belong together, or the heads are incomplete.
            ImportError: a backend is not installed.
        """
        if kwargs.get("trust_remote_code") and not __name__.startswith("transformers_modules."):
            logger.warning_once(
                f"The code that runs is that of the installed package in {Path(__file__).parent}, not the "
                "checkpoint's: `trust_remote_code` changes nothing after `modernbert_nli.register()`."
            )
        if backend not in (None, *BACKENDS):
            raise ValueError(f"`backend` must be one of {', '.join(BACKENDS)}, got {backend!r}.")
        graphs = backend is not None and backend != "torch"
        if graphs and encoder is not None:
            raise ValueError(f"`backend={backend!r}` takes the place of the base: give no `encoder` with it.")
        return_info = kwargs.pop("output_loading_info", False)
        placement = {key: kwargs.pop(key) for key in _PLACEMENT_ARGUMENTS if key in kwargs}
        for_base = {key: kwargs.pop(key) for key in _BASE_ARGUMENTS if key in kwargs}
        location = location_of(kwargs)
        hub = {key: value for key, value in location.items() if key in HUB_ARGUMENTS}

        if not isinstance(config, PretrainedConfig):  # the auto classes give a ready one
            config, unused = cls.config_class.from_pretrained(
                config or pretrained_model_name_or_path, return_unused_kwargs=True, **kwargs
            )
            kwargs = {**unused, **location}
        else:
            base, revision = (kwargs.pop(f"base_model_{key}", None) for key in ("name_or_path", "revision"))
            config = copy.deepcopy(config)
            if base is not None:
                config.take_base_from(str(base), revision)
            elif revision is not None:
                config.base_model_revision = revision

        if config._attn_implementation is not None:  # where the auto classes put the argument
            for_base.setdefault("attn_implementation", config._attn_implementation)

        loaded_here = encoder is None and not graphs
        if encoder is None and not graphs:
            encoder = load_encoder(config, **for_base, **placement, **hub)
        dtype = {key: value for key, value in placement.items() if "dtype" in key}
        model, info = cls._load_heads(
            pretrained_model_name_or_path, *model_args, config=config, **dtype, **kwargs
        )
        here = {key: value for key, value in location.items() if key != "force_download"}
        model.config.found_in(str(pretrained_model_name_or_path), here)
        if graphs:
            from .onnx_backend import OnnxEncoder, int8_guarantee

            name = str(pretrained_model_name_or_path)
            run_by: Any = backend
            encoder = OnnxEncoder(model.config, model.heads_digest(), name, run_by, **location)
            for key, value in int8_guarantee(name, **location).items() if encoder.int8 else ():
                setattr(model.config, key, value)
        model._place_beside(encoder)
        model.require_base()
        model.origin.heads = (pretrained_model_name_or_path, location)
        model.origin.remember_base(model.config, model.encoder, hub, pin=loaded_here)
        return (model, info) if return_info else model

    @classmethod
    def _load_heads(
        cls, name: str | os.PathLike, *model_args: Any, **kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        def stored_labels() -> int:
            return cls.config_class.from_pretrained(name, **location_of(kwargs)).num_labels

        with explained(str(name), kwargs["config"], stored_labels):
            model, info = super().from_pretrained(
                name, *model_args, _without_encoder=True, output_loading_info=True, **kwargs
            )
        if info["missing_keys"]:  # transformers would leave these random
            raise ValueError(
                f"The heads in {str(name)!r} are incomplete: {sorted(info['missing_keys'])} are missing"
                + (f" and {sorted(info['unexpected_keys'])} unknown" if info["unexpected_keys"] else "")
                + f". A checkpoint for `head_type={kwargs['config'].head_type!r}` is needed."
            )
        for parameter in model.parameters():
            # Out of the mapped file, whose odd addresses make kernels round otherwise than before the save.
            parameter.data = parameter.data.to(torch.float32, copy=True)
        model.free_heads()
        return model, info

    def _place_beside(self, encoder: Any) -> None:
        device_map = getattr(encoder, "hf_device_map", None) or {}
        devices = [device for device in device_map.values() if device not in ("disk", "meta")]
        if devices or not device_map:
            self.to(devices[0] if devices else encoder.device)
        self.attach_encoder(encoder)
        if device_map:
            self.hf_device_map = {
                f"encoder.{key}" if key else "encoder": device for key, device in device_map.items()
            }

    def save_pretrained(
        self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """Save the heads, the configuration, the code and the tokenizer.

        They replace a checkpoint that is in the folder as a whole: nothing of another form of its weights
        (in one file, in several) remains, and where they cannot be written, it stays as it is.

        Args:
            save_directory (`str` or `os.PathLike`): The folder.
            push_to_hub (`bool`, *optional*, defaults to `False`): Push it to the Hub too.
            **kwargs: As in transformers.

        Raises:
            OSError: the folder cannot be written to, as where the disk is full.
        """
        from .calibration import FILE as CALIBRATION
        from .replay import FILES as REPLAY_SAMPLES

        hub = {key: kwargs.pop(key) for key in _PUSH_ARGUMENTS if key in kwargs}
        folder = Path(save_directory)
        self._know_tokenizer()
        # Exact names, also of a base that was quantised in place or got an adapter of others.
        self._keys_to_ignore_on_save = {key for key in self.state_dict() if key.startswith("encoder.")}
        if any(getattr(value, "is_quantized", True) for value in self._own_state().values()):
            raise ValueError(
                "Heads that were quantised in place cannot be saved: save them as they were, and quantise "
                "whenever they are loaded."
            )
        if not kwargs.get("is_main_process", True) or kwargs.get("distributed_checkpoint"):
            super().save_pretrained(folder, **kwargs)  # writes nothing, or what several processes write
        else:
            with replacing(folder, kwargs.get("variant")) as aside:
                super().save_pretrained(aside, **kwargs)
                self._save_tokenizer(aside, folder)
                self.origin.save_embedding(aside)
                if (sample := self.replay_sample) is not None:
                    sample.save(aside)
            for name in REPLAY_SAMPLES[sample is not None :]:  # of an earlier save, or version
                (folder / name).unlink(missing_ok=True)
            if self.config.calibration is None:
                (folder / CALIBRATION).unlink(missing_ok=True)
        if push_to_hub:  # here, because transformers would push before the tokenizer is there
            self.push_to_hub(hub.pop("repo_id", folder.name), **hub)

    def _know_tokenizer(self) -> None:
        known = self.config.base_fingerprint
        if known and "tokens" not in known:
            with suppress(OSError, TokenizerMismatch):  # said where the tokenizer is to be saved
                self.config.base_fingerprint = {**known, "tokens": tokens_of(self.tokenizer)}

    def _save_tokenizer(self, aside: Path, folder: Path) -> None:
        try:
            tokenizer = self.tokenizer
        except (OSError, TokenizerMismatch) as error:  # the heads are saved all the same
            if not (folder / "tokenizer_config.json").exists():
                logger.warning_once(
                    "A checkpoint was saved without a tokenizer. Each load then needs that of "
                    f"{self.config.base_model_name_or_path!r}. {error}"
                )
        else:
            tokenizer.save_pretrained(aside)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """What `load_tokenizer` returns, loaded once."""
        if self._tokenizer is None:
            self._tokenizer = self.load_tokenizer()
        return self._tokenizer

    def use_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Take one that was loaded already, unless the model has its own."""
        self._tokenizer = self._tokenizer or tokenizer

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the checkpoint that this model came from, else that of its base.

        Raises:
            OSError: neither has one, or neither can be reached.
            TokenizerMismatch: it cannot be that of the base.
        """
        return self.origin.tokenizer(self.config)

    def as_pipeline(self, tokenizer: PreTrainedTokenizerBase | None = None, **kwargs: Any) -> Any:
        """`NliAbstentionPipeline` around this model: `pipeline(task, model=<object>)` cannot find it.

        Args:
            tokenizer (`PreTrainedTokenizerBase`, *optional*): Defaults to the checkpoint's.
            **kwargs: Further arguments of the pipeline (`batch_size`, `threshold`, …).
        """
        # Inside the class, so that transformers sees the import and ships the file with every save.
        from .pipeline_modernbert_nli import NliAbstentionPipeline

        return NliAbstentionPipeline(model=self, tokenizer=tokenizer or self.tokenizer, **kwargs)

    def as_cloze(self, **kwargs: Any) -> Any:
        """This model's encoder as a zero-shot classifier by its masked-LM head: see `cloze.py`.

        Args:
            **kwargs: Further arguments of `AutoModelForMaskedLM.from_pretrained`.

        Raises:
            ImportError: this is the code of a checkpoint, and the package is not installed.
            OSError: the base cannot be reached or read.
            ValueError: the base has no masked-LM head.
        """
        try:
            from modernbert_nli.cloze import cloze_of
        except ImportError as error:
            raise ImportError(
                "A checkpoint brings no cloze classifier: `pip install modernbert-nli` has it."
            ) from error
        return cloze_of(self, **kwargs)


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
        inner = self._inner_states(self.base_inputs(*inputs), output_hidden_states, output_attentions)
        output = SequenceClassifierOutput(loss=loss, logits=logits, **inner)
        return output if self._as_dict(return_dict) else output.to_tuple()


ModernBertNliConfig.register_for_auto_class()
ModernBertNliModel.register_for_auto_class("AutoModel")
ModernBertNliForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
