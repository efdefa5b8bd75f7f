"""Serve a page to try the model on: judge a pair, route a text, check an answer.

    python app.py --model CHECKPOINT

Its code is `modernbert_nli/page/command.py`.
"""

import sys

from modernbert_nli.page.command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
