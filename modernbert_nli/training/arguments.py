"""The options of `train.py`: on the command line, in a YAML or JSON file of the same keys, or both.

Those of Trainer, whose class imports torch, are in `trainer_arguments.py`: `--help` shows none of them.
"""

import argparse
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from transformers import HfArgumentParser

from .. import embedded
from ..options import as_started

if TYPE_CHECKING:
    from .trainer_arguments import StageArguments

TRAINER = "https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments"
RECIPES = Path(__file__).resolve().parent / "recipes"
# What may differ between a run and its resumption: it changes where things are, not what is computed.
_FREE_TO_CHANGE = {"state_cache", "cache_dir", "max_cache_gb", "base_folder"}
_STAGE_KEYS = (
    "num_train_epochs",
    "abstention_epochs",
    "adapter_epochs",
    "adapter_learning_rate",
    "encodings_in_turn",
    "early_stopping_patience",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "weight_decay",
    "warmup_steps",
    "lr_scheduler_type",
    "max_steps",
    "seed",
    "bf16",
    "fp16",
)


@dataclass
class DataArguments:
    """What to learn from."""

    _argument_group_name = "data"

    train_data: list[str] = field(
        metadata={
            "help": "JSONL, CSV or Parquet files, Hub datasets as id, id:split or id/config:split, or known "
            "sets by name (snli, mnli, wanli, ...), each with options such as ?label=gold&cap=10000&weight=2."
        }
    )
    eval_data: list[str] = field(
        default_factory=list, metadata={"help": "The same, to measure the result on."}
    )
    abstention_data: list[str] = field(
        default_factory=list,
        metadata={
            "help": "The same, for stage 2 alone: pairs of other domains, from which the abstention head "
            "learns what the NLI head does not know."
        },
    )
    held_out: float = field(
        default=0.05,
        metadata={
            "metavar": "SHARE",
            "help": "Share of the premises kept from stage 1: two thirds for the temperature and stage 2, "
            "the rest for the guarantee.",
        },
    )
    held_out_seed: int | None = field(
        default=None,
        metadata={
            "help": "Seed of which premises are held out; by default --seed. Heads to go on from that learnt "
            "from the same data know the rest: give the seed that they were trained with."
        },
    )
    max_train_pairs: int | None = field(
        default=None, metadata={"help": "A random part of the data, of this size."}
    )
    state_cache: str = field(
        default="disk",
        metadata={
            "help": "Where the encoder's states are kept: none computes them anew in every epoch.",
            "choices": ["disk", "memory", "none"],
        },
    )
    cache_dir: str = field(default="runs/states", metadata={"help": "Folder of the encoder's states."})
    max_cache_gb: float | None = field(
        default=None,
        metadata={
            "help": "Most that this folder (or the memory) may hold, in GB; by default, what is free. States "
            "that would exceed it are recomputed."
        },
    )


@dataclass
class HeadArguments:
    """What to train."""

    _argument_group_name = "heads and their base"

    init_from: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint, folder or Hub id, whose heads to go on from instead of new ones. What they "
            "are like (base, family, encodings, layers, sizes) is then what the checkpoint says."
        },
    )
    base_model: str = field(default=embedded.BASE, metadata={"help": "Repository id of the frozen base."})
    base_revision: str | None = field(default=None, metadata={"help": "Its commit."})
    base_folder: str | None = field(
        default=None, metadata={"help": "A local copy of the base, to use no Hub."}
    )
    base_dtype: str = field(
        default="auto",
        metadata={"help": "Precision of the base: auto (its own), float32, bfloat16, float16."},
    )
    head_type: str = field(
        default="alignment", metadata={"help": "Head family: alignment, cls, or another of `heads.HEADS`."}
    )
    encodings: list[str] = field(
        default_factory=lambda: ["separate", "joint"],
        metadata={"help": "Encodings to train for, the default one first. The CLS head knows only joint."},
    )
    joint_layers: list[int] = field(
        default_factory=list, metadata={"help": "Layers read in joint encoding, 0 for the embeddings."}
    )
    separate_layers: list[int] = field(
        default_factory=list, metadata={"help": "The same in separate encoding."}
    )
    alignment_size: int | None = field(default=None, metadata={"help": "Width in which tokens are compared."})
    comparison_size: int | None = field(default=None, metadata={"help": "Width of a token's comparison."})
    nli_hidden_size: int | None = field(default=None, metadata={"help": "Width of the hidden vector."})
    head_dropout: float = field(default=0.2, metadata={"help": "Dropout of the heads."})
    abstention_weight: float = field(
        default=0.5,
        metadata={"help": "Share of the abstention head in the uncertainty; the rest is 1 - MaxProb."},
    )
    target_risk: float = field(
        default=0.1,
        metadata={"help": "Most wrong answers, as a share of those given, that the threshold allows."},
    )
    adapter: str | None = field(
        default=None,
        metadata={
            "help": "lora: a low-rank update of the base, on for NLI alone, learns too, in a stage before "
            "the others.",
            "choices": ["lora"],
        },
    )
    adapter_rank: int = field(default=16, metadata={"help": "Rank of that update."})
    teacher: str | None = field(
        default=None,
        metadata={"help": "A sequence classifier, Hub id or folder, whose logits are learnt too."},
    )
    teacher_labels: str | None = field(
        default=None,
        metadata={
            "help": "Order of its labels, where its configuration does not name them: three, by commas."
        },
    )
    teacher_trust_remote_code: bool = field(
        default=False, metadata={"help": "Run code that comes with the teacher, as checkpoints of ours need."}
    )
    alpha: float = field(default=0.5, metadata={"help": "Weight of the labels, beside a teacher."})
    beta: float = field(default=0.5, metadata={"help": "Weight of the distance to the teacher's logits."})


@dataclass
class StageOptions:
    """Of the arguments of a stage, `StageArguments`, those that `--help` shows."""

    _argument_group_name = "training"

    output_dir: str = field(default="runs/nli", metadata={"help": "Where the checkpoint goes."})
    resume: bool = field(default=False, metadata={"help": "Go on where an interrupted run of this was."})
    early_stopping_patience: int | None = field(
        default=None,
        metadata={
            "help": "End stage 1 after so many evaluations without progress on held-out pairs, with its best "
            "heads."
        },
    )
    encodings_in_turn: bool = field(
        default=False,
        metadata={"help": "Learn a batch in one encoding, the next in another: an epoch costs half as much."},
    )
    adapter_epochs: float = field(default=2.0, metadata={"help": "Epochs of the adapter's stage."})
    adapter_learning_rate: float = field(default=5e-4, metadata={"help": "Learning rate of that stage."})
    abstention_epochs: float = field(default=3.0, metadata={"help": "Epochs of stage 2."})
    num_train_epochs: float = field(default=5.0, metadata={"help": "Epochs of stage 1."})
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Pairs in a batch."})
    seed: int = field(default=42, metadata={"help": "Of all that is random."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Learning rate after the warm-up."})


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """An option by one name, and its default where that says something."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if action.nargs == 0 or isinstance(action.default, bool):
            return ", ".join(action.option_strings[:1] if action.nargs != 0 else action.option_strings)
        value = action.metavar or action.dest.rsplit("_", 1)[-1].upper()
        if action.choices:
            value = "{" + ",".join(map(str, action.choices)) + "}"
        return f"{action.option_strings[0]} {value}" + " ..." * (action.nargs == "+")

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, []):
            return action.help
        if isinstance(action.default, list):
            return f"{action.help} (default: {' '.join(action.default)})"
        return super()._get_help_string(action)


def parser_of(*groups: Any, usage: str, description: str | None, without: Collection[str] = ()) -> Any:
    """A parser of dataclasses of options.

    Its help shows the options that these classes give a help text, and leaves Trainer's to a link.

    Args:
        *groups (`type`): The dataclasses; the last is `StageOptions` for a help text, else `StageArguments`.
        usage, description (`str`): What `--help` begins with.
        without (`Collection[str]`, *optional*): Options that have no meaning here: not shown either.
    """
    parser = HfArgumentParser(
        groups,
        usage=as_started(usage),
        description=as_started(description or ""),
        epilog=f"All other arguments of Trainer are options too: {TRAINER}",
        formatter_class=_Formatter,
    )
    for action in parser._actions:
        if action.dest in without:
            action.help = argparse.SUPPRESS
    return parser


def asks_for_help(argv: Collection[str]) -> bool:
    """Whether a command line is answered by a help text: it then needs none of Trainer's arguments."""
    return not {"-h", "--help"}.isdisjoint(argv)


def parse(
    argv: list[str], description: str | None = None
) -> "tuple[DataArguments, HeadArguments, StageArguments]":
    """Options to arguments. Those of `--recipe NAME_OR_FILE`, or of a file given first, give way to others.

    `description` is what `--help` says first.

    Raises:
        ValueError: no such recipe, or an option that does not exist.
    """
    if argv and argv[0].endswith((".yaml", ".yml", ".json")):
        argv = ["--recipe", *argv]
    argv = [
        part for word in argv for part in (word.split("=", 1) if word.startswith("--recipe=") else [word])
    ]
    if "--recipe" in argv:
        place = argv.index("--recipe")
        if place + 1 == len(argv):
            raise ValueError("`--recipe` needs a name or a file.")
        argv = [*_recipe(argv[place + 1]), *argv[:place], *argv[place + 2 :]]
    stage: Any = StageOptions
    if not asks_for_help(argv):
        from .trainer_arguments import StageArguments as stage
    usage = (
        "python train.py --train_data train.jsonl [--eval_data test.jsonl] [option ...]\n"
        "       python train.py --recipe NAME_OR_FILE [option ...]"
    )
    groups = (DataArguments, HeadArguments, stage)
    parser = parser_of(*groups, usage=usage, description=description)
    known = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.yaml")))
    parser.add_argument(
        "--recipe",
        metavar="NAME_OR_FILE",
        help=f"Options from a YAML or JSON file, or one of {known}; others on the command line count more.",
    )
    *arguments, _ = parser.parse_args_into_dataclasses(argv)  # the last would have the recipe, which is read
    return tuple(arguments)


def _recipe(name: str) -> list[str]:
    path = RECIPES / f"{name}.yaml" if (RECIPES / f"{name}.yaml").exists() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.yaml")))
        raise ValueError(f"No recipe {name!r}: give a YAML or JSON file, or one of {known}.")
    try:
        keys = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from None
    if not isinstance(keys, dict):
        raise ValueError(f"{path} must hold options as `name: value`.")
    words = []
    for key, value in keys.items():
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        words += [f"--{key}", *(_word(value) for value in values)]
    return words


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def identity(data: DataArguments, head: HeadArguments, args: "StageArguments") -> dict[str, Any]:
    """What a run and its resumption must share."""
    chosen = {**asdict(data), **asdict(head), **{key: getattr(args, key) for key in _STAGE_KEYS}}
    shared = {key: value for key, value in chosen.items() if key not in _FREE_TO_CHANGE}
    return json.loads(json.dumps(shared, default=str))
