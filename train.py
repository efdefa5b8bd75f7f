"""Train heads of your own on a frozen base.

    python train.py --train_data train.jsonl --eval_data test.jsonl --output_dir runs/mine
    python train.py --recipe default

Its code is `modernbert_nli/training/command.py`; installed, it is `modernbert-nli train`.
"""

import sys

from modernbert_nli.training.command import cli, main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(cli())
