"""Adapt a checkpoint to a kind of text, from some 50 to 1,000 labelled examples of it.

    modernbert-nli adapt --data labelled.jsonl --output mine
    modernbert-nli adapt --data labelled.csv --output mine --target_risk 0.05
    modernbert-nli adapt --routes labelled.jsonl --categories categories.json --output mine

DATA is what `train.py` reads: JSONL, CSV or Parquet files, or Hub datasets, with premise, hypothesis and
label. The heads of all encodings are adapted and calibrated for such pairs; where that does not pay, the new
checkpoint has the heads of the old one, and says so.

With `--routes` the decision of `route` is fitted instead, and calibrated for these categories. A row of that
file is {"text": …, "label": …}, the label null, "none" or "oos" meaning that nothing fits; the other file
holds a hypothesis by category, or a list of names.

The checkpoint that is adapted stays as it is: the new one goes to the folder OUTPUT. No remote code is run.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..files import folder_aside, require_new
from ..options import CONSOLE, add_options, check_options, parser_of, pipeline_of, run

# torch and the like are loaded by what needs them: a mistyped option is told at once.

COMMAND = f"{CONSOLE} adapt"


def main(argv: Sequence[str] | None = None) -> int:
    """Adapt, write, and say what came of it."""
    return run(COMMAND, partial(_adapt, parse_args(argv)))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    usage = f"{COMMAND} --data FILE [FILE ...] --output FOLDER [option ...]"
    parser = parser_of(COMMAND, usage, __doc__)
    add = parser.add_argument_group("what is learnt from").add_argument
    add("--data", nargs="+", help="labelled pairs, as for train.py")
    add("--routes", type=Path, help="file of labelled texts: adapts routes instead of pairs")
    add("--categories", type=Path, help="JSON file of their categories")
    add("--target_risk", type=float, default=0.1, help="share of wrong answers (default: %(default)s)")
    add("--seed", type=int, default=0, help="of what is drawn at random (default: %(default)s)")
    add = parser.add_argument_group("the checkpoint, and where the new one goes").add_argument
    add_options(add, "model", "base", "revision", "device")
    add("--output", type=Path, required=True, metavar="FOLDER", help="new folder for the adapted checkpoint")
    args = parser.parse_args(argv)
    check_options(parser, args)
    if bool(args.data) == bool(args.routes) or bool(args.routes) != bool(args.categories):
        parser.error("give --data for pairs, or --routes and --categories for routes")
    if not 0 < args.target_risk < 1:
        parser.error(f"--target_risk lies between 0 and 1, not {args.target_risk}")
    return args


def _adapt(args: argparse.Namespace) -> None:
    require_new(args.output)
    if args.routes:
        from ..calibrating.command import load_routes

        texts, labels, categories = load_routes(args.routes, args.categories)
        adapted = pipeline_of(args).adapt_routes(texts, labels, categories, args.target_risk, args.seed)
        message = said_of_routes(adapted.model.config.adaptation["routes"])
    else:
        pairs, labels = _labelled(args.data)
        adapted = pipeline_of(args).adapt(pairs, labels, args.target_risk, args.seed)
        message = adapted.model.config.adaptation["message"]
    with folder_aside(args.output) as aside:
        adapted.save_pretrained(aside)
    print(f"{message}\n{args.output}: the adapted checkpoint.")


def said_of_routes(report: dict[str, Any]) -> str:
    """What is known of adapted routes, in sentences."""
    more, risk = report["more_texts"], f"{report['target_risk']:.1%}"
    fitted = "" if report["fitted"] else ", so that the weights of before are kept"
    kept = f"A risk of {risk} is guaranteed." if more == 0 else f"A risk of {risk} is not guaranteed"
    if more:
        kept += f": that takes some {more:,} texts more."
    elif more is None:
        kept += ", and nothing in these texts suggests that it could be."
    return (
        f"Of {report['texts']:,} texts {report['before']:.1%} were routed rightly before, "
        f"{report['after']:.1%} after{fitted}. {kept}"
    )


def _labelled(sources: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Pairs of all sources together, and their labels by name."""
    from ..configuration_modernbert_nli import LABELS
    from ..training.data import load_pairs

    pairs: list[tuple[str, str]] = []
    labels: list[str] = []
    for source in sources:
        loaded = load_pairs(source)
        pairs += zip(loaded.premises, loaded.hypotheses, strict=True)
        labels += [LABELS[label] if label < len(LABELS) else "non-entailment" for label in loaded.labels]
    return pairs, labels
