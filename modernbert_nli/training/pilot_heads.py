"""Pilot heads: trained on all folds of the data but one, they score that one; what is then written."""

import copy
import shlex
import shutil
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from transformers import set_seed

from ..configuration_modernbert_nli import LABELS
from ..modeling_modernbert_nli import ModernBertNliModel
from .arguments import DataArguments, HeadArguments
from .data import Pairs, require_three_way, summary
from .initial_model import new_model
from .pilot import Scores, find_suspects, folds_by_premise, thin, write_results
from .pilot_command import PilotArguments, PilotStageOptions
from .stages import load_sources, state_maker
from .states import PairStates
from .trainer_arguments import StageArguments
from .trainers import NliTrainer, TrainingDiverged, predict


@dataclass
class PilotStageArguments(PilotStageOptions, StageArguments):
    """Arguments of Trainer for the pilot heads: few epochs, and nothing of them is kept."""

    eval_strategy: str = "no"
    save_strategy: str = "no"


def score(pilot: PilotArguments, head: HeadArguments, args: StageArguments, folder: Path) -> None:
    """Score, thin, and write the results into a folder.

    Raises:
        ValueError: data that cannot be used, or too few; or the loss became no number.
    """
    sources, *_ = load_sources(pilot, args)
    for pairs in sources:
        require_three_way(pairs)
    if args.process_index == 0:
        print(summary(sources, []))
    folds = np.concatenate([folds_by_premise(pairs, pilot.folds, args.seed) for pairs in sources])
    if (sizes := np.bincount(folds, minlength=pilot.folds)).min() == 0:
        raise ValueError(
            f"{len(folds)} pairs make folds of {', '.join(map(str, sizes))}: all pairs of a premise are in "
            "one. Give more data, or lower `--folds`."
        )
    model = new_model(head).to(args.device)
    states_of = state_maker(model, sources, pilot, args)
    states = PairStates.concatenate([states_of(pairs) for pairs in sources])
    work = folder.with_name(folder.name + ".pilot-unfinished")
    try:
        scores = Scores(sources, out_of_fold(model, states, folds, args, work))
    except TrainingDiverged as error:
        raise ValueError(str(error)) from error

    if args.process_index == 0:
        kept = thin(scores.p_label, scores.labels, pilot.bins, pilot.most_per_bin, args.seed)
        suspects = find_suspects(scores, pilot.suspects)
        shutil.rmtree(work, ignore_errors=True)
        write_results(scores, kept, suspects, pilot.bins, pilot.most_per_bin, work)
        _publish(work, folder)
        print(report(scores, kept, suspects))
        print(f"\nSaved in {folder}. Look through suspects.csv, then:")
        print(f"    {_next_command(folder, pilot, head, sources)}")


def out_of_fold(
    model: ModernBertNliModel, states: PairStates, folds: np.ndarray, args: StageArguments, work: Path
) -> np.ndarray:
    """Probabilities of each pair from heads that were trained on the other folds, (pairs, 3).

    With several encodings they are the mean of both.

    Args:
        model (`ModernBertNliModel`): Its encoder and its configuration; its own heads are not used.
        states (`PairStates`): All pairs.
        folds (`np.ndarray` of shape `(pairs,)`): The fold of each.
        args (`StageArguments`): How to train. All folds begin with the same heads.
        work (`Path`): Folder for what Trainer writes.
    """
    probs = np.zeros((len(states), len(LABELS)))
    args = copy.copy(args)
    args.output_dir = str(work)
    for fold in range(folds.max() + 1):
        set_seed(args.seed)
        heads = ModernBertNliModel.from_base(model.config, encoder=model.encoder).to(args.device)
        trainer = NliTrainer(
            model=heads,
            args=args,
            train_dataset=states.take(np.flatnonzero(folds != fold)),
            processing_class=heads.tokenizer,
        )
        trainer.train()
        unseen = states.take(np.flatnonzero(folds == fold))
        for encoding in unseen.encoded:
            logits = torch.from_numpy(predict(trainer, unseen.only(encoding))["logits"])
            probs[folds == fold] += logits.double().softmax(dim=-1).numpy() / len(unseen.encoded)
    return probs


def report(scores: Scores, kept: np.ndarray, suspects: np.ndarray) -> str:
    """A table of the sources and of the labels: pairs, right answers of the pilot heads, kept, suspects."""
    suspect = np.zeros(len(kept), bool)
    suspect[suspects] = True
    ends = np.cumsum([0, *(len(pairs) for pairs in scores.sources)])
    parts = {pairs.name: slice(*ends[i : i + 2]) for i, pairs in enumerate(scores.sources)}
    parts |= {label: scores.labels == number for number, label in enumerate(LABELS)}
    parts["all"] = slice(None)
    width = max(map(len, parts))
    lines = [f"\n{'':<{width}} {'pairs':>10} {'accuracy':>9} {'kept':>10} {'':>7} {'suspects':>9}"]
    for name, part in parts.items():
        right = (scores.predicted == scores.labels)[part]
        if not len(right):
            continue
        count, share = kept[part].sum(), kept[part].mean()
        shown = f"{len(right):>10,} {right.mean():>9.1%} {count:>10,} {share:>7.1%} {suspect[part].sum():>9,}"
        if name in (LABELS[0], "all"):
            lines.append("")
        lines.append(f"{name:<{width}} {shown}")
    return "\n".join(lines)


def _publish(work: Path, folder: Path) -> None:
    """Put all results in their place at once: those of an earlier run stay until these are complete."""
    earlier = folder.with_name(folder.name + ".pilot-replaced")
    shutil.rmtree(earlier, ignore_errors=True)
    if folder.exists():
        folder.rename(earlier)
    work.rename(folder)
    shutil.rmtree(earlier, ignore_errors=True)


def _next_command(folder: Path, pilot: PilotArguments, head: HeadArguments, sources: list[Pairs]) -> str:
    """train.py on what was kept, with the same base, heads, cache and evaluation data."""
    words = [str(folder / "kept" / "*.jsonl")]
    if any(pairs.weight != 1 for pairs in sources):  # which the files do not hold
        weighted = [f"{folder / 'kept' / pairs.name}.jsonl?weight={pairs.weight:g}" for pairs in sources]
        words = list(map(shlex.quote, weighted))
    for given, default in ((pilot, DataArguments([])), (head, HeadArguments())):
        for item in fields(default):
            value = getattr(given, item.name)
            if value == getattr(default, item.name) or item.name in ("train_data", "max_train_pairs"):
                continue
            values = value if isinstance(value, list) else [value]
            words += [f"--{item.name}", *(shlex.quote(str(each)) for each in values)]
    return " ".join(["python train.py --train_data", *words, "--output_dir runs/thinned"])
