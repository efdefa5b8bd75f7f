"""A page to try the model on: judge a pair, route a text, check an answer; it may decline to answer.

    python app.py
    python app.py --model CHECKPOINT --base BASE

The default is the checkpoint of this repository on its embedded base; nothing comes from the Hub. The page is
served at http://127.0.0.1:7860, or the next port that is free; the variables GRADIO_SERVER_NAME and
GRADIO_SERVER_PORT say otherwise. It fetches nothing from other hosts, and nobody is told of its use.
"""

import argparse
import os
from collections.abc import Sequence

os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")  # both are read on import

from ..files import InputError
from ..options import add_options, check_options, parser_of, pipeline_of, run

# Gradio and torch are imported once the options are read: `--help` waits for neither.

COMMAND = "app.py"


def main(argv: Sequence[str] | None = None) -> int:
    """Load, then serve until interrupted."""
    args = parse_args(argv)
    from .view import serve

    # an OSError where no port is free
    return run(COMMAND, lambda: serve(pipeline_of(args)), errors=(InputError, OSError))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    usage = "python app.py [--model CHECKPOINT]"
    parser = parser_of(COMMAND, usage, __doc__)
    add = parser.add_argument
    add_options(add, "model", "base", "revision")
    args = parser.parse_args(argv)
    check_options(parser, args)
    return args
