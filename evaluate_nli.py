"""Evaluate NLI models on sets of labelled pairs: tables, pictures, and all figures as JSON.

    python evaluate_nli.py --models checkpoints/quickstart --sets test.jsonl --output_dir runs/evaluation

Its code is `modernbert_nli/evaluation/command.py`.
"""

import sys

from modernbert_nli.evaluation.command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
