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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import ModelOutput, SequenceClassifierOutput
from transformers.utils import cached_file, logging
from transformers.utils.hub import extract_commit_hash

try:
    from .configuration_modernbert_nli import ModernBertNliConfig
    from .encoder_modernbert_nli import check_encoder, install_hooks, layer_states, load_encoder
    from .heads_modernbert_nli import HEADS, HYPOTHESIS, PREMISE, abstention_head
    from .tokenization_modernbert_nli import load_tokenizer
except ImportError:  # imported from the folder of these files, not through `trust_remote_code`
    from configuration_modernbert_nli import ModernBertNliConfig
    from encoder_modernbert_nli import check_encoder, install_hooks, layer_states, load_encoder
    from heads_modernbert_nli import HEADS, HYPOTHESIS, PREMISE, abstention_head
    from tokenization_modernbert_nli import load_tokenizer

logger = logging.get_logger(__name__)

Mode = Literal["embed", "late_interaction", "nli", "abstention"]
MODES = ("embed", "late_interaction", "nli", "abstention")

# Arguments of `from_pretrained` by what they concern: both repositories, base and heads, or the base alone.
_HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "proxies")
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


@dataclass
class ModernBertNliOutput(ModelOutput):
    """All that one pass computed.

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`, *optional*): Given `labels` or `abstention_labels`.
        last_hidden_state (`torch.FloatTensor` of shape `(batch, tokens, hidden_size)`): Of the base.
        logits (`torch.FloatTensor` of shape `(batch, num_labels)`): Of entailment, neutral, contradiction.
        abstention_logits (`torch.FloatTensor` of shape `(batch, 2)`): Of confident, uncertain.
        uncertainty (`torch.FloatTensor` of shape `(batch,)`): 0 to 1; abstain from the threshold upwards.
    """

    loss: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    logits: Any = None
    abstention_logits: Any = None
    uncertainty: torch.Tensor | None = None


class ModernBertNliPreTrainedModel(PreTrainedModel):
    """The base as a guest: loaded beside the heads, frozen, and left out of what is saved."""

    config_class = ModernBertNliConfig
    base_model_prefix = "encoder"
    _no_split_modules: Any = None
    supports_gradient_checkpointing = False  # nothing flows back through the encoder
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True
    # Small, and confidences are calibrated in float32.
    _keep_in_fp32_modules_strict = ["nli_hidden", "nli_output", "abstention_head"]

    def attach_encoder(self, encoder: PreTrainedModel) -> None:
        """Take a loaded encoder as the frozen base."""
        check_encoder(encoder, self.config)
        self.encoder = encoder.requires_grad_(False).eval()
        self.config.encoder_config = encoder.config
        # Exact names: `save_pretrained` drops them and Trainer's resume expects them missing.
        self._keys_to_ignore_on_save = {f"encoder.{key}" for key in encoder.state_dict()}
        self._no_split_modules = set(self._no_split_modules or ()) | set(encoder._no_split_modules or ())
        self._hooked = install_hooks(encoder, self.config.encoder_layers)
        self._takes_token_types = "token_type_ids" in inspect.signature(encoder.forward).parameters

    def train(self, mode: bool = True) -> "ModernBertNliPreTrainedModel":
        """Training mode for what is trained; frozen parts, the encoder among them, stay as at inference."""
        super().train(mode)
        for part in self.children():
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    @classmethod
    def from_base(
        cls, config: ModernBertNliConfig, encoder: PreTrainedModel | None = None, **kwargs: Any
    ) -> "ModernBertNliPreTrainedModel":
        """New, untrained heads on the pretrained base that the configuration names.

        Args:
            config (`ModernBertNliConfig`): See `ModernBertNliConfig.from_base`.
            encoder (`PreTrainedModel`, *optional*): That base, already loaded.
            **kwargs: Arguments of `AutoModel.from_pretrained` for the base.
        """
        model = cls(config, encoder=encoder or load_encoder(config, **kwargs))
        model._remember_base(kwargs, pin=encoder is None)
        return model

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *model_args: Any,
        config: Any = None,
        encoder: PreTrainedModel | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load heads from a checkpoint and their base from its own repository.

        Args:
            pretrained_model_name_or_path (`str`): Checkpoint of the heads: repository id or folder.
            config (`PretrainedConfig` or `str`, *optional*): To use instead of the checkpoint's.
            encoder (`PreTrainedModel`, *optional*): The base, already loaded, to be used as it is.
            **kwargs: As in transformers. `dtype`, `device_map`, `attn_implementation`, `quantization_config`
                concern the base (the heads stay float32, on one device); `revision`, `subfolder` the heads;
                `base_model_name_or_path`, `base_model_revision` say where to take the base from this time.

        Raises:
            OSError: the checkpoint or its base cannot be reached or read.
            ValueError: the heads and the base do not belong together, or the heads are incomplete.
        """
        return_info = kwargs.pop("output_loading_info", False)
        placement = {key: kwargs.pop(key) for key in _PLACEMENT_ARGUMENTS if key in kwargs}
        for_base = {key: kwargs.pop(key) for key in _BASE_ARGUMENTS if key in kwargs}
        location = {key: kwargs[key] for key in (*_HUB_ARGUMENTS, "revision", "subfolder") if key in kwargs}
        hub = {key: value for key, value in location.items() if key in _HUB_ARGUMENTS}

        if not isinstance(config, PretrainedConfig):  # the auto classes give a ready one
            config, unused = cls.config_class.from_pretrained(
                config or pretrained_model_name_or_path, return_unused_kwargs=True, **kwargs
            )
            kwargs = {**unused, **location}
        elif (base := kwargs.pop("base_model_name_or_path", None)) is not None:
            config = copy.deepcopy(config)
            config._base_override = (str(base), kwargs.pop("base_model_revision", None))

        loaded_here = encoder is None
        if encoder is None:
            encoder = load_encoder(config, **for_base, **placement, **hub)
        dtype = {key: value for key, value in placement.items() if "dtype" in key}
        model, info = cls._load_heads(
            pretrained_model_name_or_path, *model_args, config=config, **dtype, **kwargs
        )
        model._place_beside(encoder)
        model._tokenizer_sources.append((pretrained_model_name_or_path, location))
        model._remember_base(hub, pin=loaded_here)
        return (model, info) if return_info else model

    @classmethod
    def _load_heads(
        cls, name: str | os.PathLike, *model_args: Any, **kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        try:
            model, info = super().from_pretrained(
                name, *model_args, _without_encoder=True, output_loading_info=True, **kwargs
            )
        except SafetensorError as error:
            raise OSError(
                f"The heads in {str(name)!r} cannot be read: model.safetensors is truncated or of another "
                f"format ({error}). Download or copy it again."
            ) from error
        except RuntimeError as error:
            if "mismatch" not in str(error):
                raise
            raise ValueError(
                f"The heads in {str(name)!r} do not fit their config.json (hidden_size = "
                f"{kwargs['config'].hidden_size}, head_type = {kwargs['config'].head_type!r}): the two files "
                f"belong to different checkpoints. {error}"
            ) from error
        if info["missing_keys"]:  # transformers would leave these random
            raise ValueError(
                f"The heads in {str(name)!r} are incomplete: {sorted(info['missing_keys'])} are missing"
                + (f" and {sorted(info['unexpected_keys'])} unknown" if info["unexpected_keys"] else "")
                + f". A checkpoint for `head_type={kwargs['config'].head_type!r}` is needed."
            )
        for parameter in model.parameters():
            # Out of the mapped file, whose odd addresses make kernels round otherwise than before the save.
            parameter.data = parameter.data.clone()
        return model, info

    def _place_beside(self, encoder: PreTrainedModel) -> None:
        device_map = getattr(encoder, "hf_device_map", None) or {}
        devices = [device for device in device_map.values() if device not in ("disk", "meta")]
        if devices or not device_map:
            self.to(devices[0] if devices else encoder.device)
        self.attach_encoder(encoder)
        if device_map:
            self.hf_device_map = {
                f"encoder.{key}" if key else "encoder": device for key, device in device_map.items()
            }

    def _remember_base(self, hub: dict[str, Any], pin: bool) -> None:
        """Know where the base's tokenizer is, and pin the commit of a base that was taken from the Hub."""
        name, revision = self.config._base_override or (
            self.config.base_model_name_or_path,
            self.config.base_model_revision,
        )
        hub = {key: value for key, value in hub.items() if key in _HUB_ARGUMENTS and key != "force_download"}
        if pin and self.config._base_override is None and not os.path.isdir(name):
            path = cached_file(name, "config.json", **{**hub, "revision": revision, "local_files_only": True})
            self.config.base_model_revision = extract_commit_hash(path, None) or revision
        self._tokenizer_sources.append((name, {**hub, "revision": revision}))

    def save_pretrained(
        self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """Save the heads, the configuration, the code and, unless one is there already, the tokenizer."""
        hub = {key: kwargs.pop(key) for key in _PUSH_ARGUMENTS if key in kwargs}
        super().save_pretrained(save_directory, **kwargs)
        if self._tokenizer_sources and not (Path(save_directory) / "tokenizer_config.json").exists():
            self.load_tokenizer().save_pretrained(save_directory)
        if push_to_hub:  # here, because transformers would push before the tokenizer is there
            self.push_to_hub(hub.pop("repo_id", Path(save_directory).name), **hub)

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the checkpoint that this model came from, else that of its base.

        Raises:
            OSError: neither has one, or neither can be reached.
        """
        reasons = []
        for name, location in self._tokenizer_sources:
            try:
                return load_tokenizer(name, self.config.encoder_config, **location)
            except OSError as error:
                reasons.append(f"{str(name)!r}: {error}")
        raise OSError("No tokenizer could be loaded for this model. " + " ".join(reasons))


class ModernBertNliModel(ModernBertNliPreTrainedModel):
    """NLI head and abstention head on a frozen encoder.

    `ModernBertNliModel(config)` has a random encoder, as everywhere in transformers. `from_pretrained` loads
    a checkpoint, `from_base` puts new heads on a pretrained encoder.

    Args:
        config (`ModernBertNliConfig`): The configuration.
        encoder (`PreTrainedModel`, *optional*): The base, already loaded.
    """

    def __init__(
        self,
        config: ModernBertNliConfig,
        encoder: PreTrainedModel | None = None,
        _without_encoder: bool = False,
    ):
        super().__init__(config)
        self._tokenizer_sources: list[tuple[str | os.PathLike, dict[str, Any]]] = []
        self.register_module("encoder", None)
        self.nli_hidden = HEADS[config.head_type](config)
        size = self.nli_hidden.output_size
        self.nli_output = nn.Linear(size, config.num_labels)
        self.abstention_head = abstention_head(config, size + config.num_labels)
        if encoder is None and not _without_encoder:
            encoder = AutoModel.from_config(config.encoder_config)
        if encoder is not None:
            self.encoder = encoder
        self.post_init()
        if encoder is not None:
            self.attach_encoder(encoder)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        encoder_states: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        abstention_labels: torch.Tensor | None = None,
        mode: Mode | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        Args:
            input_ids (`torch.LongTensor` of shape `(batch, tokens)`):
                "[CLS] premise [SEP] hypothesis [SEP]"; any text where only its embedding is wanted.
            attention_mask, token_type_ids (of the same shape, *optional*): From the base's tokenizer.
            inputs_embeds (`torch.FloatTensor` of shape `(batch, tokens, hidden_size)`, *optional*):
                Instead of `input_ids`, for the embedding modes and the CLS head.
            encoder_states (`torch.Tensor` of shape `(batch, layers, tokens, hidden_size)`, *optional*):
                What `encode` returned for these `input_ids`: the encoder is not run again.
            labels (`torch.LongTensor` of shape `(batch,)`, *optional*):
                Classes; adds their cross-entropy as `loss`.
            abstention_labels (`torch.Tensor` of shape `(batch,)`, *optional*):
                1 (or a probability) where the NLI head errs; the loss is then the abstention head's.
            mode (`str`, *optional*): What to compute and return, below.

        Returns:
            - `mode="embed"`: the [CLS] state, `(batch, hidden_size)`
            - `mode="late_interaction"`: the states of all tokens, `(batch, tokens, hidden_size)`
            - `mode="nli"`: logits, `(batch, num_labels)`
            - `mode="abstention"`: logits and abstention logits, `(batch, num_labels)` and `(batch, 2)`
            - without a mode: [`ModernBertNliOutput`]

        Raises:
            ValueError: an unknown mode, or inputs that do not show where the hypothesis begins.
        """
        if mode is not None and mode not in MODES:
            raise ValueError(f"`mode` must be one of {', '.join(MODES)} or None, got {mode!r}.")
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "inputs_embeds": inputs_embeds}
        if token_type_ids is not None and self._takes_token_types:
            inputs["token_type_ids"] = token_type_ids
        if mode in ("embed", "late_interaction"):
            with torch.no_grad():
                tokens = self.encoder(**inputs).last_hidden_state
            return tokens[:, 0] if mode == "embed" else tokens

        last_hidden_state = None
        if encoder_states is None:
            states, last_hidden_state = self._run_encoder(inputs, whole=mode is None)
        else:
            states = list(encoder_states.unbind(dim=1))
        output = self._judge(states, input_ids, attention_mask)
        if mode == "nli":
            return output.logits
        if mode == "abstention":
            return output.logits, output.abstention_logits
        # Made anew, because a field that is set later comes last, or is no item at all.
        loss = _loss(output, labels, abstention_labels)
        return ModernBertNliOutput(loss=loss, last_hidden_state=last_hidden_state, **output)

    @torch.no_grad()
    def encode(self, **inputs: Any) -> torch.Tensor:
        """The states that the heads read, `(batch, layers, tokens, hidden_size)`, to be kept and used again.

        Args:
            **inputs: What the base's tokenizer returns for a batch of pairs.
        """
        if not self._takes_token_types:
            inputs.pop("token_type_ids", None)
        return torch.stack(self._run_encoder(inputs, whole=False)[0], dim=1)

    def _run_encoder(
        self, inputs: dict[str, Any], whole: bool
    ) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        return layer_states(self.encoder, self.config.encoder_layers, inputs, self._hooked, whole)

    def _judge(
        self,
        states: Sequence[torch.Tensor],
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
    ) -> ModernBertNliOutput:
        """States to logits and uncertainty."""
        device = self.nli_output.weight.device
        segments = (
            None if self.config.head_type == "cls" else self._segments(input_ids, attention_mask).to(device)
        )
        hidden = self.nli_hidden([layer.to(device) for layer in states], segments)
        logits = self.nli_output(hidden)
        abstention_logits = self.abstention_head(torch.cat([hidden, logits], dim=-1))
        uncertainty = self.uncertainty(logits, abstention_logits)
        return ModernBertNliOutput(
            logits=logits, abstention_logits=abstention_logits, uncertainty=uncertainty
        )

    def uncertainty(self, logits: torch.Tensor, abstention_logits: torch.Tensor) -> torch.Tensor:
        """(batch,): how likely the label is wrong, as a mean of the abstention head and 1 - MaxProb."""
        weight = self.config.abstention_weight
        learned, max_prob = abstention_logits.softmax(dim=-1)[:, 1], logits.softmax(dim=-1).amax(dim=-1)
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

    def as_pipeline(self, tokenizer: PreTrainedTokenizerBase | None = None, **kwargs: Any) -> Any:
        """`NliAbstentionPipeline` around this model: `pipeline(task, model=<object>)` cannot find it.

        Args:
            tokenizer (`PreTrainedTokenizerBase`, *optional*): Defaults to the checkpoint's.
            **kwargs: Further arguments of the pipeline (`batch_size`, `threshold`, …).
        """
        # Inside the class, so that transformers sees the import and ships the file with every save.
        try:
            from .pipeline_modernbert_nli import NliAbstentionPipeline
        except ImportError:
            from pipeline_modernbert_nli import NliAbstentionPipeline
        return NliAbstentionPipeline(model=self, tokenizer=tokenizer or self.load_tokenizer(), **kwargs)


class ModernBertNliForSequenceClassification(ModernBertNliModel):
    """The same checkpoint as a plain classifier, for text-classification, zero-shot and CrossEncoder."""

    def forward(  # type: ignore[override]
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """As [`ModernBertNliModel`]: logits `(batch, num_labels)` and, given `labels`, their loss."""
        logits = super().forward(input_ids, attention_mask, token_type_ids, inputs_embeds, mode="nli")
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def _loss(
    output: ModernBertNliOutput, labels: torch.Tensor | None, abstention_labels: torch.Tensor | None
) -> torch.Tensor | None:
    if abstention_labels is not None:
        if abstention_labels.is_floating_point():
            abstention_labels = torch.stack([1 - abstention_labels, abstention_labels], dim=-1)
            abstention_labels = abstention_labels.to(output.abstention_logits)
        return nn.functional.cross_entropy(output.abstention_logits, abstention_labels)
    return None if labels is None else nn.functional.cross_entropy(output.logits, labels)


ModernBertNliConfig.register_for_auto_class()
ModernBertNliModel.register_for_auto_class("AutoModel")
ModernBertNliForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
