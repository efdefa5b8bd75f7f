"""Both stages of training: the NLI head, then the abstention head, on states of a frozen base."""

import copy
import json
import platform
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import transformers
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import EarlyStoppingCallback, TrainerCallback, set_seed

from ..calibration import guaranteed_threshold
from ..configuration_modernbert_nli import LABELS
from ..files import write_aside
from ..modeling_modernbert_nli import ModernBertNliModel
from .adapter import train_adapter
from .arguments import DataArguments, HeadArguments, identity
from .cache import cache_states, missing_bytes, recomputed_states
from .calibration import calibration_of
from .data import Pairs, clean, load_pairs, random_part, summary
from .initial_model import new_model, trained_model
from .metrics import decisions, threshold_for_risk, wrong
from .replay import replay_sample_of
from .report import MemoryWatch, head_parameters, report
from .states import PairStates
from .teacher import teacher_logits
from .trainer_arguments import StageArguments
from .trainers import (
    AbstentionTrainer,
    NliTrainer,
    StageTrainer,
    TrainingDiverged,
    calibrated,
    predict,
)
from .work_folder import last_checkpoint, prepare_work_folder

_CALIBRATION_SHARE = 1 / 3  # of what is held out


def train_heads(data: DataArguments, head: HeadArguments, args: StageArguments, argv: list[str]) -> None:
    """Run both stages and save the checkpoint with its results.

    Args:
        data, head, args: What to learn from, and how.
        argv (`list[str]`): The command line that they are of, which the results name.

    Raises:
        ValueError: arguments, data or a cache that cannot be used.
        OSError: a disk is full, or the base cannot be had.
        TrainingDiverged: the loss became no number; what was saved before is left as it was.
    """
    set_seed(args.seed)
    seconds: dict[str, float] = {}
    memory = MemoryWatch()

    train, further, evaluation = load_sources(data, args)
    if args.process_index == 0:
        print(summary(train, evaluation, further))
    sizes = {"pairs": _sizes(train), "abstention_pairs": _sizes(further)}
    model = (trained_model(head) if head.init_from else new_model(head)).to(args.device)
    start = model.heads_digest() if head.init_from else None  # a name may stand for other heads by now
    work = _work_folder(Path(args.output_dir))
    with args.main_process_first():
        if args.process_index == 0:
            prepare_work_folder(work, {**identity(data, head, args), **sizes, "start": start}, args.resume)

    if head.adapter:
        with _timed(seconds, "adapter"):
            model.familiarity = model.config.familiarity = None  # of states without the adapter
            train_adapter(model, [_not_held_out(pairs, data, args) for pairs in train], head, args, work)
    with _timed(seconds, "states"):
        states_of = state_maker(model, [*train, *further, *evaluation], data, args)
        fitted, held_out, unseen, sources = _split(states_of, train, data, head, args)
        others = [states_of(pairs).take(pairs.repeated(args.seed)) for pairs in further]
        tests = {pairs.name: states_of(pairs) for pairs in evaluation}
        memory.sample()
    with _timed(seconds, "stage 1"):
        nli_stage = partial(NliTrainer, alpha=head.alpha, beta=head.beta)
        trainer = _train(nli_stage, model, fitted, held_out, args, memory)
        judged = _judged(trainer, held_out)
    logits = [figures["logits"] for figures in judged.values()]
    temperature = calibrated(model.nli_output, logits, held_out.labels)
    with _timed(seconds, "stage 2"):
        learnt = PairStates.concatenate([PairStates(held_out.encoded, held_out.labels), *others])
        trainer = _train(AbstentionTrainer, model, learnt, unseen, args, memory)
    model.replay_sample = replay_sample_of(model, fitted, args.seed)
    model.config.adaptation = None  # of a start that was adapted: these heads are others
    judged = _judged(trainer, unseen)
    threshold = _calibrate(model, judged, sources, head.target_risk)

    def decided(judged: dict[str, Any]) -> dict[str, Any]:
        return {name: decisions(**figures, threshold=threshold) for name, figures in judged.items()}

    results = {
        "date": date.today().isoformat(),
        "command": shlex.join(["python", "train.py", *(Path(word).name for word in argv)]),
        "base": {"name": model.config.base_model_name_or_path, "revision": model.config.base_model_revision},
        "init_from": head.init_from and Path(head.init_from).name,
        "seed": args.seed,
        "train": sizes["pairs"],
        "abstention_data": sizes["abstention_pairs"],
        "pairs": {"fitted": len(fitted), "held_out": len(held_out), "calibration": len(unseen)},
        "parameters": head_parameters(model),
        "encoding": model.config.encoding,
        "temperature": temperature,
        "threshold": threshold,
        "target_risk": head.target_risk,
        "held_out": decided(judged),
        "evaluation": {name: decided(_judged(trainer, pairs)) for name, pairs in tests.items()},
        "seconds": seconds,
        "peak_memory": memory.peak(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
    if trainer.is_world_process_zero():
        _save(model, results, Path(args.output_dir))
        print(report(results, args.output_dir))


def load_sources(data: DataArguments, args: StageArguments) -> tuple[list[Pairs], list[Pairs], list[Pairs]]:
    """What to learn from, in both stages and in stage 2 alone, and what to measure on: no pair twice.

    Raises:
        ValueError: two sources of one name, or what `load_pairs` raises.
    """
    learnt = [*data.train_data, *data.abstention_data]
    train = [load_pairs(source, args.seed) for source in learnt]
    evaluation = [load_pairs(source, args.seed) for source in data.eval_data]
    for sources, loaded in ((learnt, train), (data.eval_data, evaluation)):
        names = [pairs.name for pairs in loaded]
        if twice := [source for source, name in zip(sources, names, strict=True) if names.count(name) > 1]:
            raise ValueError(
                f"{' and '.join(twice)} have one name: rename one by `?name=`, results are kept by name."
            )
    train = clean(train, evaluation)
    train, further = train[: len(data.train_data)], train[len(data.train_data) :]
    if data.max_train_pairs is not None:
        train = random_part(train, data.max_train_pairs, args.seed)
    return train, further, evaluation


def _sizes(sources: list[Pairs]) -> dict[str, int]:
    return {pairs.name: len(pairs) for pairs in sources}


def _not_held_out(pairs: Pairs, data: DataArguments, args: StageArguments) -> Pairs:
    return pairs.take(np.flatnonzero(~pairs.held_out(data.held_out, _held_out_seed(data, args))))


def _held_out_seed(data: DataArguments, args: StageArguments) -> int:
    return args.seed if data.held_out_seed is None else data.held_out_seed


def state_maker(
    model: ModernBertNliModel, sources: list[Pairs], data: DataArguments, args: StageArguments
) -> Callable[[Pairs], PairStates]:
    """How the states of pairs are had: from a cache where they fit, else recomputed."""
    folder = Path(data.cache_dir) if data.state_cache == "disk" else None
    fits = data.state_cache != "none"
    if fits and args.process_index == 0:
        needed = sum(missing_bytes(model, pairs.whole, folder) for pairs in sources)
        room = _room(folder, data.max_cache_gb)
        fits = needed <= room
        where = f"in {folder}" if folder else "in memory"
        if not fits:
            print(
                f"The encoder's states need {needed / 1e9:.1f} GB {where}, and {max(room, 0) / 1e9:.1f} GB "
                "may be used: they are recomputed in every epoch, which takes far longer. Another "
                "`--cache_dir`, a larger `--max_cache_gb`, `--encodings separate` or `--max_train_pairs` "
                "avoid that."
            )
        elif needed:
            print(f"The encoder's states take {needed / 1e9:.2f} GB {where}.")
    (fits,) = broadcast_object_list([fits])  # one process decides: free space may differ between machines

    def states_of(pairs: Pairs) -> PairStates:
        if not fits:
            return recomputed_states(model, pairs)
        states = cache_states(model, pairs.whole, folder)
        return states if pairs.rows is None else states.take(pairs.rows)

    return states_of


def _room(folder: Path | None, most_gb: float | None) -> float:
    """Bytes that may still be stored."""
    if folder is None:
        free: float = psutil.virtual_memory().available
        used = 0
    else:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free *= 0.95
    return free if most_gb is None else min(free, most_gb * 1e9 - used)


def _split(
    states_of: Callable[[Pairs], PairStates],
    train: list[Pairs],
    data: DataArguments,
    head: HeadArguments,
    args: StageArguments,
) -> tuple[PairStates, PairStates, PairStates, list[str]]:
    """What stage 1 is fitted to, as often as its weight says; what stage 2 is; what neither sees.

    Beside the last, the source of each of its pairs.

    No premise is in two of them: the last part is what the risk is guaranteed by.
    """
    parts, fitted, start = [], [], 0
    seed = _held_out_seed(data, args)
    held = np.concatenate([pairs.held_out(data.held_out, seed) for pairs in train])
    last = np.concatenate([pairs.held_out(_CALIBRATION_SHARE, -1 - seed) for pairs in train])
    for pairs in train:
        part = states_of(pairs)
        if head.teacher:
            with args.main_process_first(desc="teacher"):
                folder = Path(data.cache_dir)
                known = {
                    "labels": head.teacher_labels,
                    "trust_remote_code": head.teacher_trust_remote_code,
                    "device": args.device,
                }
                logits = teacher_logits(pairs.whole, head.teacher, folder, **known)
            part.extra["teacher_logits"] = logits if pairs.rows is None else logits[pairs.rows]
        parts.append(part)
        rows = start + pairs.repeated(args.seed)
        fitted.append(rows[~held[rows]])
        start += len(pairs)
    states, chosen = PairStates.concatenate(parts), np.concatenate(fitted)
    if len(chosen) == 0 or min((held & last).sum(), (held & ~last).sum()) < 2:
        raise ValueError(
            f"{len(chosen)} pairs to fit and {held.sum()} held out are too few: give more data, or change "
            "`--held_out`."
        )
    sources = np.repeat([pairs.name for pairs in train], [len(pairs) for pairs in train])
    return (
        states.take(chosen),
        states.take(np.flatnonzero(held & ~last)),
        states.take(np.flatnonzero(held & last)),
        sources[held & last].tolist(),
    )


def _judged(trainer: StageTrainer, pairs: PairStates) -> dict[str, Any]:
    """By encoding, what the heads say of pairs: see `predict`."""
    return {encoding: predict(trainer, pairs.only(encoding)) for encoding in pairs.encoded}


def _calibrate(
    model: ModernBertNliModel, judged: dict[str, Any], sources: list[str], target_risk: float
) -> float:
    """Give the heads their guarantee, and the threshold: the guaranteed one, or else an estimate."""
    encoding, calibration = model.config.encoding, None
    errors = {name: wrong(figures["logits"], figures["labels"]) for name, figures in judged.items()}
    try:
        calibration = {
            name: calibration_of(
                errors[name],
                figures["uncertainty"],
                [LABELS[label] for label in figures["logits"].argmax(axis=-1)],
                list(dict.fromkeys(sources)),
                groups=sources,
            )
            for name, figures in judged.items()
        }
        threshold = guaranteed_threshold(calibration, encoding, target_risk)
    except ValueError as error:  # too few pairs, or a risk that they cannot guarantee
        if PartialState().is_main_process:
            print(f"No guarantee for a risk of {target_risk:g}, but an estimate: {error}")
        threshold = threshold_for_risk(errors[encoding], judged[encoding]["uncertainty"], target_risk)
    model.set_calibration(calibration, threshold)
    return threshold


def _train(
    stage: Callable[..., StageTrainer],
    model: ModernBertNliModel,
    fitted: PairStates,
    unseen: PairStates,
    args: StageArguments,
    memory: MemoryWatch,
) -> StageTrainer:
    """Run a stage, from the start or from its last checkpoint."""
    own = copy.copy(args)
    name = "abstention" if stage is AbstentionTrainer else "nli"
    own.output_dir = str(_work_folder(Path(args.output_dir)) / name)
    if stage is AbstentionTrainer:
        own.num_train_epochs = args.abstention_epochs
    callbacks: list[TrainerCallback] = [memory]
    # Not in stage 2: what it is measured on is what the risk is guaranteed by.
    if args.early_stopping_patience is not None and stage is not AbstentionTrainer:
        callbacks.append(EarlyStoppingCallback(args.early_stopping_patience))
        own.metric_for_best_model = f"eval_{model.config.encoding}_accuracy"
        own.greater_is_better = own.load_best_model_at_end = True
    trainer = stage(
        model=model,
        args=own,
        train_dataset=fitted,
        eval_dataset={encoding: unseen.only(encoding) for encoding in unseen.encoded},
        processing_class=model.tokenizer,
        callbacks=callbacks,
    )
    with args.main_process_first():
        last = last_checkpoint(Path(own.output_dir)) if args.resume else None
    trainer.train(resume_from_checkpoint=last)
    return trainer


def _work_folder(output: Path) -> Path:
    """Beside the checkpoint, which holds nothing but what one publishes."""
    return output.with_name(output.name + ".trainer")


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - start, 2)


def _save(model: ModernBertNliModel, results: dict[str, Any], folder: Path) -> None:
    model.save_pretrained(folder)
    write_aside(folder / "results.json", json.dumps(results, indent=2, allow_nan=False) + "\n")


def train_alone(data: DataArguments, head: HeadArguments, args: StageArguments, argv: list[str]) -> None:
    """`train_heads` in a process of its own; what the user can put right is a ValueError or an OSError."""
    try:
        train_heads(data, head, args, argv)
    except TrainingDiverged as error:
        raise ValueError(str(error)) from error
    except RuntimeError as error:
        if "inline_container" not in str(error):  # of torch.save, which has no other word for a full disk
            raise
        raise OSError(
            f"A checkpoint could not be written: is the disk full? ({error}) The same command with "
            "`--resume true` goes on from the one before."
        ) from error
    # Threads of a process group that nobody ends abort the process that it outlives.
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()
