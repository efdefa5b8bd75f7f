"""Train heads of your own: the NLI head, then the abstention head, on a frozen base.

    python train.py --train_data train.jsonl --eval_data test.jsonl --output_dir runs/mine
    python train.py --recipe default            ModernBERT-large on the sets of the Hub, for a GPU
    python train.py recipe.yaml --seed 2        options of your own, in a file
    python train.py --init_from checkpoints/quickstart --train_data own.jsonl    go on from trained heads

Without `--base_model` the embedded all-MiniLM-L6-v2 is used, and nothing is downloaded. The base runs once
over the data; both stages read its states from a cache. An interrupted run goes on with `--resume`.
"""

import sys
from functools import partial
from typing import TYPE_CHECKING

from ..options import run
from .arguments import DataArguments, HeadArguments, parse

if TYPE_CHECKING:
    from .trainer_arguments import StageArguments

# torch and the like are imported once the options are read: `--help` waits for none of them.

COMMAND = "train.py"


def main(argv: list[str] | None = None) -> None:
    """Run both stages and save the checkpoint with its results: see `train_heads`."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = parse_args(argv)
    from .stages import train_heads

    train_heads(*arguments, argv)


def parse_args(argv: list[str]) -> tuple[DataArguments, HeadArguments, "StageArguments"]:
    """Options to arguments: see `parse`."""
    return parse(argv, __doc__)


def cli(argv: list[str] | None = None) -> int:
    """`main`, whose errors are sentences: the exit status."""
    return run(
        COMMAND,
        partial(_alone, sys.argv[1:] if argv is None else argv),
        errors=(ValueError, OSError),
        interrupted="Interrupted. The same command with `--resume` goes on from here.",
    )


def _alone(argv: list[str]) -> None:
    arguments = parse_args(argv)
    from .stages import train_alone

    train_alone(*arguments, argv)
