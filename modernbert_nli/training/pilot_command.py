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

import sys
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..options import run
from .arguments import DataArguments, HeadArguments, StageOptions, asks_for_help, parser_of
from .plot_style import require_matplotlib

if TYPE_CHECKING:
    from .pilot_heads import PilotStageArguments

# torch and the like are imported once the options are read: `--help` waits for none of them.

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
class PilotStageOptions(StageOptions):
    """Arguments of Trainer for the pilot heads, as far as `--help` shows them."""

    output_dir: str = field(default="runs/pilot", metadata={"help": "Where the results go."})
    num_train_epochs: float = field(default=2.0, metadata={"help": "Epochs of the pilot heads."})


def main(argv: list[str] | None = None) -> None:
    """Score, thin, and write the results."""
    pilot, head, args = parse_args(sys.argv[1:] if argv is None else argv)
    from .pilot_heads import score
    from .selecting import TO_LABEL, choose_pairs

    folder = Path(args.output_dir)
    _check(pilot, head, args, folder)
    if pilot.unlabelled:
        count = choose_pairs(pilot.unlabelled, pilot.choose, head, Path(pilot.cache_dir), folder, args.seed)
        print(
            f"Chose {count:,} pairs. Label them in {folder / TO_LABEL}: entailment, neutral, contradiction, "
            "or non-entailment where no more is known."
        )
        return
    score(pilot, head, args, folder)


def parse_args(argv: list[str]) -> "tuple[PilotArguments, HeadArguments, PilotStageArguments]":
    """Options to arguments."""
    stage: Any = PilotStageOptions
    if not asks_for_help(argv):
        from .pilot_heads import PilotStageArguments as stage
    groups = (PilotArguments, HeadArguments, stage)
    usage = "python pilot.py --train_data train.jsonl [...] [--output_dir runs/pilot] [option ...]\n"
    usage += "       python pilot.py --unlabelled texts.jsonl [...] [--choose 200] [option ...]"
    parser = parser_of(*groups, usage=usage, description=__doc__, without=_NOT_HERE | _NOT_SHOWN)
    pilot, head, args = parser.parse_args_into_dataclasses(argv)
    return pilot, head, args


def _check(pilot: PilotArguments, head: HeadArguments, args: "PilotStageArguments", folder: Path) -> None:
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


def cli(argv: list[str] | None = None) -> int:
    """`main`, whose errors are sentences: the exit status."""
    return run(
        COMMAND,
        lambda: main(argv),
        errors=(ImportError, ValueError, OSError),
        interrupted="Interrupted. The same command begins again, with the encoder's states that are there.",
    )
