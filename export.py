"""Export a checkpoint as ONNX graphs, which run without PyTorch and make the same decisions.

    python export.py --model checkpoints/quickstart --output runs/exported --int8

Its code is `modernbert_nli/exporting/command.py`; installed, it is `modernbert-nli export`.
"""

import sys

from modernbert_nli.exporting.command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
