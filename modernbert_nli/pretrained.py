"""The base as a guest: loaded from its own repository, frozen, and left out of what is saved."""

import copy
import inspect
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import CONFIG_NAME, cached_file, logging
from transformers.utils.hub import extract_commit_hash

from .calibration import FILE as CALIBRATION_FILE
from .calibration import HOW, StaleCalibration, check_calibration, heads_digest, stale
from .configuration_modernbert_nli import ENCODINGS, ModernBertNliConfig
from .encoder import EncoderMismatch, check_encoder, install_hooks, layer_states, load_encoder
from .fingerprint import distance, fixed_input, numbers_of, precision_of, same_base, tokens_of
from .onnx_backend import BACKENDS, Backend, OnnxEncoder, int8_promise
from .replay import FILE, Home, summariser
from .tokenization import TokenizerMismatch, check_tokenizer, load_tokenizer

logger = logging.get_logger(__name__)

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
_IF_IT_IS_THERE = {
    "_raise_exceptions_for_missing_entries": False,
    "_raise_exceptions_for_connection_errors": False,
    "_raise_exceptions_for_gated_repo": False,
}


_WITHOUT_WEIGHTS = ("Transformer", "Pooling", "Normalize")  # of the modules of sentence-transformers

# Small, and confidences are calibrated in float32.
IN_FLOAT32 = ("nli_hidden", "nli_output", "abstention_head")


class ModernBertNliPreTrainedModel(PreTrainedModel):
    """The base as a guest: loaded beside the heads, frozen, and left out of what is saved."""

    config_class = ModernBertNliConfig
    base_model_prefix = "encoder"
    _no_split_modules: Any = None
    supports_gradient_checkpointing = False  # nothing flows back through the encoder
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True
    _keep_in_fp32_modules_strict = list(IN_FLOAT32)

    def __init__(self, config: ModernBertNliConfig):
        super().__init__(config)
        self._tokenizer: PreTrainedTokenizerBase | None = None
        # Where the heads were loaded from, if they were, and where their base is: names or folders, with what
        # is needed to reach them.
        self._heads_source: list[tuple[str | os.PathLike, dict[str, Any]]] = []
        self._base_sources: list[tuple[str | os.PathLike, dict[str, Any]]] = []
        self._home: Home | None = None
        self._embedding_files: dict[str, bytes] | None = None
        self.register_module("encoder", None)

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
        self._hooked = install_hooks(encoder, sorted(layers))
        self._takes_token_types = "token_type_ids" in inspect.signature(encoder.forward).parameters

    def free_heads(self) -> None:
        """Let those parameters learn that the loss of labels reaches, and no others.

        The abstention head has a stage of its own, and so has another encoding than the configuration's.
        """
        of_layers = "nli_hidden.layer_weights."
        for name, parameter in self.named_parameters():
            own = not name.startswith(of_layers) or name == of_layers + self.config.encoding
            parameter.requires_grad_(own and name.startswith(("nli_hidden.", "nli_output.")))

    def requires_grad_(self, requires_grad: bool = True) -> "ModernBertNliPreTrainedModel":
        """As in PyTorch for what can learn: the encoder stays frozen, and warns of it."""
        if not requires_grad:
            return super().requires_grad_(False)
        logger.warning_once(
            "The encoder stays frozen: `requires_grad_()` lets the NLI head learn. (Said once.)"
        )
        self.free_heads()
        return self

    def train(self, mode: bool = True) -> "ModernBertNliPreTrainedModel":
        """Training mode for what is trained; frozen parts, the encoder among them, stay as at inference."""
        super().train(mode)
        for part in self.children():
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: all but access tokens."""
        without = {
            key: [
                (name, {key: value for key, value in location.items() if key != "token"})
                for name, location in getattr(self, key)
            ]
            for key in ("_heads_source", "_base_sources")
        }
        return {**self.__dict__, **without}

    # Which base the heads belong to ------------------------------------------------------------------------

    @torch.no_grad()
    def base_fingerprint(self) -> dict[str, Any] | None:
        """What tells the base, as it is now, from others: see `fingerprint.py`. One short pass.

        `None` where it has no weights to ask, on the device "meta", or its graph gives no states.
        """
        encoder: Any = self.encoder
        layers = sorted({layer for read in self.config.encoder_layers.values() for layer in read})
        if isinstance(encoder, OnnxEncoder):
            layers = self.config.encoder_layers.get("separate", [])
        elif any(part.is_meta for part in encoder.parameters()):
            # None, unless accelerate fetches them for each call.
            layers = layers if any(hasattr(part, "_hf_hook") for part in encoder.modules()) else []
        if not layers:
            return None
        ids = fixed_input(self.config.vocab_size).to(self._heads_device)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        with torch.autocast(ids.device.type, enabled=False):
            if isinstance(encoder, OnnxEncoder):
                states = list(encoder.states(inputs, "separate").unbind(dim=1))
            else:
                states, _ = layer_states(encoder, layers, inputs, self._hooked, whole=False)
        numbers = numbers_of({layer: rows[0] for layer, rows in zip(layers, states, strict=True)})
        return {"precision": precision_of(encoder), "states": numbers}

    def changed_base(self) -> str | None:
        """Whether the base is another than the one that these heads belong to: a sentence, or None."""
        known = self.config.base_fingerprint
        found = self.base_fingerprint() if known else None
        if known is None or found is None or same_base(known, found):
            return None
        apart, allowed = distance(known, found)
        return (
            f"is not, or no longer, the {self.config.base_model_name_or_path!r} that these heads know: what "
            f"it makes of a fixed input is {apart:.1%} off, and {allowed:.1%} may be rounding"
        )

    def require_base(self) -> None:
        """Raise `EncoderMismatch` where the base is another than the one that these heads belong to.

        A base that was quantised on loading may be as far off: its heads can be asked, and promise nothing.
        """
        known = self.config.base_fingerprint
        if known is None and not isinstance(self.encoder, OnnxEncoder):  # a checkpoint of version 0.2
            self.config.base_fingerprint = self.base_fingerprint()
        if known is None or "int8" in (known["precision"], precision_of(self.encoder)):
            return
        if problem := self.changed_base():
            raise EncoderMismatch(
                f"The encoder {problem}. Load the base that the heads name, with no adapter in it; or put "
                "new heads on this one, by `ModernBertNliModel.from_base`."
            )

    # What the heads promise --------------------------------------------------------------------------------

    def set_calibration(self, calibration: Mapping[str, Any] | None, threshold: float) -> None:
        """Give these heads a promise and a threshold, which hold for them alone: see `calibration`.

        Args:
            calibration (`Mapping`, *optional*): By encoding, see `calibration.py`.
            threshold (`float`): The uncertainty from which to abstain unless told otherwise.
        """
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
        """See `calibration.heads_digest`: computed anew, for weights change in many ways."""
        return heads_digest(self._head_tensors(), self.config)

    def _own_state(self) -> dict[str, Any]:
        return {key: value for key, value in self.state_dict().items() if not key.startswith("encoder.")}

    def _head_tensors(self) -> dict[str, torch.Tensor]:
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

    # What the heads learnt from ----------------------------------------------------------------------------

    @property
    def home(self) -> Home | None:
        """A sample of it, from the checkpoint; `None` where there is none of heads that summarise as these.

        Raises:
            OSError: its file cannot be read.
        """
        for name, location in self._heads_source if self._home is None else ():
            location = {key: value for key, value in location.items() if key != "force_download"}
            path = cached_file(name, FILE, **location, **_IF_IT_IS_THERE)
            self._home = None if path is None else Home.load(path)
        fits = self._home is not None and self._home.summarised_by == summariser(
            self._head_tensors(), self.config
        )
        return self._home if fits else None

    @home.setter
    def home(self, home: Home | None) -> None:
        self._home = home

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Refused: the base is frozen, and its embeddings are those of its own repository."""
        raise NotImplementedError(
            "The base stays as it is, so its embeddings cannot be resized: put new heads on a base that has "
            "the tokens that you need."
        )

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
        build: Any = cls  # a subclass, which takes the encoder
        model = build(config, encoder=load_encoder(config, **kwargs) if encoder is None else encoder)
        model._remember_base(kwargs, pin=encoder is None)
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
        location = _of_heads(kwargs)
        hub = {key: value for key, value in location.items() if key in _HUB_ARGUMENTS}

        if not isinstance(config, PretrainedConfig):  # the auto classes give a ready one
            config, unused = cls.config_class.from_pretrained(
                config or pretrained_model_name_or_path, return_unused_kwargs=True, **kwargs
            )
            kwargs = {**unused, **location}
        else:
            base, revision = (kwargs.pop(f"base_model_{key}", None) for key in ("name_or_path", "revision"))
            config = copy.deepcopy(config)
            if base is not None:
                config._base_override = (str(base), revision)
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
        if backend is not None and backend != "torch":
            name = str(pretrained_model_name_or_path)
            encoder = OnnxEncoder(model.config, model.heads_digest(), name, backend, **location)
            for key, value in int8_promise(name, **location).items() if encoder.int8 else ():
                setattr(model.config, key, value)
        model._place_beside(encoder)
        model.require_base()
        model._heads_source = [(pretrained_model_name_or_path, location)]
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
            stored = cls.config_class.from_pretrained(name, **_of_heads(kwargs)).num_labels
            if stored != (asked := kwargs["config"].num_labels):
                raise ValueError(
                    f"The heads in {str(name)!r} tell {stored} labels apart, not {asked}. To train a new "
                    "output layer beside what they learnt: `ignore_mismatched_sizes=True`."
                ) from error
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
        self._base_sources = [(name, {**hub, "revision": revision})]
        given = getattr(self.encoder.config, "_name_or_path", "")  # of an encoder that the caller loaded
        if given and given != name:
            revision = getattr(self.encoder.config, "_commit_hash", None)
            self._base_sources.insert(0, (given, {**hub, "revision": revision}))

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
            with _replacing(folder, kwargs.get("variant")) as aside:
                super().save_pretrained(aside, **kwargs)
                self._save_tokenizer(aside, folder)
                self._save_embedding(aside)
                if (home := self.home) is not None:
                    home.save(aside)
            if home is None:  # one of other heads, of an earlier save
                (folder / FILE).unlink(missing_ok=True)
            if self.config.calibration is None:
                (folder / CALIBRATION_FILE).unlink(missing_ok=True)
        if push_to_hub:  # here, because transformers would push before the tokenizer is there
            self.push_to_hub(hub.pop("repo_id", folder.name), **hub)

    def _know_tokenizer(self) -> None:
        known = self.config.base_fingerprint
        if known and "tokens" not in known:
            with suppress(OSError, TokenizerMismatch):  # said where the tokenizer is to be saved
                self.config.base_fingerprint = {**known, "tokens": tokens_of(self.tokenizer)}

    def _save_embedding(self, folder: Path) -> None:
        """Let `SentenceTransformer` embed by the checkpoint as by the base: pool, normalise and cut alike."""
        if self._embedding_files is None:
            self._embedding_files = {}
            for source in [*self._base_sources, *self._heads_source]:
                with suppress(OSError, ValueError):  # a folder that is gone, a file that is none of theirs
                    self._embedding_files = self._embedding_files or _embedding_files(*source)
        for name, content in self._embedding_files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)

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

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the checkpoint that this model came from, else that of its base.

        Raises:
            OSError: neither has one, or neither can be reached.
            TokenizerMismatch: it cannot be that of the base.
        """
        reasons = []
        sources = [*self._heads_source, *self._base_sources]
        if not sources:  # of an encoder that is not pretrained: nothing is worth a download
            name, revision = self.config._base_override or (
                self.config.base_model_name_or_path,
                self.config.base_model_revision,
            )
            sources = [(name, {"revision": revision, "local_files_only": True})]
        for name, location in sources:
            try:
                tokenizer = load_tokenizer(str(name), self.config.encoder_config, **location)
            except OSError as error:
                reasons.append(str(error))
                continue
            check_tokenizer(tokenizer, self.config)
            return tokenizer
        raise OSError("No tokenizer could be loaded for this model. " + " ".join(reasons))


def _embedding_files(name: str | os.PathLike, location: dict[str, Any]) -> dict[str, bytes]:
    """By name, the files of sentence-transformers, unless it has modules with weights of their own."""

    def read(file: str) -> bytes | None:
        path = cached_file(name, file, **location, **_IF_IT_IS_THERE)
        return None if path is None else Path(path).read_bytes()

    modules = json.loads(read("modules.json") or "[]")
    if not modules or {module["type"].rpartition(".")[2] for module in modules} - set(_WITHOUT_WEIGHTS):
        return {}
    names = ["modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"]
    names += [f"{module['path']}/config.json" for module in modules if module["path"]]
    return {file: content for file in names if (content := read(file)) is not None}


def _of_heads(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Of the arguments of `from_pretrained` those that say where the heads are."""
    return {key: kwargs[key] for key in (*_HUB_ARGUMENTS, "revision", "subfolder") if key in kwargs}


@contextmanager
def _replacing(folder: Path, variant: str | None) -> Iterator[Path]:
    """A folder for the files of a checkpoint, which then replace those of the one in `folder`.

    Weights come last but for the configuration, which says what they are; what is left of weights in another
    form, which would be loaded instead, goes.
    """
    named = re.escape(f".{variant}") if variant else ""
    weights = re.compile(
        rf"(pytorch_)?model({named}(-\d{{5}}-of-\d{{5}})?\.(safetensors|bin)|\.(safetensors|bin)\.index{named}\.json)"
    )
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".saving-", dir=folder) as name:
        aside = Path(name)
        try:
            yield aside
        except Exception as error:  # safetensors and tokenizers have no OSError, but say "(os error 28)"
            if isinstance(error, OSError) or "os error" in str(error):
                raise OSError(f"Nothing was saved to {folder}, which stays as it is: {error}") from error
            raise
        names = sorted(str(path.relative_to(aside)) for path in aside.rglob("*") if path.is_file())
        heads = [name for name in names if weights.fullmatch(name)]
        last = [CONFIG_NAME] if CONFIG_NAME in names else []
        for name in [name for name in names if name not in (*heads, *last)] + heads + last:
            if name == CONFIG_NAME and heads:
                for path in [path for path in folder.iterdir() if weights.fullmatch(path.name)]:
                    if path.name not in heads:
                        path.unlink()
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).replace(folder / name)
