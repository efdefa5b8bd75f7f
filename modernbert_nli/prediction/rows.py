"""Rows of a file to decisions: what is done with a row, what it adds, and a whole file with interruptions."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from tqdm import tqdm

from ..files import InputError
from ..options import BATCH_SIZE
from .pair_files import WRITERS, Table, check_output, file_state, free_name, json_line, open_table
from .processes import Processes, Shares

if TYPE_CHECKING:
    from ..modeling_modernbert_nli import ModernBertNliModel
    from ..pipeline_modernbert_nli import NliAbstentionPipeline

# transformers and torch are imported by the functions that need them.

BATCHES_PER_CHUNK = 8  # sorted by length, judged and stored together: what an interruption costs at most
FIRST_ROWS = 5  # of those that could not be judged, named in the summary


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
    pipe: "NliAbstentionPipeline",
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
    pipe: "NliAbstentionPipeline",
    pairs: Sequence[tuple[Any, Any]],
    problems: Sequence[str | None],
    **options: Any,
) -> list[dict[str, Any]]:
    """The decision on each pair, or the `error` that stands in its way. Some `problems` are known already."""
    from ..tokenization import PairError

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


def _fingerprint(model: "ModernBertNliModel") -> str:
    """Of all that decides on the results: the configuration and every weight, or graph, of the base too."""
    config = {key: value for key, value in model.config.to_dict().items() if key != "_name_or_path"}
    config["calibration"] = model.config.calibration  # which is stored beside the others
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(getattr(model.encoder, "digest", str)().encode())  # of graphs
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.float().cpu().contiguous().numpy())
    return digest.hexdigest()


def check_rows(
    pipe: "NliAbstentionPipeline",
    pairs: Sequence[tuple[Any, Any]],
    problems: Sequence[str | None],
    threshold: float | None = None,
    batch_size: int = BATCH_SIZE,
) -> list[dict[str, Any]]:
    """The verdict on each source and answer, or the `error` that stands in its way."""
    from ..tokenization import PairError

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
    from ..tokenization import PairError, check_text

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


def _judged_columns(pipe: "NliAbstentionPipeline") -> dict[str, Any]:
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
