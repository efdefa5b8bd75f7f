"""A file of rows judged by several processes: who judges what, what is done, and the results in order.

Rows go in chunks to the processes in turn: the first chunk to the first, the second to the second, and so on.
Each process notes its results in a file of its own, line by line below a header of settings, and continues
after the last chunk that is whole there.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from ..files import InputError
from .pair_files import json_line

_WAIT = timedelta(days=30)  # for the slowest process: a file may take days


@dataclass(frozen=True)
class Processes:
    """This process among all that share the work."""

    index: int = 0
    count: int = 1
    device: str | None = None

    @property
    def main(self) -> bool:
        return self.index == 0

    def wait(self) -> None:
        """For all others to come here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


@contextmanager
def processes() -> Iterator[Processes]:
    """The processes that `torchrun` or `accelerate launch` started; one where neither did.

    Their group is ended before the process: threads of a group that nobody ends abort the process.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=_WAIT)
    try:
        yield Processes(state.process_index, state.num_processes, str(state.device))
    finally:
        state.destroy_process_group()


@dataclass(frozen=True)
class Shares:
    """The results of a run that is not finished, beside its output.

    Args:
        output (`Path`): Where the results will go.
        total (`int`): Rows of the input.
        chunk_rows (`int`): Rows of a chunk; the last one may have fewer.
        processes (`Processes`): Who shares them.
    """

    output: Path
    total: int
    chunk_rows: int
    processes: Processes

    def file(self, index: int) -> Path:
        """Where a process notes its results."""
        name = f"{self.output.name}.partial"
        count = self.processes.count
        return self.output.with_name(name if count == 1 else f"{name}.{index + 1}-of-{count}")

    @property
    def own(self) -> Path:
        """Where this process does."""
        return self.file(self.processes.index)

    @property
    def own_rows(self) -> int:
        """How many rows are this process's."""
        whole, rest = divmod(self.total, self.chunk_rows)
        index, count = self.processes.index, self.processes.count
        chunks = len(range(index, whole, count))
        return chunks * self.chunk_rows + (rest if whole % count == index else 0)

    def own_chunks(self, rows: Iterator[Any], done: int) -> Iterator[list[Any]]:
        """The chunks of this process that follow the rows that it has done."""
        seen = 0
        for index in cycle(range(self.processes.count)):
            if index == self.processes.index and seen >= done:
                chunk = list(islice(rows, self.chunk_rows))
                read = len(chunk)
                if chunk:
                    yield chunk
            else:
                read = sum(1 for _ in islice(rows, self.chunk_rows))
                seen += read if index == self.processes.index else 0
            if read < self.chunk_rows:
                return

    def resume(self, settings: dict[str, Any], overwrite: bool) -> int:
        """Cut this process's file back to its last whole chunk, or begin one. Returns the rows that it holds.

        Raises:
            InputError: the files are from a run with other settings, or with another number of processes.
        """
        mine = {self.file(index).name for index in range(self.processes.count)}
        noted = re.compile(rf"{re.escape(self.output.name)}\.partial(\.\d+-of-\d+)?")
        there = (path for path in self.output.parent.iterdir() if noted.fullmatch(path.name))
        others = [path for path in there if path.name not in mine]
        if others and not overwrite:
            raise InputError(
                f"{min(others)} is from an interrupted run with another number of processes. Repeat that run "
                "to continue it, or start over with --overwrite."
            )
        if self.processes.main:
            for path in others:
                path.unlink(missing_ok=True)
        header, partial = json_line(settings), self.own
        done, end = 0, len(header)
        with partial.open("r+b" if partial.exists() else "w+b") as file:
            first, position = file.readline(), end
            if first == header:
                for number, line in enumerate(file, 1):
                    position += len(line)
                    if line[:1] != b"{" or line[-2:] != b"}\n":  # the torn end of an interrupted run
                        break
                    if number % self.chunk_rows == 0 or number == self.own_rows:
                        done, end = number, position
            elif first.endswith(b"\n") and not overwrite:
                found = json.loads(first) if first[:1] == b"{" else {}
                other = ", ".join(key for key, value in settings.items() if found.get(key) != value)
                raise InputError(
                    f"{partial} is from an interrupted run with other settings ({other}). Repeat that run to "
                    "continue it, or start over with --overwrite."
                )
            file.seek(0)
            file.write(header)
            file.truncate(end)
        return done

    def results(self) -> Iterator[dict[str, Any]]:
        """Of all processes, in the order of the rows."""
        with ExitStack() as stack:
            paths = (self.file(index) for index in range(self.processes.count))
            files = [stack.enter_context(path.open("rb")) for path in paths]
            for file in files:
                file.readline()
            for file in cycle(files):
                chunk = list(islice(file, self.chunk_rows))
                yield from map(json.loads, chunk)
                if len(chunk) < self.chunk_rows:
                    return

    def remove(self) -> None:
        """Once the output is there."""
        for index in range(self.processes.count):
            self.file(index).unlink()
