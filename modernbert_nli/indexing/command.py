"""Keep the states of a corpus, and ask it: which passages support a claim, and which contradict it?

    python index.py build --index INDEX passages.jsonl more.parquet
    python index.py graph --index INDEX                              for a shortlist of the nearest passages
    python index.py ask --index INDEX "The bridge opened in 1932."
    python index.py ask --index INDEX "The bridge opened in 1932." --shortlist 1000 --json
    python index.py verify --index INDEX

Each passage is encoded once, when it is added; a claim costs one short text, and a stream of states from the
disk, whose size does not matter to the memory. `build` adds what is not yet there: it goes on after an
interruption, takes further files later, of one that has grown the new rows, and several may write at once,
each with its own `--share 0/4`, `--share 1/4` and so on. Rows that are no passages are named, and the others
added: the exit status is then 1. An index belongs to the heads that made it. What it costs: docs/scale.md.

`ask` lists what supports a claim and what contradicts it, among the latter only passages about its matter; a
judgement that is left undecided says why.
"""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..options import add_options, as_started, check_options, parser_of, pipeline_of, run

if TYPE_CHECKING:
    from .build import Built

# torch and the like are loaded by what needs them: a mistyped option is told at once.

COMMAND = "index.py"
SHOWN = 5  # refused rows that are named


def main(argv: Sequence[str] | None = None) -> int:
    """Build an index, add to it, ask it, or verify it."""
    args = parse_args(argv)
    return run(
        COMMAND,
        partial(args.run, args),
        interrupted="Interrupted: the same command continues after the shards that are whole.",
    )


def _build(args: argparse.Namespace) -> int:
    from .build import build

    pipe = pipeline_of(args)
    columns = (args.column, args.id_column)
    built = build(pipe, args.inputs, args.index, *columns, args.shard_passages, args.share)
    print(said(built, args.index))
    return 1 if built.refused else 0


def said(built: "Built", folder: Path) -> str:
    """What a run did, and what it refused."""
    from .store import PassageIndex

    lines = [f"{built.added:,} passages added, {built.known:,} were there already."]
    if built.split:
        lines.append(
            f"{built.split:,} rows are longer than the encoder reads at once: each part is a passage."
        )
    if built.left:
        lines.append(
            f"{built.left:,} passages are not in their files any more, which have changed, and stay: without "
            "them is an index that is built anew."
        )
    if refused := built.refused:
        lines += [f"{len(refused):,} rows are no passages:", *(f"  {row}" for row in refused[:SHOWN])]
    if (folder / "manifest.json").is_file():
        index = PassageIndex(folder)
        lines.append(
            f"The index has {len(index):,} passages in {len(index.shards):,} shards, {index.nbytes:,} bytes."
        )
    return "\n".join(lines)


def _graph(args: argparse.Namespace) -> int:
    from .search import write_graph
    from .store import PassageIndex

    print(f"Written: {write_graph(PassageIndex(args.index))}")
    return 0


def _ask(args: argparse.Namespace) -> int:
    from .search import ask
    from .store import PassageIndex

    index = PassageIndex(args.index)
    pipe = pipeline_of(args)
    found = ask(pipe, index, args.claim, args.top, args.shortlist)
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    for name, label in (("supporting", "entailment"), ("contradicting", "contradiction")):
        print(f"{name}:")
        for passage in found[name]:
            undecided = f"  (undecided: {passage['reason']})" if passage["abstain"] else ""
            print(f"  {passage['probs'][label]:.3f}  {passage['id']}  {passage['text']}{undecided}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from .store import PassageIndex

    index = PassageIndex(args.index)
    problems = index.problems()
    print("\n".join(problems) or f"{len(index):,} passages in {len(index.shards):,} shards, all as written.")
    return 1 if problems else 0


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(COMMAND, None, __doc__, prog=as_started(f"python {COMMAND}"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    model = argparse.ArgumentParser(add_help=False)
    add_options(model.add_argument, "model", "base", "revision", "device")
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument("--index", type=Path, required=True, help="folder of the index")

    add = commands.add_parser("build", parents=[place, model], help="add files of passages")
    add.add_argument("inputs", nargs="+", type=Path, metavar="FILE", help="JSONL, CSV or Parquet")
    add.add_argument("--column", default="text", help="what holds the text (default: %(default)s)")
    add.add_argument("--id_column", help="what names it (default: file and row)")
    add.add_argument("--shard_passages", type=_positive, default=8192, help="default: %(default)s")
    add.add_argument("--share", type=_share, default=(0, 1), metavar="I/N", help="this writer of N, from 0")
    add.set_defaults(run=_build)
    graph = commands.add_parser("graph", parents=[place], help="a graph of nearest passages (faiss)")
    graph.set_defaults(run=_graph)
    question = commands.add_parser("ask", parents=[place, model], help="judge a claim")
    question.add_argument("claim")
    question.add_argument("--top", type=_positive, default=5, help="passages to show (default: %(default)s)")
    question.add_argument("--shortlist", type=_positive, help="judge the nearest alone (default: all)")
    question.add_argument("--json", action="store_true")
    question.set_defaults(run=_ask)
    check = commands.add_parser("verify", parents=[place], help="compare all files with their digests")
    check.set_defaults(run=_verify)
    args = parser.parse_args(argv)
    check_options(parser, args)
    return args


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def _share(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 0 to N - 1")
    return int(index), int(count)
