"""One command for all that the package does: `modernbert-nli COMMAND …`, or `python -m modernbert_nli …`.

Each command is imported when it is called, so that none waits for what another needs.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from . import options


class Command(NamedTuple):
    """What runs, `module.function(argv)`, with these words before those of the user."""

    module: str
    about: str
    function: str = "main"
    before: tuple[str, ...] = ()


COMMANDS = {
    "predict": Command("prediction.command", "judge a pair of texts, or a file of pairs"),
    "check": Command("prediction.command", "check an answer against its source", before=("--check",)),
    "route": Command("prediction.route_command", "choose the category that fits a text, or none"),
    "train": Command("training.command", "train heads on a frozen base", "cli"),
    "calibrate": Command("calibrating.command", "thresholds that keep a target risk, from labelled pairs"),
    "adapt": Command("training.adapt_command", "heads for a kind of text, from some labelled pairs of it"),
    "export": Command("exporting.command", "ONNX graphs, which run without PyTorch"),
    "index": Command("indexing.command", "an index of passages, and claims judged against it"),
    "serve": Command("serving.command", "a service over HTTP"),
    "push": Command("publishing.command", "a checkpoint and its page to the Hugging Face Hub"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that is named first: its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    name, *rest = words
    if name == "--version":
        print(_installed_version())
        return 0
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        print(f"{options.CONSOLE}: error: {name!r} is no command: {known}.", file=sys.stderr)
        return 2
    options.console = True
    command = COMMANDS[name]
    module = import_module(f"{__package__}.{command.module}")
    return getattr(module, command.function)([*command.before, *rest])


def usage() -> str:
    """What there is, a line each."""
    lines = [f"  {name:<10} {command.about}" for name, command in COMMANDS.items()]
    start = f"usage: {options.CONSOLE} COMMAND [option ...]\n\n{options.CONSOLE} COMMAND --help tells more."
    return "\n".join([start, "", *lines])


def _installed_version() -> str:
    try:
        return version("modernbert-nli")
    except PackageNotFoundError:  # run from a clone
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
