"""Train heads of your own: the NLI head, then the abstention head, on a frozen base.

    python train.py --train_data train.jsonl --eval_data test.jsonl --output_dir runs/mine
    python train.py --train_data stanfordnlp/snli nyu-mll/multi_nli --output_dir runs/large \
        --base_model answerdotai/ModernBERT-large --base_dtype bfloat16
    python train.py recipe.yaml

Without `--base_model` the embedded all-MiniLM-L6-v2 is used, and nothing is downloaded. The base runs once
over the data; both stages read its states from a cache. All options: `python train.py --help`.
"""

import copy
import json
import platform
import shlex
import sys
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import HfArgumentParser, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

import quickstart
from configuration_modernbert_nli import ENCODINGS, ModernBertNliConfig
from modeling_modernbert_nli import ModernBertNliModel
from training.data import Pairs, load_pairs, random_part, summary
from training.metrics import decisions, threshold_for_risk
from training.states import PairStates, cache_states
from training.trainers import (
    AbstentionTrainer,
    NliTrainer,
    StageTrainer,
    fit_temperature,
    fold_temperature,
    predict,
)


@dataclass
class DataArguments:
    """What to learn from."""

    train_data: list[str] = field(
        metadata={"help": "JSONL, CSV or Parquet files, or Hub datasets as id, id:split or id/config:split."}
    )
    eval_data: list[str] = field(
        default_factory=list, metadata={"help": "The same, to measure the result on."}
    )
    held_out: float = field(
        default=0.05,
        metadata={
            "help": "Share of the premises kept from stage 1, for stage 2, the temperature and the threshold."
        },
    )
    max_train_pairs: int | None = field(
        default=None, metadata={"help": "A random part of the data, of this size."}
    )
    cache_dir: str = field(default="runs/states", metadata={"help": "Folder of the encoder states."})


@dataclass
class HeadArguments:
    """What to train."""

    base_model: str = field(default=quickstart.BASE, metadata={"help": "Repository id of the frozen base."})
    base_revision: str | None = field(default=None, metadata={"help": "Its commit."})
    base_folder: str | None = field(
        default=None, metadata={"help": "A local copy of the base, to use no Hub."}
    )
    base_dtype: str = field(
        default="auto",
        metadata={"help": "Precision of the base: auto (its own), float32, bfloat16, float16."},
    )
    head_type: str = field(
        default="alignment", metadata={"help": "Head family.", "choices": ["alignment", "cls"]}
    )
    encodings: list[str] = field(
        default_factory=lambda: ["separate", "joint"],
        metadata={"help": "Encodings to train for, the default one first. The CLS head knows only joint."},
    )
    alignment_size: int | None = field(default=None, metadata={"help": "Width in which tokens are compared."})
    nli_hidden_size: int | None = field(default=None, metadata={"help": "Width of the hidden vector."})
    head_dropout: float = field(default=0.2, metadata={"help": "Dropout of the heads."})
    abstention_weight: float = field(
        default=0.5,
        metadata={"help": "Share of the abstention head in the uncertainty; the rest is 1 - MaxProb."},
    )
    target_risk: float = field(
        default=0.1,
        metadata={"help": "Share of wrong answers, among the held-out ones accepted, at the threshold."},
    )


@dataclass
class StageArguments(TrainingArguments):
    """Arguments of Trainer, with defaults for small heads; stage 2 shares all but its epochs."""

    output_dir: str = field(default="runs/nli", metadata={"help": "Where the checkpoint goes."})
    abstention_epochs: float = field(default=3.0, metadata={"help": "Epochs of stage 2."})
    num_train_epochs: float = field(default=5.0, metadata={"help": "Epochs of stage 1."})
    per_device_train_batch_size: int = 64
    per_device_eval_batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: float = 0.06
    lr_scheduler_type: str = "cosine"
    eval_strategy: str = "epoch"
    save_strategy: str = "epoch"
    save_total_limit: int = 1
    logging_steps: float = 100
    report_to: str = "none"
    remove_unused_columns: bool = False
    dataloader_pin_memory: bool = torch.cuda.is_available()
    label_names: list[str] = field(default_factory=lambda: ["labels"])
    ddp_find_unused_parameters: bool = False


def main(argv: list[str] | None = None) -> None:
    """Run both stages and save the checkpoint with its results."""
    argv = sys.argv[1:] if argv is None else argv
    data, head, args = _parse(argv)
    set_seed(args.seed)

    train, evaluation = _load(data.train_data), _load(data.eval_data)
    if data.max_train_pairs is not None:
        train = random_part(train, data.max_train_pairs, args.seed)
    if args.process_index == 0:
        print(summary(train, evaluation))

    model = _new_model(head).to(args.device)
    with args.main_process_first(desc="encoding"):  # the others find the cache
        fitted, held_out, tests = _states(model, train, evaluation, data, args.seed)
    trainer = _train(NliTrainer, model, fitted, held_out, args)
    kept = {encoding: predict(trainer, held_out.only(encoding)) for encoding in held_out.encoded}
    logits = np.concatenate([figures["logits"] for figures in kept.values()])
    temperature = fit_temperature(logits, np.tile(held_out.labels, len(kept)))
    fold_temperature(model, temperature)

    # The threshold is chosen on pairs that neither head was fitted to.
    for_threshold = np.random.default_rng(args.seed).random(len(held_out)) < 1 / 4
    fitted_to_errors, unseen = held_out.take(~for_threshold), held_out.take(for_threshold)
    trainer = _train(AbstentionTrainer, model, fitted_to_errors, unseen, args)
    figures = predict(trainer, unseen.only(model.config.encoding))
    errors = figures["logits"].argmax(axis=-1) != figures["labels"]
    threshold = threshold_for_risk(errors, figures["uncertainty"], head.target_risk)
    model.config.abstention_threshold = threshold

    def measured(pairs: PairStates) -> dict[str, Any]:
        return {
            name: decisions(**predict(trainer, pairs.only(name)), threshold=threshold)
            for name in pairs.encoded
        }

    results = {
        "date": date.today().isoformat(),
        "command": shlex.join(["python", "train.py", *(Path(word).name for word in argv)]),
        "base": {"name": model.config.base_model_name_or_path, "revision": model.config.base_model_revision},
        "seed": args.seed,
        "train": {pairs.name: len(pairs) for pairs in train},
        "pairs": {"fitted": len(fitted), "held_out": len(held_out)},
        "parameters": sum(
            p.numel() for name, p in model.named_parameters() if not name.startswith("encoder.")
        ),
        "encoding": model.config.encoding,
        "temperature": temperature,
        "threshold": threshold,
        "target_risk": head.target_risk,
        "held_out": measured(unseen),
        "evaluation": {name: measured(pairs) for name, pairs in tests.items()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
    if trainer.is_world_process_zero():
        _save(model, results, Path(args.output_dir))
        print(_report(results, args.output_dir))


def _parse(argv: list[str]) -> tuple[DataArguments, HeadArguments, StageArguments]:
    parser = HfArgumentParser((DataArguments, HeadArguments, StageArguments))
    if len(argv) == 1 and argv[0].endswith((".yaml", ".yml")):
        return parser.parse_yaml_file(argv[0])
    if len(argv) == 1 and argv[0].endswith(".json"):
        return parser.parse_json_file(argv[0])
    return parser.parse_args_into_dataclasses(argv)


def _load(sources: list[str]) -> list[Pairs]:
    loaded = [load_pairs(source) for source in sources]
    names = [pairs.name for pairs in loaded]
    if twice := [source for source, name in zip(sources, names, strict=True) if names.count(name) > 1]:
        raise ValueError(f"{' and '.join(twice)} have one name: rename a file, results are kept by name.")
    return loaded


def _new_model(head: HeadArguments) -> ModernBertNliModel:
    folder, revision = head.base_folder, head.base_revision
    if folder is None and (folder := quickstart.embedded_folder(head.base_model, revision)):
        revision = quickstart.BASE_REVISION
    if head.base_folder and head.base_model == quickstart.BASE:
        raise ValueError(
            "`--base_folder` needs `--base_model`: the name that the checkpoint gives to this base."
        )
    encodings = ["joint"] if head.head_type == "cls" else head.encodings
    if unknown := set(encodings) - set(ENCODINGS):
        raise ValueError(f"`--encodings` takes {' and '.join(ENCODINGS)}, not {unknown.pop()!r}.")
    sizes = {"alignment_size": head.alignment_size, "nli_hidden_size": head.nli_hidden_size}
    config = ModernBertNliConfig.from_base(
        head.base_model,
        revision,
        folder,
        head_type=head.head_type,
        encoding=encodings[0],
        head_dropout=head.head_dropout,
        abstention_weight=head.abstention_weight,
        **{name: size for name, size in sizes.items() if size is not None},
    )
    config.encoder_layers = {name: config.encoder_layers[name] for name in encodings}
    return ModernBertNliModel.from_base(config, dtype=head.base_dtype)


def _states(
    model: ModernBertNliModel, train: list[Pairs], evaluation: list[Pairs], data: DataArguments, seed: int
) -> tuple[PairStates, PairStates, dict[str, PairStates]]:
    """What stage 1 is fitted to, what is held out from it, and the evaluation sets by name."""
    cache = Path(data.cache_dir)
    states = PairStates.concatenate([cache_states(model, pairs, cache) for pairs in train])
    held = np.concatenate([pairs.held_out(data.held_out, seed) for pairs in train])
    fitted, held_out = np.flatnonzero(~held), np.flatnonzero(held)
    if len(fitted) == 0 or len(held_out) < 8:
        raise ValueError(
            f"{len(fitted)} pairs to fit and {len(held_out)} held out are too few: give more data, or change "
            "`--held_out`."
        )
    tests = {pairs.name: cache_states(model, pairs, cache) for pairs in evaluation}
    return states.take(fitted), states.take(held_out), tests


def _train(
    stage: type[StageTrainer],
    model: ModernBertNliModel,
    fitted: PairStates,
    unseen: PairStates,
    args: StageArguments,
) -> StageTrainer:
    """Run a stage, from the start or from its last checkpoint with `--resume_from_checkpoint true`."""
    own = copy.copy(args)
    own.output_dir = str(_work_folder(Path(args.output_dir)) / stage.__name__)
    if stage is AbstentionTrainer:
        own.num_train_epochs = args.abstention_epochs
    trainer = stage(
        model=model,
        args=own,
        train_dataset=fitted,
        eval_dataset={encoding: unseen.only(encoding) for encoding in unseen.encoded},
        processing_class=model.tokenizer,
    )
    wanted = str(args.resume_from_checkpoint).lower() not in ("none", "false")
    started = wanted and Path(own.output_dir).is_dir()
    trainer.train(resume_from_checkpoint=get_last_checkpoint(own.output_dir) if started else None)
    return trainer


def _work_folder(output: Path) -> Path:
    """Beside the checkpoint, which holds nothing but what one publishes."""
    return output.with_name(output.name + ".trainer")


def _save(model: ModernBertNliModel, results: dict[str, Any], folder: Path) -> None:
    """All files of the checkpoint aside, then each into place: no reader finds half a file."""
    aside = _work_folder(folder) / "checkpoint"
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(aside)
    (aside / "results.json").write_text(json.dumps(results, indent=2, allow_nan=False) + "\n")
    for path in aside.iterdir():
        path.replace(folder / path.name)


def _report(results: dict[str, Any], folder: str) -> str:
    lines = [f"\n{'set':<32} {'pairs':>7} {'accuracy':>9} {'coverage':>9} {'selective accuracy':>19}"]
    for name, encodings in {"held out": results["held_out"], **results["evaluation"]}.items():
        for encoding, row in encodings.items():
            selective = (
                "none given" if row["selective_accuracy"] is None else f"{row['selective_accuracy']:.1%}"
            )
            shown = f"{row['accuracy']:>9.1%} {row['coverage']:>9.1%} {selective:>19}"
            lines.append(f"{name + ', ' + encoding:<32} {row['pairs']:>7,} {shown}")
    lines.append(f"\nSaved in {folder}. Try it: python predict.py --model {folder} PREMISE HYPOTHESIS")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
