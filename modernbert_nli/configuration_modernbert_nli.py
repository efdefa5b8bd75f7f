"""Configuration of ModernBERT-NLI: which frozen encoder carries the heads, and how the heads are built."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from transformers import AutoConfig, AutoTokenizer, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.modernbert.configuration_modernbert import ModernBertConfig
from transformers.utils import CONFIG_NAME, cached_file

LABELS = ("entailment", "neutral", "contradiction")
ENCODINGS = ("joint", "separate")
TASK = "nli-abstention"
PROBLEM_TYPES = (None, "single_label_classification")

DEFAULT_BASE = "answerdotai/ModernBERT-large"
DEFAULT_BASE_REVISION = "45bb4654a4d5aaff24dd11d4781fa46d39bf8c13"

# One class carries one `_auto_class`, so the config itself lists all of them, whichever class saves it.
AUTO_MAP = {
    "AutoConfig": "configuration_modernbert_nli.ModernBertNliConfig",
    "AutoModel": "modeling_modernbert_nli.ModernBertNliModel",
    "AutoModelForSequenceClassification": "modeling_modernbert_nli.ModernBertNliForSequenceClassification",
}
CUSTOM_PIPELINES = {TASK: {"impl": "pipeline_modernbert_nli.NliAbstentionPipeline", "pt": ["AutoModel"]}}

# Widths of alignment and comparison, on a narrow base and on a wide one.
_NARROW, _WIDE = (256, 224), (224, 160)

ADAPTATION = "adaptation.json"  # the file of an adaptation, which config.json then names
_LABELS = ("id2label", "label2id", "num_labels")  # arguments

# Arguments that say where a checkpoint is, and how to reach it.
LOCATION = ("cache_dir", "local_files_only", "token", "proxies", "revision", "subfolder")

# How `route` decides where nothing was fitted, and what a fitted entry may have besides.
UNFITTED = {
    "similarity": 0.0,
    "entailment": 1.0,
    "contrast": 0.0,
    "offset": 0.0,
    "slope": 1.0,
    "threshold": 0.5,
}
BACKGROUND = ("background", "background_offset")  # of an entry, which may lack them

# What belongs to one load of the encoder, not to the encoder: never written to config.json.
_LOAD_TIME_KEYS = ("_name_or_path", "transformers_version", "quantization_config", "architectures", "dtype")


class ModernBertNliConfig(PretrainedConfig):
    r"""
    Configuration of [`ModernBertNliModel`]. The defaults are the published geometry: a CLS head of 593,925
    parameters on ModernBERT-large.

    Args:
        base_model_name_or_path (`str`, *optional*, defaults to `"answerdotai/ModernBERT-large"`):
            Repository id of the frozen base encoder: any model that `AutoModel` loads. Given to
            `from_pretrained`, it overrides the checkpoint's base for that load alone (another repository id
            or a local folder).
        base_model_revision (`str`, *optional*):
            Commit of the base, a full SHA when known. It belongs to the base, never to the repository of the
            heads.
        base_fingerprint (`dict`, *optional*):
            What the base and its tokenizer make of a fixed input, by which another one is refused: see
            `fingerprint.py`.
        encoder_config (`PretrainedConfig` or `dict`, *optional*, defaults to that of ModernBERT-large):
            Configuration of the base, stored so that the model can be built without a network.
        head_type (`"cls"` or `"alignment"`, *optional*, defaults to `"cls"`):
            Head family, see `heads.py`: `"cls"` is the published head on the [CLS] state,
            `"alignment"` compares the tokens of premise and hypothesis.
        encoding (`"joint"` or `"separate"`, *optional*, defaults to `"joint"`):
            How pairs are encoded unless the caller chooses: `"joint"`, premise and hypothesis in one pass, or
            `"separate"`, each text alone, so that its states serve every pair that it is in.
        encoder_layers (`dict[str, list[int]]`, *optional*):
            For each encoding that the heads were trained for, the layers that they read: `k` is the output of
            the k-th layer, 0 the embeddings, as in the `hidden_states` of transformers. Defaults to the last
            layer, joint, for the CLS head; for alignment to those at 1/2 and 2/3 of the depth when joint, and
            at 1/3, 2/3 and its end when separate.
        nli_hidden_size (`int`, *optional*):
            Width of the NLI head's hidden vector; defaults to 512 for the CLS head, to 256 for alignment.
        alignment_size, comparison_size (`int`, *optional*):
            Width in which the alignment head aligns tokens, and width of its comparisons. The defaults depend
            on the width of the base: all heads together have at most 600,000 parameters up to a width of
            1,024.
        abstention_hidden_size (`int`, *optional*, defaults to 128): Width of the abstention head.
        head_dropout (`float`, *optional*, defaults to 0.1): Dropout of the heads.
        abstention_weight (`float`, *optional*, defaults to 1.0):
            Share of the abstention head in `uncertainty`; the rest is 1 - the largest probability (MaxProb).
        abstention_threshold (`float`, *optional*, defaults to 0.5): Abstain where `uncertainty` reaches it.
        familiarity (`dict`, *optional*):
            The `layer` that tells which text the encoder reads, one that every encoding reads, and the
            `threshold`: of a pair with a text that scores less nothing is decided. See `heads.py`.
        calibration (`dict`, *optional*):
            By encoding, what `calibrate.py` found on held-out pairs: see `calibration.py`. It is saved in a
            file beside config.json, and read from there when it is first asked for.
        calibrated_heads (`str`, *optional*):
            Digest of the heads that `abstention_threshold` and `calibration` were made for; those of other
            heads guarantee nothing. `model.set_calibration` writes all three.
        evidence (`dict`, *optional*):
            How `check` weighs passages, as fitted for these heads: `RULES` of `documents.py`.
        routing (`dict`, *optional*):
            By encoding, how `route` decides: see `routing.py`.
        adaptation (`dict`, *optional*):
            What is known of heads that `nli.adapt` made: see `adapting.py`. It is saved in a file of its own.
        adapter (`dict`, *optional*):
            Which layers of the base have a low-rank update for NLI: see `lora.py`.
        sep_token_id, pad_token_id (`int`, *optional*):
            Special tokens of the base's tokenizer: what ends the premise in `input_ids`, and what is no text.
            Taken from `encoder_config` where it knows them.
    """

    model_type = "modernbert_nli"
    keys_to_ignore_at_inference = ["last_hidden_state"]
    sub_configs = {"encoder_config": AutoConfig}  # dtype and attn_implementation are pushed down to it

    def __init__(
        self,
        base_model_name_or_path: str = DEFAULT_BASE,
        base_model_revision: str | None = None,
        encoder_config: Any = None,
        head_type: str = "cls",
        encoding: Literal["joint", "separate"] = "joint",
        encoder_layers: dict[str, list[int]] | None = None,
        nli_hidden_size: int | None = None,
        alignment_size: int | None = None,
        comparison_size: int | None = None,
        abstention_hidden_size: int = 128,
        head_dropout: float = 0.1,
        abstention_weight: float = 1.0,
        abstention_threshold: float = 0.5,
        familiarity: dict[str, Any] | None = None,
        calibration: dict[str, dict[str, Any]] | None = None,
        calibrated_heads: str | None = None,
        evidence: dict[str, Any] | None = None,
        routing: dict[str, dict[str, Any]] | None = None,
        adaptation: Any = None,
        adapter: dict[str, Any] | None = None,
        sep_token_id: int | None = None,
        pad_token_id: int | None = None,
        base_fingerprint: dict[str, Any] | None = None,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ):
        if encoder_config is None:
            if base_model_name_or_path != DEFAULT_BASE:
                raise ValueError(
                    f"No `encoder_config` for the base {base_model_name_or_path!r}: use "
                    f"`ModernBertNliConfig.from_base({base_model_name_or_path!r})`, which reads it there."
                )
            encoder_config = _modernbert_large()
            base_model_revision = base_model_revision or DEFAULT_BASE_REVISION
        elif isinstance(encoder_config, dict):
            encoder_config = AutoConfig.for_model(**encoder_config)
        elif encoder_config.model_type not in CONFIG_MAPPING:
            raise ValueError(_custom_code(base_model_name_or_path))
        self.encoder_config = encoder_config
        self.base_model_name_or_path = base_model_name_or_path
        self.base_model_revision = base_model_revision
        self.base_fingerprint = base_fingerprint
        # (name or folder, revision) to load the base from this once, instead of the two above
        self._base_override: tuple[str, str | None] | None = None

        from .heads import HEADS

        if head_type not in HEADS:
            raise ValueError(f"`head_type` must be one of {', '.join(HEADS)}, got {head_type!r}.")
        self.head_type = head_type
        self.encoder_layers = encoder_layers or _default_layers(head_type, encoder_config.num_hidden_layers)
        self.encoding = encoding
        self.check_layers()
        if (kind := kwargs.pop("abstention_type", "error")) != "error":  # of version 0.2
            raise ValueError(
                f"These heads abstain by an auxiliary classifier (`abstention_type={kind!r}`), which only "
                "version 0.2 reads: train them anew, or load them with that."
            )
        sizes = _NARROW if encoder_config.hidden_size <= 512 else _WIDE
        self.alignment_size = alignment_size or sizes[0]
        self.comparison_size = comparison_size or sizes[1]
        self.abstention_hidden_size = abstention_hidden_size
        self.nli_hidden_size = nli_hidden_size or (512 if head_type == "cls" else 256)
        self.head_dropout = head_dropout
        self.abstention_weight = abstention_weight
        self.abstention_threshold = abstention_threshold
        _check_familiarity(familiarity, self.encoder_layers)
        self.familiarity = familiarity
        # Of a checkpoint (name or folder, and how to reach it), whose calibration has not been asked for.
        self._calibration_source: tuple[str, dict[str, Any]] | None = None
        if calibration is not None:
            from .calibration import check_calibration

            check_calibration(calibration, ENCODINGS)
        self._calibration = calibration
        self.calibrated_heads = calibrated_heads
        self.evidence = evidence
        _check_routing(routing, ENCODINGS)
        self.routing = routing
        self.adaptation = adaptation
        self.adapter = adapter
        self.initializer_range = initializer_range
        self.sep_token_id = _token_id(sep_token_id, encoder_config, "sep", "eos")
        # on the top config, or Trainer "aligns" it
        self.pad_token_id = _token_id(pad_token_id, encoder_config, "pad")

        kwargs.update(_labels(**{key: kwargs.pop(key, None) for key in _LABELS}))
        if kwargs.get("problem_type") not in PROBLEM_TYPES:
            raise ValueError(
                f"`problem_type` can only be {PROBLEM_TYPES[1]!r}: each pair has one label, got "
                f"{kwargs['problem_type']!r}."
            )
        if of_the_base := {"hidden_size", "vocab_size", "max_position_embeddings"} & set(kwargs):
            raise ValueError(
                f"{sorted(of_the_base)} belong to the base: give them in `encoder_config`, or take a base by "
                "`ModernBertNliConfig.from_base(name)`."
            )
        kwargs["auto_map"] = dict(AUTO_MAP)
        kwargs["custom_pipelines"] = {task: dict(info) for task, info in CUSTOM_PIPELINES.items()}
        super().__init__(**kwargs)

    def check_layers(self) -> None:
        """Raise a ValueError where `encoder_layers` does not fit the base, the heads or `encoding`."""
        depth = self.encoder_config.num_hidden_layers
        for encoding, layers in self.encoder_layers.items():
            if encoding not in ENCODINGS:
                raise ValueError(
                    f"`encoder_layers` has the keys {' and '.join(ENCODINGS)}, got {encoding!r}."
                )
            if not layers or any(not 0 <= layer <= depth for layer in layers):
                raise ValueError(f"`encoder_layers` must lie between 0 and {depth}, got {layers}.")
        if self.encoding not in self.encoder_layers:
            raise ValueError(
                f"`encoding={self.encoding!r}`, but `encoder_layers` has only {list(self.encoder_layers)}."
            )
        if self.head_type == "cls" and self.encoder_layers != {"joint": [depth]}:
            raise ValueError(f"The CLS head reads layer {depth} of joint pairs, got {self.encoder_layers}.")

    @classmethod
    def from_base(
        cls,
        base_model_name_or_path: str,
        base_model_revision: str | None = None,
        base_model_folder: str | None = None,
        **kwargs: Any,
    ) -> "ModernBertNliConfig":
        """Configuration for new heads on a base, which is read from the Hub or from a folder.

        Args:
            base_model_name_or_path (`str`): The base that the checkpoint will name.
            base_model_revision (`str`, *optional*): Its commit.
            base_model_folder (`str`, *optional*): A local copy of that base, read instead of the Hub.
            **kwargs: Further arguments of the constructor.

        Raises:
            ValueError: it needs code of its own, or its tokenizer puts no separator between two texts.
        """
        source = base_model_folder or base_model_name_or_path
        revision = None if base_model_folder else base_model_revision
        values = PretrainedConfig.get_config_dict(source, revision=revision)[0]
        own_code = "auto_map" in values and values.get("model_type") not in CONFIG_MAPPING
        if kwargs.pop("trust_remote_code", False) or own_code:
            raise ValueError(_custom_code(source))
        encoder_config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
        for name in ("sep_token_id", "pad_token_id"):
            kwargs.setdefault(name, getattr(tokenizer, name))
        config = cls(base_model_name_or_path, base_model_revision, encoder_config, **kwargs)
        ids = tokenizer("a", "b")["input_ids"]
        if config.sep_token_id not in ids[1:-1]:
            raise ValueError(
                f"{source!r} puts no separator between two texts ({tokenizer.convert_ids_to_tokens(ids)}): "
                "premise and hypothesis cannot be told apart. Take another base."
            )
        if base_model_folder:
            config.take_base_from(base_model_folder, None)
        return config

    @property
    def calibration(self) -> dict[str, Any] | None:
        """See `calibration.py`; None where there is none.

        Raises:
            OSError: its file is on the Hub, and cannot be reached.
            ValueError: its file cannot be read.
        """
        if self._calibration_source is not None and self.calibrated_heads is not None:
            from .calibration import read_calibration

            name, location = self._calibration_source
            self.calibration = read_calibration(name, ENCODINGS, self.calibrated_heads, **location)
        return self._calibration

    @calibration.setter
    def calibration(self, calibration: dict[str, Any] | None) -> None:
        self._calibration, self._calibration_source = calibration, None

    def found_in(self, name: str, location: dict[str, Any]) -> None:
        """Read an adaptation, and note where a calibration is that nobody has asked for, unless there is one.

        Args:
            name (`str`): The checkpoint: folder or repository id.
            location (`dict`): How to reach it: `revision`, `subfolder`, `token`, `cache_dir`, …
        """
        if self._calibration is None and (self._calibration_source or (name,))[0] == name:
            self._calibration_source = (name, location)
        if self.adaptation == ADAPTATION:
            path = cached_file(name, ADAPTATION, _raise_exceptions_for_missing_entries=False, **location)
            self.adaptation = path and json.loads(Path(path).read_text(encoding="utf-8"))

    def __getstate__(self) -> dict[str, Any]:
        """What is copied or pickled: all but access tokens."""
        state = dict(self.__dict__)
        if source := state.get("_calibration_source"):
            state["_calibration_source"] = (source[0], {k: v for k, v in source[1].items() if k != "token"})
        return state

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; the calibration is read when it is first asked for."""
        location = {key: kwargs[key] for key in LOCATION if key in kwargs}
        result = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        config = result[0] if isinstance(result, tuple) else result
        config.found_in(str(pretrained_model_name_or_path), location)
        return result

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers, but a base named by the caller is taken for this load and not written over.

        Raises:
            ValueError: this is the configuration of another model, such as a base.
        """
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(
                f"A model of type {model_type!r} is no checkpoint of heads. To put new heads on such a base: "
                "`ModernBertNliModel.from_base(ModernBertNliConfig.from_base(<its name or folder>))`."
            )
        labels: dict[str, Any] = {key: kwargs.pop(key) for key in _LABELS if key in kwargs}
        if any(value is not None for value in labels.values()):
            known = {key: config_dict.get(key) for key in ("id2label", "label2id")}
            if set(labels) == {"num_labels"} and labels["num_labels"] == len(known["id2label"] or LABELS):
                labels = known  # the caller counts them, and they keep their names
            config_dict = {**config_dict, **_labels(**labels)}
        name, revision = kwargs.pop("base_model_name_or_path", None), kwargs.pop("base_model_revision", None)
        result = super().from_dict(config_dict, **kwargs)
        config = result[0] if isinstance(result, tuple) else result
        if name is not None:
            config.take_base_from(str(name), revision)
        elif revision is not None:
            config.base_model_revision = revision
        # Read by an installed package, a checkpoint gets the package's pipeline too, not that of its own.
        folder = str(Path(__file__).parent)
        if not __name__.startswith("transformers_modules.") and "--" not in folder:
            pipeline = CUSTOM_PIPELINES[TASK]
            config.custom_pipelines = {TASK: {**pipeline, "impl": f"{folder}--{pipeline['impl']}"}}
        return result

    def to_dict(self) -> dict[str, Any]:
        """Serialisable form: the identity of the base, never a local path or a load-time choice."""
        output = super().to_dict()
        of_base = self.encoder_config.to_diff_dict().items()
        encoder_config = {key: value for key, value in of_base if key not in _LOAD_TIME_KEYS}
        output["encoder_config"] = {**encoder_config, "model_type": self.encoder_config.model_type}
        # The base's dtype is chosen when it is loaded and the heads are always float32, so none is stored.
        for key in ("_base_override", "_calibration", "_calibration_source", "dtype"):
            output.pop(key, None)
        if self.calibrated_heads is None and self._calibration is not None:  # of no heads: in no file
            output["calibration"] = self._calibration
        # `pipeline(config=...)` swaps strings for classes in place, which no longer serialise.
        output["auto_map"], output["custom_pipelines"] = dict(AUTO_MAP), dict(CUSTOM_PIPELINES)
        # sentence_transformers forces one label unless an entry ends in ForSequenceClassification.
        output["architectures"] = ["ModernBertNliModel", "ModernBertNliForSequenceClassification"]
        return output

    def to_diff_dict(self) -> dict[str, Any]:
        """As in transformers, but the labels are always there: two without names would be left out.

        Of an adaptation there is the name of its file.
        """
        always = {"id2label": self.id2label, "label2id": self.label2id}
        return {**super().to_diff_dict(), **always, "adaptation": self.adaptation and ADAPTATION}

    def to_json_file(self, json_file_path: Any, use_diff: bool = True) -> None:
        """As in transformers; beside a config.json go its calibration and its adaptation."""
        calibration = None if self.calibrated_heads is None else self.calibration  # read before it is lost
        super().to_json_file(json_file_path, use_diff)
        path = Path(json_file_path)
        if path.name == CONFIG_NAME:
            from .calibration import FILE, write_calibration

            write_calibration(path.with_name(FILE), calibration, self.calibrated_heads)
            if isinstance(self.adaptation, dict):
                path.with_name(ADAPTATION).write_text(json.dumps(self.adaptation, indent=2), encoding="utf-8")

    @property
    def base_place(self) -> tuple[str, str | None]:
        """Name or folder, and revision, that the base is taken from this time."""
        return self._base_override or (self.base_model_name_or_path, self.base_model_revision)

    @property
    def base_is_overridden(self) -> bool:
        """Whether that is another place than the one that a checkpoint names."""
        return self._base_override is not None

    def take_base_from(self, name: str, revision: str | None) -> None:
        """Take the base from elsewhere this time."""
        self._base_override = (name, revision)

    @property
    def hidden_size(self) -> int:
        return self.encoder_config.hidden_size

    @property
    def vocab_size(self) -> int:
        return self.encoder_config.vocab_size

    @property
    def max_position_embeddings(self) -> int | None:
        return getattr(self.encoder_config, "max_position_embeddings", None)


def _check_familiarity(familiarity: Any, layers: Mapping[str, Sequence[int]]) -> None:
    """Raise a ValueError that says what is wrong with the `familiarity` of a configuration; None is fine."""
    if familiarity is None:
        return
    share: Any = familiarity.get("threshold") if isinstance(familiarity, Mapping) else None
    if type(share) not in (int, float) or not 0 <= share <= 1 or set(familiarity) != {"layer", "threshold"}:
        raise ValueError(f"`familiarity` has a `layer` and a `threshold` from 0 to 1, got {familiarity!r}.")
    if any(familiarity["layer"] not in read for read in layers.values()):
        raise ValueError(f"`familiarity` needs a layer that all of {layers} have, got {familiarity!r}.")


def _check_routing(routing: Any, encodings: Sequence[str]) -> None:
    """Raise a ValueError that says what is wrong with the `routing` of a configuration; None is fine."""
    if routing is None:
        return
    if not isinstance(routing, Mapping) or not set(routing) <= set(encodings):
        raise ValueError(f"`routing` is a dict by encoding ({', '.join(encodings)}), got {routing!r}.")
    for encoding, entry in routing.items():
        if not isinstance(entry, Mapping) or not set(UNFITTED) <= set(entry):
            raise ValueError(f"`routing[{encoding!r}]` needs {', '.join(UNFITTED)}, got {entry!r}.")
        if any(key in entry for key in BACKGROUND) and not set(BACKGROUND) <= set(entry):
            raise ValueError(f"`routing[{encoding!r}]` has both of {', '.join(BACKGROUND)}, or neither.")
        for key in (*UNFITTED, *(key for key in BACKGROUND if key in entry)):
            if isinstance(entry[key], bool) or not isinstance(entry[key], int | float):
                raise ValueError(f"`routing[{encoding!r}][{key!r}]` is a number, got {entry[key]!r}.")
        if not 0 <= entry["threshold"] <= 1:
            raise ValueError(f"`routing[{encoding!r}]['threshold']` lies between 0 and 1.")


def _labels(
    id2label: dict[Any, str] | None = None,
    label2id: dict[str, int] | None = None,
    num_labels: int | None = None,
) -> dict[str, Any]:
    """Names of the labels and their numbers, of which either may be given, or how many there are.

    Raises:
        ValueError: what is given does not go together.
    """
    if id2label is None and label2id is not None:
        id2label = {number: label for label, number in label2id.items()}
    elif id2label is None:
        count = len(LABELS) if num_labels is None else num_labels
        names = LABELS if count == len(LABELS) else [f"LABEL_{number}" for number in range(count)]
        id2label = dict(enumerate(names))
    id2label = {int(number): label for number, label in id2label.items()}
    label2id = label2id or {label: number for number, label in id2label.items()}
    if sorted(id2label) != list(range(len(id2label))) or num_labels not in (None, len(id2label)):
        raise ValueError(
            f"`id2label` names the classes from 0 upwards, as many as `num_labels`, got {id2label} and "
            f"{num_labels}."
        )
    return {"id2label": id2label, "label2id": label2id}


def _custom_code(base: str) -> str:
    return (
        f"The base {base!r} would run code of its own, which a checkpoint of heads cannot bring or ask for: "
        "take a base whose class transformers has, without `trust_remote_code`."
    )


def _default_layers(head_type: str, depth: int) -> dict[str, list[int]]:
    if head_type == "cls":
        return {"joint": [depth]}
    shares = {"joint": (1 / 2, 2 / 3), "separate": (1 / 3, 2 / 3, 1)}
    return {name: sorted({max(1, round(depth * share)) for share in shares[name]}) for name in ENCODINGS}


def _modernbert_large() -> ModernBertConfig:
    return ModernBertConfig(
        hidden_size=1024,
        intermediate_size=2624,
        num_hidden_layers=28,
        num_attention_heads=16,
        max_position_embeddings=8192,
    )


def _token_id(given: int | None, encoder_config: PretrainedConfig, *names: str) -> int | None:
    ids = (given, *(getattr(encoder_config, f"{name}_token_id", None) for name in names))
    return next((token_id for token_id in ids if isinstance(token_id, int)), None)


def _name_every_file() -> None:
    """Never called. transformers copies and tells apart the code of folders by what this file imports.

    Two folders of one name whose code differs, in whatever file, so get classes of their own: the pipeline
    and the model import all that is shipped, directly or in turn.
    """
    from .modeling_modernbert_nli import ModernBertNliModel  # noqa: F401
    from .pipeline_modernbert_nli import NliAbstentionPipeline  # noqa: F401
