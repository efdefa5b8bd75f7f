"""Files of passages to shards of an index."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ..files import InputError
from ..passages import Reader, token_count
from ..prediction.pair_files import Row, file_state, open_rows
from ..states import TokenStates
from ..tokenization import PairError, check_text
from .store import add_shard, origins, passages_of

if TYPE_CHECKING:
    from ..pipeline_modernbert_nli import NliAbstentionPipeline

_BATCH = 512  # passages that are encoded and projected at once


@dataclass
class Built:
    """What a run did.

    Args:
        added, known (`int`): Passages that it added, and that were there already.
        split (`int`): Rows that are longer than the encoder's window, of which each part is a passage.
        left (`int`): Passages that are not in their file any more, which has changed; they stay.
        refused (`list[str]`): Rows that are no passages, and why.
    """

    added: int = 0
    known: int = 0
    split: int = 0
    left: int = 0
    refused: list[str] = field(default_factory=list)


def build(
    pipe: "NliAbstentionPipeline",
    inputs: list[Path],
    folder: Path,
    column: str = "text",
    id_column: str | None = None,
    shard_passages: int = 8192,
    share: tuple[int, int] = (0, 1),
) -> Built:
    """Add files to an index, shard by shard; what is there already is passed over.

    Of a file that has changed since it was added (touched, longer, edited) what is new is added, a passage
    being known by its text and, with `id_column`, its name.

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
    files, done, found = [(path, open_rows(path)) for path in inputs], origins(folder), Built()
    index, count = share
    number = 0
    for path, rows in files:
        numbered = enumerate(rows, 1)
        fingerprint = "-".join(map(str, [path.name, *file_state(path)]))
        earlier = Counter(_key(one, id_column) for one in passages_of(folder, path.name, fingerprint))
        progress = tqdm(unit=" passages", desc=path.name)
        while part := list(islice(numbered, shard_passages)):
            origin, mine = f"{fingerprint}@{part[0][0]:012}", number % count == index
            number += 1
            progress.update(len(part))
            if mine and origin in done:
                found.known += done[origin]
            if not (mine or earlier) or (origin in done and not earlier):
                continue
            noted = found if mine and origin not in done else Built()
            passages = _passages(pipe, path, part, (column, id_column), noted)
            fresh = [passage for passage in passages if not _taken(earlier, _key(passage, id_column))]
            if noted is found:
                found.known += len(passages) - len(fresh)
                _add(pipe, path, fresh, folder, origin, found)
        found.left += earlier.total()
        progress.close()
    return found


def _key(passage: dict[str, Any], id_column: str | None) -> str | tuple[str, str]:
    """What a passage is known by; the number of a row is another where one is put before it."""
    return passage["text"] if id_column is None else (passage["id"], passage["text"])


def _taken(earlier: Counter[Any], key: Any) -> bool:
    """Whether a passage is there, each as often as it was added."""
    if not earlier[key]:
        return False
    earlier[key] -= 1
    return True


def _passages(
    pipe: "NliAbstentionPipeline",
    path: Path,
    rows: list[tuple[int, Row]],
    columns: tuple[str, str | None],
    found: Built,
) -> list[dict[str, Any]]:
    """The passages of some rows, with their names; what is none is noted.

    Raises:
        InputError: no row has the columns.
    """
    column, id_column = columns
    readable = [values for _, (values, problem) in rows if problem is None]
    for wanted, option in ((column, "--column"), (id_column, "--id_column")):
        if wanted is not None and readable and not any(wanted in values for values in readable):
            first = next(number for number, (_, problem) in rows if problem is None)
            raise InputError(
                f"{path} has no column {wanted!r} in row {first}: name the right one by {option}."
            )
    reader = Reader(pipe.model, [1], encode=False)
    passages: list[dict[str, Any]] = []
    for number, (values, problem) in rows:
        text = values.get(column)
        name: Any = number if id_column is None else values.get(id_column)
        if problem is None and (not isinstance(text, str) or not text.strip()):
            problem = "it has no text" if column in values else f"it has no column {column!r}"
        if problem is None and name in (None, ""):
            problem = f"it has no {id_column!r} to name it by"
        if problem is None:
            try:
                check_text(text, "text")
            except PairError as error:
                problem = error.reason
        if problem is not None:
            found.refused.append(f"{path}, row {number}: {problem}")
            continue
        name = f"{path.name}:{name}" if id_column is None else str(name)
        parts = _parts(reader, str(text))
        found.split += len(parts) > 1
        passages += [
            {"id": name if len(parts) == 1 else f"{name}#{place}", "text": part}
            for place, part in enumerate(parts, 1)
        ]
    return passages


def _parts(reader: Reader, text: str) -> list[str]:
    """A text, or where the encoder cannot read all of it at once, as many whole sentences as it can."""
    if len(text.encode()) <= reader.window or token_count(reader.model, text) <= reader.window:
        return [text]
    parts: list[tuple[int, int]] = []
    for start, end in reader.split(text):
        if parts and token_count(reader.model, text[parts[-1][0] : end]) <= reader.window:
            parts[-1] = (parts[-1][0], end)
        else:
            parts.append((start, end))
    return [text[start:end] for start, end in parts]


def _add(
    pipe: "NliAbstentionPipeline",
    path: Path,
    passages: list[dict[str, Any]],
    folder: Path,
    origin: str,
    found: Built,
) -> None:
    """One shard."""
    parts, kept = [], []
    for start in range(0, len(passages), _BATCH):
        some = passages[start : start + _BATCH]
        states, good = _encoded(pipe, some, path, found)
        if states is not None:
            parts.append(pipe.model.project_states(states))
            kept += good
    if parts:
        add_shard(folder, origin, joined(parts), kept)
        found.added += len(kept)


def _encoded(
    pipe: "NliAbstentionPipeline", passages: list[dict[str, Any]], path: Path, found: Built
) -> tuple[TokenStates | None, list[dict[str, Any]]]:
    """States of passages; one that is no text (a lone surrogate, say) is refused, and the others are not."""
    try:
        return pipe.model.encode([passage["text"] for passage in passages]), passages
    except PairError as error:
        if len(passages) == 1:
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
