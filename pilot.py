"""Score training data before it is learnt from.

    python pilot.py --train_data a.jsonl b.jsonl --output_dir runs/pilot

Its code is `modernbert_nli/training/pilot_command.py`.
"""

import sys

from modernbert_nli.training.pilot_command import cli, main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(cli())
