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
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from tqdm import tqdm

from prediction.pair_files import (
    WRITERS,
    InputError,
    Table,
    check_output,
    file_state,
    free_name,
    json_line,
    open_table,
)
from prediction.shares import Processes, Shares, processes

# transformers and torch are imported by the functions that need them: a mistyped option is told at once.

BATCH_SIZE = 32
BATCHES_PER_CHUNK = 8  # sorted by length, judged and stored together: what an interruption costs at most
FIRST_ROWS = 5  # of those that could not be judged, named in the summary


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        if args.input is None:
            pipe = load_pipeline(args.model, args.base, args.revision, args.device, args.backend)
            args.threshold = _threshold(pipe, args)
            show = check_pair if args.check else judge_pair
            print(show(pipe, args.premise, args.hypothesis, args.threshold, args.json))
            return 0
        columns = (args.premise_column, args.hypothesis_column)
        if args.engine == "ray":
            return _by_ray(args, columns)
        check_output(args.input, args.output, args.overwrite)
        table = open_table(args.input, columns)
        with processes() as those:
            device = args.device or those.device
            pipe = load_pipeline(args.model, args.base, args.revision, device, args.backend)
            args.threshold = _threshold(pipe, args)
            options = (args.threshold, args.batch_size, args.overwrite)
            work = CHECK if args.check else JUDGE
            summary = judge_file(pipe, table, args.output, *columns, *options, processes=those, work=work)
        if summary is None:  # the first process tells
            return 0
        text = f"{args.output}: {summary.rows} rows, {summary.abstained} abstained"
        if summary.not_judged:
            rows = ", ".join(map(str, summary.first_not_judged)) + ", …" * (summary.not_judged > FIRST_ROWS)
            text += f", {summary.not_judged} could not be judged (row {rows}): the column 'error' says why"
        print(f"{text}.", file=sys.stderr)
        return 0
    except (InputError, OSError, pa.ArrowException) as error:
        print(f"predict.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        usage='python predict.py "PREMISE" "HYPOTHESIS" [option ...]\n'
        "       python predict.py --input pairs.csv --output decisions.jsonl [option ...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
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
        help="what that is promised for: pairs like those of 'calibration', or of a group of these "
        "(default: text of a kind never seen, where the checkpoint promises anything for that)",
    )
    add = parser.add_argument_group("the checkpoint, and how it is run").add_argument
    add("--model", help="checkpoint: folder or repository id (default: the one in this repository)")
    add("--base", help="folder or repository id to take the checkpoint's base encoder from")
    add("--revision", help="commit or branch of the checkpoint's repository")
    add("--batch_size", type=int, default=BATCH_SIZE, help="default: %(default)s")
    add("--device", help="such as cpu or cuda:1 (default: an accelerator if there is one)")
    add(
        "--backend",
        choices=("torch", "onnx", "onnx-int8", "openvino"),
        help="what runs the base: of the last three the graphs that export.py wrote (default: torch)",
    )
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
    if args.revision and not args.model:
        parser.error("--revision goes with --model, a repository id")
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        parser.error(f"--threshold is an uncertainty between 0 and 1, not {args.threshold}")
    if args.target_risk is not None and args.threshold is not None:
        parser.error("give --threshold or --target_risk, not both")
    if args.like is not None and args.target_risk is None:
        parser.error("--like goes with --target_risk")
    if args.batch_size < 1:
        parser.error(f"--batch_size must be at least 1, not {args.batch_size}")
    return args


def load_pipeline(
    model: str | None = None,
    base: str | None = None,
    revision: str | None = None,
    device: str | None = None,
    backend: Any = None,
) -> Any:
    """The pipeline of a checkpoint (by default that of this repository), with this repository's classes.

    Args:
        model, base, revision, device, backend (`str`, *optional*): As on the command line.

    Raises:
        InputError: it cannot be loaded.
    """
    from transformers.utils.logging import disable_progress_bar

    import modernbert_nli
    from modernbert_nli import embedded

    disable_progress_bar()
    if model is None and not embedded.CHECKPOINT.is_dir():
        raise InputError(f"There is no checkpoint in {embedded.CHECKPOINT}: name one by --model.")
    model = str(embedded.CHECKPOINT) if model is None else model
    try:
        return modernbert_nli.load(model, base=base, revision=revision, backend=backend, device=device)
    # an AssertionError for an unknown device, an ImportError for a backend that is not installed
    except (OSError, ValueError, RuntimeError, AssertionError, ImportError) as error:
        raise InputError(f"The model {model!r} could not be loaded: {error}") from error


def _by_ray(args: argparse.Namespace, columns: tuple[str, str]) -> int:
    from prediction.ray_engine import judge_files

    options = {
        **{name: getattr(args, name) for name in ("model", "base", "revision", "threshold", "batch_size")},
        **dict(zip(("premise_column", "hypothesis_column"), columns, strict=True)),
        "work": "check" if args.check else "judge",
        "device": args.device,
    }
    where = (args.address, args.workers, args.gpus)
    judged, known = judge_files(args.input, args.output, *where, **options)
    more = f", {len(known)} had been" if known else ""
    print(f"{len(judged)} files judged{more}; the decisions are in {args.output}.", file=sys.stderr)
    return 0


def _threshold(pipe: Any, args: argparse.Namespace) -> float | None:
    try:
        if args.target_risk is None:
            return args.threshold
        return pipe.threshold_for(args.target_risk, like=args.like)
    except ValueError as error:
        raise InputError(str(error)) from None


def judge_pair(pipe: Any, premise: str, hypothesis: str, threshold: float | None, as_json: bool) -> str:
    """The decision on one pair, for a reader or as JSON."""
    from modernbert_nli.tokenization import PairError

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


def _flat(decision: dict[str, Any]) -> dict[str, Any]:
    probabilities = {f"p_{label}": value for label, value in decision["probs"].items()}
    whole = {"rule": None, "truncated": False}  # unless the decision says otherwise
    return {**whole, **{key: value for key, value in decision.items() if key != "probs"}, **probabilities}


class Summary(NamedTuple):
    rows: int
    abstained: int
    not_judged: int
    first_not_judged: list[int]  # counted from 1, as in the input


def judge_file(
    pipe: Any,
    input: str | Path | Table,
    output: str | Path,
    premise_column: str = "premise",
    hypothesis_column: str = "hypothesis",
    threshold: float | None = None,
    batch_size: int = BATCH_SIZE,
    overwrite: bool = False,
    processes: Processes | None = None,
    work: "Work | None" = None,
) -> Summary | None:
    """Judge a file of pairs into another, continuing an interrupted run where there is one.

    Args:
        pipe (`NliAbstentionPipeline`): See `load_pipeline`.
        input, output (`str` or `Path`): Files, see above. The input may be what `open_table` returned.
        threshold (`float`, *optional*): Abstain from this uncertainty upwards; defaults to the pipeline's.
        overwrite (`bool`, *optional*): Replace an existing output, and an interrupted run of other settings.
        processes (`Processes`, *optional*): Who shares the rows; the first one writes the output.
        work (`Work`, *optional*): What is done with a row; defaults to judging it as a pair.

    Returns:
        `Summary`, or `None` to all processes but the first.

    Raises:
        InputError: a file that cannot be read, or that must not be written.
    """
    output = Path(output)
    if not isinstance(input, Table):
        check_output(Path(input), output, overwrite)
        input = open_table(Path(input), (premise_column, hypothesis_column))
    table, processes, work = input, processes or Processes(), work or JUDGE
    shares = Shares(output, table.total, batch_size * BATCHES_PER_CHUNK, processes)
    settings = {
        "model": _fingerprint(pipe.model),
        "threshold": pipe.threshold if threshold is None else threshold,
        "encoding": pipe.encoding,
        "work": work.name,
        "premise_column": premise_column,
        "hypothesis_column": hypothesis_column,
        "input": str(table.path.resolve()),
        "size and time of the input": table.state,
    }
    if processes.count > 1:  # whose rows are whose
        settings["rows of a chunk"] = shares.chunk_rows
    done = shares.resume(settings, overwrite)
    if done:
        print(f"{shares.own}: continuing after {done} of {shares.own_rows} rows.", file=sys.stderr)

    # Chunks are counted from the first row, so that a row meets the same neighbours after an interruption,
    # and whoever else shares the work.
    rows = table.rows([premise_column, hypothesis_column])
    hidden = None if processes.main else True  # None: where there is no terminal
    bar = tqdm(total=shares.own_rows, initial=done, unit="row", disable=hidden)
    try:
        with bar, shares.own.open("ab") as file:
            for chunk in shares.own_chunks(rows, done):
                pairs = [(values.get(premise_column), values.get(hypothesis_column)) for values, _ in chunk]
                if work is CHECK and table.path.suffix.lower() == ".csv":
                    pairs = [(_passages(source), answer) for source, answer in pairs]
                problems = [problem for _, problem in chunk]
                pipe.texts.clear()  # or a row's rounding would depend on where the run was interrupted
                results = work.do(pipe, pairs, problems, threshold=threshold, batch_size=batch_size)
                file.write(b"".join(map(json_line, results)))
                file.flush()
                done += len(chunk)
                bar.update(len(chunk))
        if file_state(table.path) != table.state:
            raise InputError(f"{table.path} was changed meanwhile: delete {shares.own} and run this again.")
        processes.wait()
        return _finish(table, shares, output, work.columns(pipe)) if processes.main else None
    except KeyboardInterrupt:
        if processes.main:
            at = f"{done} of {shares.own_rows} rows are done"
            print(f"\nInterrupted: {at}. The same command continues after them.", file=sys.stderr)
        raise


def judge_pairs(
    pipe: Any, pairs: Sequence[tuple[Any, Any]], problems: Sequence[str | None], **options: Any
) -> list[dict[str, Any]]:
    """The decision on each pair, or the `error` that stands in its way. Some `problems` are known already."""
    from modernbert_nli.tokenization import PairError

    def judge() -> Iterator[dict[str, Any]]:
        good = [pair for pair, problem in zip(pairs, problems, strict=True) if problem is None]
        return iter(pipe(good, **options))

    def why_not(pair: tuple[Any, Any]) -> str | None:
        try:
            pipe.preprocess([pair], encoding=pipe.encoding)
        except PairError as error:
            return error.reason
        return None

    try:
        decisions = judge()
    except PairError:  # the first of perhaps many: each is looked at by itself
        problems = [problem or why_not(pair) for pair, problem in zip(pairs, problems, strict=True)]
        decisions = judge()
    return [{"error": text} if text else {**_flat(next(decisions)), "error": None} for text in problems]


def _fingerprint(model: Any) -> str:
    """Of all that decides on the results: the configuration and every weight, or graph, of the base too."""
    config = {key: value for key, value in model.config.to_dict().items() if key != "_name_or_path"}
    config["calibration"] = model.config.calibration  # which is stored beside the others
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(getattr(model.encoder, "digest", str)().encode())  # of graphs
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.float().cpu().contiguous().numpy())
    return digest.hexdigest()


def check_pair(pipe: Any, source: str, answer: str, threshold: float | None, as_json: bool) -> str:
    """The verdict on an answer, for a reader or as JSON."""
    from modernbert_nli.tokenization import PairError

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


def check_rows(
    pipe: Any,
    pairs: Sequence[tuple[Any, Any]],
    problems: Sequence[str | None],
    threshold: float | None = None,
    batch_size: int = BATCH_SIZE,
) -> list[dict[str, Any]]:
    """The verdict on each source and answer, or the `error` that stands in its way."""
    from modernbert_nli.tokenization import PairError

    results: list[dict[str, Any]] = []
    for (source, answer), problem in zip(pairs, problems, strict=True):
        try:
            if problem is None:
                result = pipe.check(answer, _sources(source), threshold=threshold)
                flat = {key: result[key] for key in CHECKED if key != "sentences"}
                sentences = json.dumps(result["sentences"], ensure_ascii=False)
                results.append({**flat, "sentences": sentences, "error": None})
                continue
        except PairError as error:
            problem = error.reason
        results.append({"error": problem})
    return results


def _passages(cell: str) -> Any:
    """A cell of a CSV file, which has no lists: passages where it is JSON of nothing but texts."""
    try:
        found = json.loads(cell) if cell.lstrip()[:1] in ("[", "{") else cell
    except (ValueError, RecursionError):
        return cell
    texts = found.values() if isinstance(found, dict) else found
    return found if texts and all(isinstance(text, str) for text in texts) else cell


def _sources(source: Any) -> Any:
    """What a row's source is to `check`: a text, passages, or passages by name.

    Raises:
        PairError: anything else, or no passage.
    """
    from modernbert_nli.tokenization import PairError, check_text

    if isinstance(source, list) and source and all(isinstance(item, tuple) for item in source):
        source = dict(source)  # as Arrow gives a map
    if isinstance(source, dict):  # columns that this row of a Parquet file has not are null
        source = {name: text for name, text in source.items() if text is not None}
    if not isinstance(source, list | dict):
        check_text(source, "source")
    elif not source:
        raise PairError(0, "the source has no passages: give it a text, or a list of texts.")
    return source


CHECKED: dict[str, Any] = {
    "verdict": pa.string(),
    "confidence": pa.float64(),
    "abstain": pa.bool_(),
    "uncertainty": pa.float64(),
    "support": pa.float64(),
    "read": pa.float64(),
    "sentences": pa.string(),
}


class Work(NamedTuple):
    """What is done with rows, `do(pipe, pairs, problems, threshold=, batch_size=)`, and what it adds."""

    name: str
    do: Callable[..., list[dict[str, Any]]]
    columns: Callable[[Any], dict[str, Any]]  # of a pipeline: types by name


def _judged_columns(pipe: Any) -> dict[str, Any]:
    probabilities = (f"p_{label}" for label in pipe.model.config.id2label.values())
    names = ("label", "confidence", "abstain", "uncertainty", *probabilities, "reason", "rule", "truncated")
    not_numbers = {
        **dict.fromkeys(("label", "reason", "rule"), pa.string()),
        **dict.fromkeys(("abstain", "truncated"), pa.bool_()),
    }
    return {**{name: not_numbers.get(name, pa.float64()) for name in names}, "error": pa.string()}


JUDGE = Work("judge", judge_pairs, _judged_columns)
CHECK = Work("check", check_rows, lambda pipe: {**CHECKED, "error": pa.string()})


def _finish(table: Table, shares: Shares, output: Path, types: dict[str, Any]) -> Summary:
    """Write rows and results beside the output, then put them in its place all at once."""
    abstained, not_judged, first = 0, 0, []

    def results() -> Iterator[list[Any]]:
        nonlocal abstained, not_judged
        for number, result in enumerate(shares.results(), 1):
            abstained += bool(result.get("abstain"))
            if result["error"] is not None:
                not_judged += 1
                first.append(number)
                del first[FIRST_ROWS:]
            yield [result.get(name) for name in types]

    beside = output.with_name(f"{output.name}.finishing")
    added = {free_name(name, table.columns): type_ for name, type_ in types.items()}
    try:
        WRITERS[output.suffix.lower()](beside, table, results(), added)
        os.replace(beside, output)
    finally:
        beside.unlink(missing_ok=True)
    shares.remove()
    return Summary(table.total, abstained, not_judged, first)


if __name__ == "__main__":
    sys.exit(main())
