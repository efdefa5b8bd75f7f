"""Publish a checkpoint on the Hub, with its page.

    python push_to_hub.py --model checkpoints/quickstart --repo_id OWNER/NAME --dry-run runs/page
    python push_to_hub.py --model checkpoints/quickstart --repo_id OWNER/NAME --tag v1

Its code is `modernbert_nli/publishing/command.py`; installed, it is `modernbert-nli push`.
"""

import sys

from modernbert_nli.publishing.command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
