"""Judge pairs of texts: one on the command line, or a file of them.

    python predict.py "A man is playing guitar on stage." "A person is making music."
    python predict.py --input pairs.jsonl --output decisions.parquet

Its code is `modernbert_nli/prediction/command.py`; installed, it is `modernbert-nli predict`.
"""

import sys

from modernbert_nli.loading import load_pipeline
from modernbert_nli.prediction.command import main

__all__ = ["load_pipeline", "main"]

if __name__ == "__main__":
    sys.exit(main())
