"""Choose the category that fits a text, or say why none does.

    modernbert-nli route --categories categories.json "Where is my parcel?"
    modernbert-nli route --categories categories.json --json "Where is my parcel?" "Do you like jazz?"

The file holds a hypothesis by category, such as {"delivery": "This is about a delivery."}, or a list of
names. With `--json` the result on each text is a line of JSON.
"""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..files import InputError
from ..options import CONSOLE, add_options, check_options, parser_of, pipeline_of, run

# torch and the like are loaded by what needs them: a mistyped option is told at once.

COMMAND = f"{CONSOLE} route"


def main(argv: Sequence[str] | None = None) -> int:
    """Route texts of the command line."""
    return run(COMMAND, partial(_route, parse_args(argv)))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    usage = f"{COMMAND} --categories FILE TEXT [TEXT ...] [option ...]"
    parser = parser_of(COMMAND, usage, __doc__)
    add = parser.add_argument
    add("texts", nargs="+", metavar="TEXT", help="what is routed")
    add("--categories", type=Path, required=True, metavar="FILE", help="JSON file of the categories")
    add("--threshold", type=float, help="decline from this uncertainty upwards (default: the checkpoint's)")
    add("--target_risk", type=float, help="share of wrong routes that a calibrated checkpoint is to keep")
    add("--json", action="store_true", help="print each result as a JSON object")
    add_options(add, "model", "base", "revision", "device", "backend")
    args = parser.parse_args(argv)
    check_options(parser, args)
    if args.target_risk is not None and args.threshold is not None:
        parser.error("give --threshold or --target_risk, not both")
    return args


def _route(args: argparse.Namespace) -> None:
    categories = read_categories(args.categories)
    chosen = {"threshold": args.threshold, "target_risk": args.target_risk}
    for result in pipeline_of(args).route(args.texts, categories, **chosen):
        print(json.dumps(result, ensure_ascii=False) if args.json else said(result))


def read_categories(path: Path) -> Any:
    """Hypotheses by category, or names, from a file of JSON; an `InputError` where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON file of categories: {error}") from error


def said(result: dict[str, Any]) -> str:
    """A route for a reader."""
    if result["category"] is None:
        return f"none: {result['reason']}"
    return f"{result['category']}, confidence {result['confidence']:.1%}"
