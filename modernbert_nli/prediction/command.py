"""Judge pairs of texts: one on the command line, or a file of them.

    python predict.py "A man is playing guitar on stage." "A person is making music."
    python predict.py --json "It rained all day." "The streets are dry."
    python predict.py --input pairs.jsonl --output decisions.parquet
    python predict.py --model CHECKPOINT --base BASE --input pairs.csv --output decisions.csv --threshold 0.3
    python predict.py --model CALIBRATED --input pairs.csv --output decisions.csv --target_risk 0.05
    python predict.py --check "The bridge opened in 1932. It is red." "It opened in 1932."
    python predict.py --check --input answers.jsonl --output verdicts.jsonl

Without `--model`, the checkpoint of this repository is used, nothing downloaded; no remote code is ever run.
Files are JSONL (.jsonl, .json), CSV (.csv: commas, header, UTF-8) or Parquet (.parquet), in any combination.
The output has all rows and columns of the input, in order, and for each row

    label, confidence       the most probable label and its probability
    abstain, uncertainty    whether to leave the pair undecided: where the uncertainty reaches the threshold
    p_entailment, p_neutral, p_contradiction
    reason                  why it abstains: too uncertain, or one of those that docs/abstention.md lists
    rule                    verbatim, where the premise says the hypothesis word for word
    truncated               whether the end of the premise was beyond the window, and not read
    error                   why the pair could not be judged; all of the above are then null

With `--check`, answers of one sentence or more are checked against sources however long (`check` of the
pipeline), from the columns `answer` and `source`: a text, a list of passages, or passages by name (in CSV as
JSON: ["…", "…"]); for each row

    verdict, confidence     supported, contradicted, not supported or uncertain; how probably that is so
    abstain, uncertainty    whether to leave it undecided
    support                 the probability that the source supports the answer
    read                    the share of the source that was read: 1
    sentences               verdict, evidence and unsupported words of each sentence, as JSON
    error                   why the row could not be checked

Where the input has a column of that name, ours is called `predicted_…`. A line that is no row (broken JSON,
a wrong number of CSV fields) goes to a column `raw`. From JSONL to CSV or Parquet, lists, objects and columns
of mixed types become JSON text; bytes that are not UTF-8 become the text `\\udc…`.

Results are collected in OUTPUT.partial, and the same command continues after an interruption. `--device` and,
of one process, `--batch_size` may then differ: they change no more than the rounding. A file may be larger
than memory, and several processes may share it, on GPUs or on CPUs, each row being judged once:

    torchrun --nproc_per_node 2 predict.py --input pairs.parquet --output decisions.parquet

Many files, on one machine or on many, are for Ray: INPUT is then a folder or a pattern, here or on an object
store, and OUTPUT a folder, which gets one of Parquet files for each file. Those that are whole are not made
again.

    python predict.py --engine ray --input 'pairs/*.parquet' --output decisions --address auto
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from ..files import InputError
from ..options import add_options, check_options, parser_of, pipeline_of, run
from .pair_files import check_output, open_table
from .processes import processes
from .rows import CHECK, FIRST_ROWS, JUDGE, judge_file

if TYPE_CHECKING:
    from ..pipeline_modernbert_nli import NliAbstentionPipeline

# transformers and torch are imported by the functions that need them: a mistyped option is told at once.

COMMAND = "predict.py"


def main(argv: Sequence[str] | None = None) -> int:
    """Judge a pair, or files of pairs."""
    args = parse_args(argv)
    work = _by_ray if args.engine == "ray" else _file if args.input else _pair
    return run(COMMAND, partial(work, args), errors=(InputError, OSError, pa.ArrowException))


def _pair(args: argparse.Namespace) -> None:
    pipe = pipeline_of(args)
    show = check_pair if args.check else judge_pair
    print(show(pipe, args.premise, args.hypothesis, _threshold(pipe, args), args.json))


def _file(args: argparse.Namespace) -> None:
    check_output(args.input, args.output, args.overwrite)
    columns = (args.premise_column, args.hypothesis_column)
    table = open_table(args.input, columns)
    with processes() as those:
        args.device = args.device or those.device
        pipe = pipeline_of(args)
        summary = judge_file(
            pipe,
            table,
            args.output,
            *columns,
            _threshold(pipe, args),
            args.batch_size,
            args.overwrite,
            processes=those,
            work=CHECK if args.check else JUDGE,
        )
    if summary is None:  # the first process tells
        return
    text = f"{args.output}: {summary.rows} rows, {summary.abstained} abstained"
    if summary.not_judged:
        rows = ", ".join(map(str, summary.first_not_judged)) + ", …" * (summary.not_judged > FIRST_ROWS)
        text += f", {summary.not_judged} could not be judged (row {rows}): the column 'error' says why"
    print(f"{text}.", file=sys.stderr)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    usage = 'python predict.py "PREMISE" "HYPOTHESIS" [option ...]\n'
    usage += "       python predict.py --input pairs.csv --output decisions.jsonl [option ...]"
    parser = parser_of(COMMAND, usage, __doc__)
    add = parser.add_argument_group("what is judged").add_argument
    add("premise", nargs="?", help="what is known")
    add("hypothesis", nargs="?", help="what is to be judged")
    add("--input", help="file of pairs: .jsonl, .csv or .parquet; for Ray a folder or a pattern")
    add("--output", help="file for the decisions: .jsonl, .csv or .parquet; for Ray a folder")
    add("--check", action="store_true", help="check an answer against a whole source")
    add("--premise_column", metavar="NAME", help="default: premise; with --check: source")
    add("--hypothesis_column", metavar="NAME", help="default: hypothesis; with --check: answer")
    add("--overwrite", action="store_true", help="replace an existing OUTPUT")
    add("--json", action="store_true", help="print the decision on a pair as a JSON object")
    add = parser.add_argument_group("which answers are given").add_argument
    add("--threshold", type=float, help="abstain from this uncertainty upwards (default: the checkpoint's)")
    add("--target_risk", type=float, help="share of wrong answers that a calibrated checkpoint is to keep")
    add(
        "--like",
        metavar="NAME",
        help="what that is guaranteed for: pairs like those of 'calibration', or of a group of these "
        "(default: text of a kind never seen, where the checkpoint guarantees anything for that)",
    )
    add = parser.add_argument_group("the checkpoint, and how it is run").add_argument
    add_options(add, "model", "base", "revision", "batch_size", "device", "backend")
    add = parser.add_argument_group("a cluster").add_argument
    add("--engine", choices=["ray"], help="who shares out the work (default: this process, or torchrun)")
    add("--address", help="of a Ray cluster, such as auto (default: Ray is started here)")
    add("--workers", type=int, help="how many hold a model (default: as many as there is room for)")
    add("--gpus", type=float, default=0, help="of each worker (default: %(default)s)")
    args = parser.parse_args(argv)
    args.premise_column = args.premise_column or ("source" if args.check else "premise")
    args.hypothesis_column = args.hypothesis_column or ("answer" if args.check else "hypothesis")
    texts, files = (args.premise, args.hypothesis), (args.input, args.output)
    if (None in texts or files != (None, None)) and (None in files or texts != (None, None)):
        parser.error('give either "PREMISE" "HYPOTHESIS", or --input FILE --output FILE')
    if args.json and args.input:
        parser.error("--json is for a single pair; for a file, let the name of --output end in .jsonl")
    if args.engine is None:
        if args.address or args.workers or args.gpus:
            parser.error("--address, --workers and --gpus go with --engine ray")
        args.input, args.output = (path and Path(path) for path in (args.input, args.output))
    elif not args.input or args.target_risk is not None or args.backend:
        parser.error(
            "--engine ray takes --input and --output, no --target_risk (but --threshold), no --backend"
        )
    check_options(parser, args)
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        parser.error(f"--threshold is an uncertainty between 0 and 1, not {args.threshold}")
    if args.target_risk is not None and args.threshold is not None:
        parser.error("give --threshold or --target_risk, not both")
    if args.like is not None and args.target_risk is None:
        parser.error("--like goes with --target_risk")
    return args


def _by_ray(args: argparse.Namespace) -> None:
    from .ray_engine import judge_files

    options = {
        name: getattr(args, name)
        for name in (
            *("model", "base", "revision", "device", "threshold", "batch_size"),
            *("premise_column", "hypothesis_column"),
        )
    }
    options["work"] = "check" if args.check else "judge"
    where = (args.address, args.workers, args.gpus)
    judged, known = judge_files(args.input, args.output, *where, **options)
    more = f", {len(known)} had been" if known else ""
    print(f"{len(judged)} files judged{more}; the decisions are in {args.output}.", file=sys.stderr)


def _threshold(pipe: "NliAbstentionPipeline", args: argparse.Namespace) -> float | None:
    try:
        if args.target_risk is None:
            return args.threshold
        return pipe.threshold_for(args.target_risk, like=args.like)
    except ValueError as error:
        raise InputError(str(error)) from None


def judge_pair(
    pipe: "NliAbstentionPipeline", premise: str, hypothesis: str, threshold: float | None, as_json: bool
) -> str:
    """The decision on one pair, for a reader or as JSON."""
    from ..tokenization import PairError

    try:
        decision = pipe(premise, hypothesis, threshold=threshold)
    except PairError as error:
        raise InputError(error.reason) from None
    if as_json:
        return json.dumps(decision)
    abstains = decision["abstain"]
    lines = [
        f"{decision['label']}, confidence {decision['confidence']:.1%}",
        f"abstains, {decision['reason']}: treat this pair as undecided"
        if abstains
        else "decides: does not abstain" + ", the premise says it word for word" * ("rule" in decision),
        f"uncertainty {decision['uncertainty']:.3f}, {'not ' * abstains}below the threshold of "
        f"{pipe.threshold if threshold is None else threshold:.3g}",
    ]
    for label, probability in decision["probs"].items():
        lines.append(f"  {label:<13} {probability:6.1%}  {'#' * round(40 * probability)}".rstrip())
    if decision.get("truncated"):
        lines.append("the end of the premise was beyond the window and not read: --check reads all of it")
    return "\n".join(lines)


def check_pair(
    pipe: "NliAbstentionPipeline", source: str, answer: str, threshold: float | None, as_json: bool
) -> str:
    """The verdict on an answer, for a reader or as JSON."""
    from ..tokenization import PairError

    try:
        result = pipe.check(answer, source, threshold=threshold)
    except PairError as error:
        raise InputError(error.reason) from None
    if as_json:
        return json.dumps(result)
    sure = "" if result["confidence"] is None else f", confidence {result['confidence']:.1%}"
    lines = [f"{result['verdict']}{sure}"]
    for sentence in result["sentences"]:
        if sentence["verdict"] is None:
            lines.append(f"  {sentence['kind']:<13}         {sentence['text']}")
            continue
        lines.append(f"  {sentence['verdict']:<13} {sentence['confidence']:6.1%}  {sentence['text']}")
        lines.append(f"    evidence: {sentence['evidence'][0]['text']}")
        if sentence["unsupported"]:
            lines.append("    not covered: " + " / ".join(span["text"] for span in sentence["unsupported"]))
    return "\n".join(lines)
