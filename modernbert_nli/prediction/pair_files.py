"""Files of pairs: JSONL, CSV and Parquet, looked through once, then read as often as needed.

table = open_table(Path("pairs.csv"), ("premise", "hypothesis"))
for values, problem in table.rows(): ...
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from ..files import InputError

ROWS_PER_GROUP = 10_000  # of a Parquet file

# The values of a row, and what is wrong with a line that is no row: its text is then all there is.
Row: TypeAlias = tuple[dict[str, Any], str | None]
Types: TypeAlias = dict[str, pa.DataType]


@dataclass
class Table:
    path: Path
    columns: Types
    total: int
    raw: str  # name of the column for lines that are no rows
    state: list[int]

    def rows(self, columns: list[str] | None = None) -> Iterator[Row]:
        return READERS[self.path.suffix.lower()](self.path, self.raw, columns)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows as Arrow: those of a Parquet file in its very own types."""
        if self.path.suffix.lower() == ".parquet":
            with pq.ParquetFile(self.path) as file:
                yield from file.iter_batches(ROWS_PER_GROUP)
            return
        schema = pa.schema([(_text(name), type_) for name, type_ in self.columns.items()])
        rows = self.rows()
        while group := [values for values, _ in islice(rows, ROWS_PER_GROUP)]:
            columns = ([_fit(row.get(name), type_) for row in group] for name, type_ in self.columns.items())
            yield pa.RecordBatch.from_arrays(list(map(pa.array, columns, schema.types)), schema=schema)


def check_output(input: Path, output: Path, overwrite: bool = False) -> None:
    """Raise `InputError` unless the output can and may be written."""
    for path in (input, output):
        if path.suffix.lower() not in READERS:
            raise InputError(f"{path} is of no known kind: its name must end in {', '.join(READERS)}.")
    if not output.parent.is_dir():
        raise InputError(f"The folder {output.parent} of the output does not exist: create it first.")
    if output.is_dir():
        raise InputError(f"The output {output} is a folder: name a file.")
    if output.exists() and input.exists() and output.samefile(input):
        raise InputError(f"The output {output} is the input: name another file.")
    if output.exists() and not overwrite:
        raise InputError(f"The output {output} exists: name another file, or replace it by --overwrite.")


def open_table(path: Path, needed: tuple[str, str]) -> Table:
    """Look a file through, once: its columns with their types, its rows, and what is wrong with it."""
    if not path.is_file():
        raise InputError(f"The input {path} does not exist or is not a file.")
    if path.stat().st_size == 0:
        raise InputError(f"The input {path} is empty.")
    state, total, broken, problem = file_state(path), 0, 0, ""
    if path.suffix.lower() == ".parquet":
        try:
            with pq.ParquetFile(path) as file:
                total, schema = file.metadata.num_rows, file.schema_arrow
        except pa.ArrowInvalid as error:
            raise InputError(f"{path} cannot be read as Parquet: {error}") from error
        columns = dict(zip(schema.names, schema.types, strict=True))
        if len(columns) < len(schema):
            raise InputError(f"{path} has several columns of one name: rename all but one.")
    else:
        kinds: dict[str, set[type]] = {}
        for total, (values, wrong) in enumerate(READERS[path.suffix.lower()](path, "raw", None), 1):
            if wrong:
                broken, problem = broken + 1, problem or f"row {total}: {wrong}"
                continue
            for name, value in values.items():
                too_large = isinstance(value, int) and not -(2**63) <= value < 2**63
                kinds.setdefault(name, set()).add(object if too_large else type(value))
        columns = {name: _arrow_type(found) for name, found in kinds.items()}
    if not total:
        raise InputError(f"The input {path} has no rows.")
    if broken == total:
        raise InputError(f"{path} has no row that can be read; {problem}")
    for option, name in zip(("--premise_column", "--hypothesis_column"), needed, strict=True):
        if name not in columns:
            names = ", ".join(map(repr, columns))
            raise InputError(f"{path} has no column {name!r}, only {names}: name the right one by {option}.")
    raw = free_name("raw", columns)
    return Table(path, {**columns, raw: pa.string()} if broken else columns, total, raw, state)


def open_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, as they are read.

    Raises:
        InputError: it is missing, or of no known kind.
    """
    if path.suffix.lower() not in READERS:
        raise InputError(f"{path} is of no known kind: its name must end in {', '.join(READERS)}.")
    if not path.is_file():
        raise InputError(f"The input {path} does not exist or is not a file.")
    return READERS[path.suffix.lower()](path, "raw", None)


def file_state(path: Path) -> list[int]:
    return [path.stat().st_size, path.stat().st_mtime_ns]


def _arrow_type(kinds: set[type]) -> pa.DataType:
    kinds = kinds - {type(None)}
    if kinds in ({bool}, {int}):
        return pa.bool_() if kinds == {bool} else pa.int64()
    return pa.float64() if kinds and kinds <= {int, float} else pa.string()


def _lines(path: Path) -> Iterator[str]:
    """Lines with their ends. A byte that is not UTF-8 becomes a lone surrogate, which no pair may have."""
    with path.open("rb") as file:
        start = file.read(3)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise InputError(f"{path} is UTF-16: save it as UTF-8.")
        file.seek(3 if start == b"\xef\xbb\xbf" else 0)
        for line in file:
            yield line.decode("utf-8", "surrogateescape")


def read_jsonl(path: Path, raw: str, columns: list[str] | None) -> Iterator[Row]:
    """An object in each line, or a JSON array of objects, however it is broken into lines."""
    if (rows := _array(path)) is not None:
        for row in rows:
            text = None if isinstance(row, dict) else json.dumps(row, ensure_ascii=False)
            problem = f"it is a {type(row).__name__}, not an object."
            yield (row, None) if text is None else ({raw: text}, problem)
        return
    for line in _lines(path):
        if line.isspace():
            continue
        values, problem = _json(line)
        if not problem and not isinstance(values, dict):
            problem = f"it is a {type(values).__name__}"
        problem = problem and f"the line is not one JSON object: {problem}."
        yield ({raw: line.rstrip("\r\n")}, problem) if problem else (values, None)


def _array(path: Path) -> list[Any] | None:
    """The items of a file that is one JSON array; `None` of one that has an object in each line.

    Raises:
        InputError: an array that is cut off or broken, or one object over several lines: of its lines some
            may look like rows.
    """
    first = next((line.strip() for line in _lines(path) if not line.isspace()), "")
    values, problem = _json(first)
    if not first.startswith(("[", "{")) or isinstance(values, dict):
        return None
    whole, problem = _json("".join(_lines(path)))
    if isinstance(whole, list):
        return whole
    if isinstance(whole, dict):
        problem = "it is one object over several lines"
    elif first not in ("[", "{") and not (first[0] == "[" and path.suffix.lower() == ".json"):
        return None  # a line that is broken, or no object: the others may be
    raise InputError(f"{path} has neither an object in each line nor one array of objects: {problem}.")


def _json(text: str) -> tuple[Any, str]:
    """What a text says, and what is wrong with it."""
    try:
        return json.loads(text, parse_constant=lambda _: None), ""  # NaN is no JSON, but no reason to stop
    except (ValueError, RecursionError) as error:
        return None, str(error)


def read_csv(path: Path, raw: str, columns: list[str] | None) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # its default, 128 kB, is less than some texts
    reader = csv.reader(_lines(path), strict=True)  # or an open quote would swallow the rest of the file
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise InputError(f"{path} has several columns of one name: rename all but one.")
        for fields in reader:
            if len(fields) == len(header):
                yield dict(zip(header, fields, strict=True)), None
            elif fields:
                problem = f"{len(fields)} fields for {len(header)} columns: quote texts that have a comma."
                yield {raw: _csv_line(fields).rstrip("\r\n")}, problem
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}. Check the quotes up to there.") from error


def read_parquet(path: Path, raw: str, columns: list[str] | None) -> Iterator[Row]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_PER_GROUP, columns=columns):
            batch.validate(full=True)  # that strings are UTF-8, which not every writer sees to
            for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield dict(zip(batch.schema.names, values, strict=True)), None


def write_jsonl(path: Path, table: Table, results: Iterator[list[Any]], types: Types) -> None:
    with path.open("wb") as file:
        for (values, _), result in zip(table.rows(), results, strict=True):
            file.write(json_line({**values, **dict(zip(types, result, strict=True))}))


def write_csv(path: Path, table: Table, results: Iterator[list[Any]], types: Types) -> None:
    with path.open("wb") as file:
        file.write(_csv_line([*table.columns, *types]).encode())
        for (values, _), result in zip(table.rows(), results, strict=True):
            file.write(_csv_line([values.get(name) for name in table.columns] + result).encode())


def write_parquet(path: Path, table: Table, results: Iterator[list[Any]], types: Types) -> None:
    writer = None
    try:
        for batch in table.batches():
            added = zip(*islice(results, batch.num_rows), strict=True)
            for (name, type_), values in zip(types.items(), added, strict=True):
                batch = batch.append_column(name, pa.array(values, type_))
            writer = writer or pq.ParquetWriter(path, batch.schema)
            writer.write_batch(batch)
    finally:
        if writer:
            writer.close()


READERS = {".jsonl": read_jsonl, ".json": read_jsonl, ".csv": read_csv, ".parquet": read_parquet}
WRITERS = {".jsonl": write_jsonl, ".json": write_jsonl, ".csv": write_csv, ".parquet": write_parquet}


def json_line(values: dict[str, Any]) -> bytes:
    try:
        return json.dumps(values, ensure_ascii=False, allow_nan=False, default=str).encode() + b"\n"
    except ValueError:  # NaN, which JSON does not have, or lone surrogates, which it can only escape
        finite = json.loads(json.dumps(values, default=str), parse_constant=lambda _: None)
        return json.dumps(finite).encode() + b"\n"


def _csv_line(fields: Iterable[Any]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(map(_text, fields))
    return line.getvalue()


def _fit(value: Any, type_: pa.DataType) -> Any:
    return _text(value) if value is not None and type_ == pa.string() else value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | int | float | list | dict):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return str(value).encode("utf-8", "backslashreplace").decode()


def free_name(name: str, taken: Iterable[str]) -> str:
    while name in taken:
        name = f"predicted_{name}"
    return name
