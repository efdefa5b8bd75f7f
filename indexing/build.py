"""Files of passages to shards of an index."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from indexing.store import add_shard, origins
from modernbert_nli.states import TokenStates
from modernbert_nli.tokenization import PairError
from prediction.pair_files import READERS, InputError, file_state

_BATCH = 512  # passages that are encoded and projected at once


@dataclass
class Built:
    """What a run did.

    Args:
        added, known (`int`): Passages that it added, and that were there already.
        refused (`list[str]`): Rows that are no passages, and why.
    """

    added: int = 0
    known: int = 0
    refused: list[str] | None = None


def build(
    pipe: Any,
    inputs: list[Path],
    folder: Path,
    column: str = "text",
    id_column: str | None = None,
    shard_passages: int = 8192,
    share: tuple[int, int] = (0, 1),
) -> Built:
    """Add files to an index, shard by shard; what is there already is passed over.

    Args:
        pipe (`NliAbstentionPipeline`): Whose heads are to read the index.
        inputs (`list[Path]`): JSONL, CSV or Parquet files, a passage in each row.
        folder (`Path`): Of the index, new or not.
        column, id_column (`str`): What holds the text, and what names it: by default the number of the row.
        shard_passages (`int`): Rows of a shard.
        share (`tuple[int, int]`): Which of how many writers this is: shards go to them in turn.

    Raises:
        InputError: a file that cannot be read or has no such column, or an index of other heads.
    """
    done, found = origins(folder), Built(refused=[])
    index, count = share
    number = 0
    for path in inputs:
        rows = enumerate(_rows(path), 1)
        fingerprint = "-".join(map(str, [path.name, *file_state(path)]))
        progress = tqdm(unit=" passages", desc=path.name)
        while part := list(islice(rows, shard_passages)):
            origin, mine = f"{fingerprint}@{part[0][0]:012}", number % count == index
            number += 1
            progress.update(len(part))
            if origin in done:
                found.known += len(part)
            elif mine:
                _add(pipe, path, part, folder, origin, (column, id_column), found)
        progress.close()
    return found


def _rows(path: Path) -> Iterator[tuple[dict[str, Any], str | None]]:
    if path.suffix.lower() not in READERS:
        raise InputError(f"{path} is of no known kind: its name must end in {', '.join(READERS)}.")
    if not path.is_file():
        raise InputError(f"The input {path} does not exist or is not a file.")
    return READERS[path.suffix.lower()](path, "raw", None)


def _add(
    pipe: Any,
    path: Path,
    rows: list[tuple[int, tuple[dict[str, Any], str | None]]],
    folder: Path,
    origin: str,
    columns: tuple[str, str | None],
    found: Built,
) -> None:
    """One shard."""
    column, id_column = columns
    passages: list[dict[str, Any]] = []
    for number, (values, problem) in rows:
        if problem is None and column not in values:
            raise InputError(
                f"{path} has no column {column!r} in row {number}: name the right one by --column."
            )
        text = values.get(column)
        if problem is None and (not isinstance(text, str) or not text.strip()):
            problem = "it has no text"
        if problem is None:
            name = number if id_column is None else values.get(id_column)
            passages.append({"id": f"{path.name}:{name}" if id_column is None else str(name), "text": text})
        elif found.refused is not None:
            found.refused.append(f"{path}, row {number}: {problem}")
    parts, kept = [], []
    for start in range(0, len(passages), _BATCH):
        some = passages[start : start + _BATCH]
        states, good = _encoded(pipe, some, path, found)
        if good:
            parts.append(pipe.model.project_states(states))
            kept += good
    if parts:
        add_shard(folder, origin, joined(parts), kept)
        found.added += len(kept)


def _encoded(
    pipe: Any, passages: list[dict[str, Any]], path: Path, found: Built
) -> tuple[TokenStates | None, list[dict[str, Any]]]:
    """States of passages; one that is no text (a lone surrogate, say) is refused, and the others are not."""
    try:
        return pipe.model.encode([passage["text"] for passage in passages]), passages
    except PairError as error:
        if len(passages) == 1:
            assert found.refused is not None
            found.refused.append(f"{path}, {passages[0]['id']}: {error}")
            return None, []
    good = []
    for passage in passages:
        good += _encoded(pipe, [passage], path, found)[1]
    return (pipe.model.encode([passage["text"] for passage in good]) if good else None), good


def joined(parts: list[TokenStates]) -> TokenStates:
    """Projected states in a row."""
    import torch

    texts = [part.text(row) for part in parts for row in range(len(part))]
    states = TokenStates.gather(texts, parts[0].source)
    states.vectors = torch.cat([part.vectors for part in parts if part.vectors is not None])
    return states
