"""Serve a checkpoint over HTTP: pairs, routes and checks.

    python serve.py --model CHECKPOINT --host 0.0.0.0 --port 8000

Its code is `modernbert_nli/serving/command.py`; installed, it is `modernbert-nli serve`.
"""

import sys

from modernbert_nli.serving.command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
