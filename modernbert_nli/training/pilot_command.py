"""Score training data before it is learnt from: thin the easy pairs, and list labels that are probably wrong.

    python pilot.py --train_data a.jsonl b.jsonl --output_dir runs/pilot
    python train.py --train_data runs/pilot/kept/*.jsonl --output_dir runs/mine
    python pilot.py --unlabelled texts.jsonl --choose 200          the pairs that are worth labelling first

Pilot heads are trained on all folds of the data but one and score that one, in turn: every pair gets the
probabilities of heads that have not seen it, nor any other pair of its premise. The output folder then holds

    scores.jsonl        of each pair source, row, label, p_label, predicted, p_predicted
    suspects.csv        the pairs whose label is most probably wrong, the surest first
    histogram.png/.svg  pairs by p_label, before and after thinning
    kept/SOURCE.jsonl   the pairs without most of the easy ones

p_label is the probability of the label as given. Thinning puts the pairs of each label in bins by it; a bin
from 2/3 upwards keeps at most a share of that label's pairs (`--most_per_bin`), drawn at random. Suspects
stay in `kept/`: whether their label is wrong is for a reader to say. A row is a pair's number among the
labelled ones of its source, or among those that `cap=` or `--max_train_pairs` left of it, from 1. Repeated
pairs and those of `--eval_data` are left out, as by train.py, whose cache of encoder states is used.

`--unlabelled` instead of `--train_data` chooses typical pairs of every kind that trained heads tell apart
among them (`--init_from`, by default those of this repository), and writes `to_label.csv`, with an empty
column for labels: what is filled in by then is labelled data for `nli.adapt`, train.py and calibrate.py.
"""

import copy
import shlex
import shutil
import sys
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from transformers import set_seed

from ..configuration_modernbert_nli import LABELS
from ..modeling_modernbert_nli import ModernBertNliModel
from ..options import run
from .arguments import DataArguments, HeadArguments, StageArguments, parser_of
from .command import load_sources, state_maker
from .data import Pairs, require_three_way, summary
from .initial_model import new_model
from .pilot import Scores, find_suspects, folds_by_premise, thin, write_results
from .plot_style import require_matplotlib
from .selecting import TO_LABEL, choose_pairs
from .states import PairStates
from .trainers import NliTrainer, TrainingDiverged, predict

COMMAND = "pilot.py"
_RESULTS = {"scores.jsonl", "suspects.csv", "histogram.png", "histogram.svg", "kept"}
_NOT_HERE = {"abstention_data", "held_out", "teacher", "resume"}  # options of train.py without a meaning here
# Of stage 2, and of a teacher: they come with what pilot heads share with others, and change nothing here.
_NOT_SHOWN = {"abstention_epochs", "abstention_weight", "target_risk"}
_NOT_SHOWN |= {"teacher_labels", "teacher_trust_remote_code", "alpha", "beta"}


_SOURCES = {"help": "Labelled pairs to score, as for train.py."}


@dataclass
class PilotArguments(DataArguments):
    """What to score, and how."""

    train_data: list[str] = field(default_factory=list, metadata=_SOURCES)
    unlabelled: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Instead: JSONL, CSV or Parquet files of pairs (premise, hypothesis) to choose from."
        },
    )
    choose: int = field(default=200, metadata={"help": "How many of them to choose."})
    folds: int = field(
        default=2, metadata={"help": "Parts of the data; each is scored by heads of the rest."}
    )
    bins: int = field(default=20, metadata={"help": "Bins of the histogram."})
    most_per_bin: float = field(
        default=0.1,
        metadata={
            "metavar": "SHARE",
            "help": "Most that a bin of easy pairs keeps, as a share of all pairs of its label.",
        },
    )
    suspects: int = field(default=500, metadata={"help": "Most rows of suspects.csv."})


@dataclass
class PilotStageArguments(StageArguments):
    """Arguments of Trainer for the pilot heads: few epochs, and nothing of them is kept."""

    output_dir: str = field(default="runs/pilot", metadata={"help": "Where the results go."})
    num_train_epochs: float = field(default=2.0, metadata={"help": "Epochs of the pilot heads."})
    eval_strategy: str = "no"
    save_strategy: str = "no"


def main(argv: list[str] | None = None) -> None:
    """Score, thin, and write the results."""
    pilot, head, args = parse_args(sys.argv[1:] if argv is None else argv)
    folder = Path(args.output_dir)
    _check(pilot, head, args, folder)
    if pilot.unlabelled:
        count = choose_pairs(pilot.unlabelled, pilot.choose, head, Path(pilot.cache_dir), folder, args.seed)
        print(
            f"Chose {count:,} pairs. Label them in {folder / TO_LABEL}: entailment, neutral, contradiction, "
            "or non-entailment where no more is known."
        )
        return

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
    scores = Scores(sources, out_of_fold(model, states, folds, args, work))

    if args.process_index == 0:
        kept = thin(scores.p_label, scores.labels, pilot.bins, pilot.most_per_bin, args.seed)
        suspects = find_suspects(scores, pilot.suspects)
        shutil.rmtree(work, ignore_errors=True)
        write_results(scores, kept, suspects, pilot.bins, pilot.most_per_bin, work)
        _publish(work, folder)
        print(report(scores, kept, suspects))
        print(f"\nSaved in {folder}. Look through suspects.csv, then:")
        print(f"    {_next_command(folder, pilot, head, sources)}")


def parse_args(argv: list[str]) -> tuple[PilotArguments, HeadArguments, PilotStageArguments]:
    """Options to arguments."""
    groups = (PilotArguments, HeadArguments, PilotStageArguments)
    usage = "python pilot.py --train_data train.jsonl [...] [--output_dir runs/pilot] [option ...]\n"
    usage += "       python pilot.py --unlabelled texts.jsonl [...] [--choose 200] [option ...]"
    parser = parser_of(*groups, usage=usage, description=__doc__, without=_NOT_HERE | _NOT_SHOWN)
    pilot, head, args = parser.parse_args_into_dataclasses(argv)
    return pilot, head, args


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


def _check(pilot: PilotArguments, head: HeadArguments, args: StageArguments, folder: Path) -> None:
    """Raise for what cannot be meant, before anything is computed."""
    if bool(pilot.unlabelled) == bool(pilot.train_data):
        raise ValueError("Give `--train_data` to score labelled pairs, or `--unlabelled` to choose some.")
    if pilot.unlabelled:
        if pilot.choose < 1:
            raise ValueError(f"`--choose` must be 1 or more, not {pilot.choose}.")
        return
    if head.init_from:
        raise ValueError("`--init_from` goes with `--unlabelled`: pilot heads are new ones.")
    require_matplotlib()
    ranges = {
        "folds": (pilot.folds >= 2, "2 or more"),
        "bins": (pilot.bins >= 3, "3 or more"),
        "most_per_bin": (0 < pilot.most_per_bin <= 1, "a share: above 0, at most 1"),
        "suspects": (pilot.suspects >= 0, "0 or more"),
    }
    for name, (holds, wanted) in ranges.items():
        if not holds:
            raise ValueError(f"`--{name}` must be {wanted}, not {getattr(pilot, name)}.")
    for given in (pilot, head, args):
        for item in fields(given):
            default = item.default if item.default_factory is MISSING else item.default_factory()
            if item.name in _NOT_HERE and getattr(given, item.name) != default:
                raise ValueError(
                    f"`--{item.name}` is an option of train.py, which a pilot run does not need."
                )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: give a folder as `--output_dir`.")
    foreign = (
        sorted(path.name for path in folder.iterdir() if path.name not in _RESULTS) if folder.exists() else []
    )
    if foreign:
        raise ValueError(
            f"{folder} holds {foreign[0]}, which is no result of a pilot run: give another `--output_dir`."
        )
    inside = [source for source in pilot.train_data if folder.resolve() in Path(source).resolve().parents]
    if inside:
        raise ValueError(
            f"{inside[0]} lies in {folder}, which is to be replaced: give another `--output_dir`."
        )


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


def cli(argv: list[str] | None = None) -> int:
    """`main`, whose errors are sentences: the exit status."""
    return run(
        COMMAND,
        lambda: main(argv),
        errors=(ImportError, ValueError, OSError, TrainingDiverged),
        interrupted="Interrupted. The same command begins again, with the encoder's states that are there.",
    )
