"""What the commands have in common: their parsers, the options that name a checkpoint, and how they end."""

import argparse
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from .loading import load_pipeline

CONSOLE = "modernbert-nli"
console = False  # whether this process was started by that name

# The command of the console script that does what a file at the top level of the repository does.
SUBCOMMANDS = {
    "calibrate.py": "calibrate",
    "export.py": "export",
    "index.py": "index",
    "predict.py": "predict",
    "push_to_hub.py": "push",
    "serve.py": "serve",
    "train.py": "train",
}
BATCH_SIZE = 32
BACKENDS = ("torch", "onnx", "onnx-int8", "openvino")
_OPTIONS: dict[str, dict[str, Any]] = {
    "model": {"help": "checkpoint: folder or repository id (default: the one that comes with this package)"},
    "base": {"help": "folder or repository id to take the checkpoint's base encoder from"},
    "revision": {"help": "commit or branch of the checkpoint's repository"},
    "device": {"help": "such as cpu or cuda:1 (default: an accelerator if there is one)"},
    "batch_size": {"type": int, "default": BATCH_SIZE, "help": "default: %(default)s"},
    "backend": {
        "choices": BACKENDS,
        "help": "what runs the base: of the last three the graphs that export.py wrote (default: torch)",
    },
}
_LOADING = ("model", "base", "revision", "device", "backend")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """The help of an option names commands as they are had, too."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return as_started(action.help or "") or None


def parser_of(file: str, usage: str | None, description: str | None, **more: Any) -> argparse.ArgumentParser:
    """The parser of a command.

    Args:
        file (`str`): Its file at the top level, such as `"predict.py"`.
        usage, description (`str`): What `--help` begins with, in terms of that file.
    """
    return argparse.ArgumentParser(
        usage=as_started(usage or "") or None,
        description=as_started(description or ""),
        formatter_class=_Formatter,
        allow_abbrev=False,
        **{"prog": program(file), **more},
    )


def add_options(add: Callable[..., Any], *names: str, required: bool = False) -> None:
    """Add options of the checkpoint by name: `"model"`, which may be `required`, `"base"`, and so on."""
    for name in names:
        needed = {"required": True, "help": "checkpoint: folder or repository id"}
        add(f"--{name}", **(needed if required and name == "model" else _OPTIONS[name]))


def check_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Tell of options of the checkpoint that cannot be meant."""
    if getattr(args, "revision", None) and not args.model:
        parser.error("--revision goes with --model, a repository id")
    if getattr(args, "batch_size", 1) < 1:
        parser.error(f"--batch_size must be at least 1, not {args.batch_size}")


def pipeline_of(args: argparse.Namespace) -> Any:
    """The pipeline of the checkpoint that options name.

    Raises:
        InputError: it cannot be loaded.
    """
    return load_pipeline(**{name: getattr(args, name) for name in _LOADING if hasattr(args, name)})


def run(
    file: str,
    work: Callable[[], int | None],
    *,
    errors: tuple[type[BaseException], ...] = (OSError, ValueError, ImportError),
    interrupted: str | None = None,
) -> int:
    """Do the work of a command: its exit status. What went wrong is said in a line, without a traceback.

    Args:
        file (`str`): The file of the command at the top level.
        work: Returns an exit status, or `None` for success.
        errors: What the user can put right.
        interrupted (`str`, *optional*): What is said where the user stopped it.
    """
    try:
        return work() or 0
    except BrokenPipeError:  # whoever reads has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except errors as error:
        print(f"{program(file)}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if interrupted:
            print(f"\n{interrupted}", file=sys.stderr)
        return 130


def program(file: str) -> str:
    """The name of a command as it was started."""
    return f"{CONSOLE} {SUBCOMMANDS[file]}" if console and file in SUBCOMMANDS else file


def as_started(text: str) -> str:
    """A text with commands in it, `python predict.py`, as they are had where this one was started."""
    if not console:
        return text
    names = "|".join(map(re.escape, SUBCOMMANDS))
    text = re.sub(
        rf"(torchrun (?:--\w+ \S+ )*)({names})",
        lambda found: f"{found[1]}-m modernbert_nli {SUBCOMMANDS[found[2]]}",
        text,
    )
    return re.sub(
        rf"(?:python )?(?<![\w/])({names})\b", lambda found: f"{CONSOLE} {SUBCOMMANDS[found[1]]}", text
    )
