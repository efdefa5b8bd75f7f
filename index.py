"""Keep the states of a corpus, and ask it which passages support or contradict a claim.

    python index.py build --index INDEX passages.jsonl
    python index.py ask --index INDEX "The bridge opened in 1932."

Its code is `modernbert_nli/indexing/command.py`; installed, it is `modernbert-nli index`.
"""

import sys

from modernbert_nli.indexing.command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
