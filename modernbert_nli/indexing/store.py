"""Passages whose states are kept: shards of safetensors with their texts, and a manifest that names them.

INDEX/manifest.json             what made the states, and the shards that are whole
INDEX/NAME.safetensors          projected states of a shard, as `TokenStates` saves them
INDEX/NAME.parquet              its passages: id and text

A shard is in the manifest only when it is whole, so an interrupted or killed writer leaves nothing that is
read. Several writers may add shards at once, on one machine or on several that share the folder.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from ..files import InputError, write_aside
from ..states import TokenStates, same_source

_FORMAT = "modernbert_nli.passage_index"
_BLOCK = 2**20


@dataclass(frozen=True)
class Shard:
    """A part of an index.

    Args:
        name (`str`): Of its files, without their endings.
        origin (`str`): What it was made of: a file by name, size and time, and the number of its first row.
        passages, tokens (`int`): How many.
        sha256 (`dict[str, str]`): Of its files, by ending.
    """

    name: str
    origin: str
    passages: int
    tokens: int
    sha256: dict[str, str]


class PassageIndex:
    """An index that is there.

    Args:
        folder (`Path`): Where it is.

    Raises:
        InputError: there is none.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        manifest = _read(folder)
        if manifest is None:
            raise InputError(f"There is no index in {folder}: `index.py build` makes one.")
        self.source: dict[str, Any] = manifest["source"]
        self.shards = [Shard(**shard) for shard in manifest["shards"]]

    def __len__(self) -> int:
        return sum(shard.passages for shard in self.shards)

    @property
    def nbytes(self) -> int:
        """Of all states."""
        return sum(self._path(shard, ".safetensors").stat().st_size for shard in self.shards)

    def states(self) -> Iterator[tuple[int, TokenStates]]:
        """Shard by shard, the number of its first passage and its states, which are mapped, not read."""
        first = 0
        for shard in self.shards:
            yield first, TokenStates.load(self._path(shard, ".safetensors"))
            first += shard.passages

    def passages(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """`id` and `text` of passages by number, in the order asked for."""
        found: dict[int, dict[str, Any]] = {}
        first = 0
        for shard in self.shards:
            inside = [row for row in rows if first <= row < first + shard.passages]
            if inside:
                table = pq.read_table(self._path(shard, ".parquet")).take([row - first for row in inside])
                found |= dict(zip(inside, table.to_pylist(), strict=True))
            first += shard.passages
        return [found[row] for row in rows]

    def problems(self) -> list[str]:
        """What is wrong with files: missing, or other than they were written."""
        found = []
        for shard in self.shards:
            for ending, expected in shard.sha256.items():
                path = self._path(shard, ending)
                if not path.is_file():
                    found.append(f"{path.name} is missing")
                elif _sha256(path) != expected:
                    found.append(f"{path.name} has changed since it was written")
        return found

    def _path(self, shard: Shard, ending: str) -> Path:
        return self.folder / f"{shard.name}{ending}"


def origins(folder: Path) -> dict[str, int]:
    """What the shards of an index were made of, and their passages; nothing where there is none yet."""
    manifest = _read(folder)
    return {shard["origin"]: shard["passages"] for shard in manifest["shards"]} if manifest else {}


def passages_of(folder: Path, name: str, but: str) -> Iterator[dict[str, Any]]:
    """Passages that were made of a file of this name in another state than this one."""
    for shard in (_read(folder) or {"shards": []})["shards"]:
        state = shard["origin"].rpartition("@")[0]
        if state.rsplit("-", 2)[0] == name and state != but:
            yield from pq.read_table(folder / f"{shard['name']}.parquet").to_pylist()


def add_shard(folder: Path, origin: str, states: TokenStates, passages: Sequence[dict[str, Any]]) -> None:
    """Write a shard, then name it in the manifest.

    Raises:
        InputError: the index holds states of another base or of other heads.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(origin.encode()).hexdigest()[:16]
    states.save(folder / f"{name}.safetensors")
    table = pa.Table.from_pylist(list(passages), pa.schema({"id": pa.string(), "text": pa.string()}))
    aside = folder / f"{name}.parquet.partial"
    pq.write_table(table, aside)
    aside.replace(folder / f"{name}.parquet")
    sha256 = {ending: _sha256(folder / f"{name}{ending}") for ending in (".safetensors", ".parquet")}
    shard = Shard(name, origin, len(states), int(states.offsets[-1]), sha256)
    with FileLock(folder / "manifest.lock"):
        manifest = _read(folder) or {"format": _FORMAT, "source": states.source, "shards": []}
        if not same_source(manifest["source"], states.source):
            raise InputError(
                f"The index in {folder} holds states of {manifest['source']}, not of {states.source}: "
                "other heads or another base need an index of their own."
            )
        known = {other["origin"]: other for other in manifest["shards"]} | {origin: asdict(shard)}
        manifest["shards"] = sorted(known.values(), key=lambda other: other["origin"])
        write_aside(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise InputError(f"{folder / 'manifest.json'} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise InputError(f"{folder / 'manifest.json'} is no manifest of an index.")
    return manifest


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
        if hasattr(os, "posix_fadvise"):  # a corpus that is read once must not push all else out of memory
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return digest.hexdigest()
