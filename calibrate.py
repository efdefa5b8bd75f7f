"""Calibrate a checkpoint: thresholds that keep a target risk, from labelled pairs.

    python calibrate.py --model CHECKPOINT --data held_out.jsonl

Its code is `modernbert_nli/calibrating/command.py`; installed, it is `modernbert-nli calibrate`.
"""

import sys

from modernbert_nli.calibrating.command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
