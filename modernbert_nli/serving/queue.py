"""Requests to one model: those that wait together are judged together, one batch after the other.

A model computes one thing at a time, so there is one thread for it. Whatever has come while it was busy goes
into its next batch: a single request never waits for company, and many share their batches. A request of many
items is judged batch by batch and goes to the end of the queue after each, so that a short one does not wait
for all of it; and where nobody wants it any more, it ends after the batch that runs.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class QueueFull(Exception):
    """As many requests wait as may."""


class Closed(Exception):
    """The service is going down."""


@dataclass(eq=False)
class Job(Generic[Result]):
    """Items of one request, and what is done with them.

    Args:
        run (`Callable`): From items, of this request and of others that are `alike`, to a result for each.
        items (`Sequence`): Of the request.
        alike (`Hashable`): What jobs that may run together have in common; `None` for a job by itself, whose
            items are never taken apart.
    """

    run: Callable[[list[Any]], Sequence[Result]]
    items: Sequence[Any]
    alike: Any = None
    done: asyncio.Future = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    results: list[Result] = field(default_factory=list)


class ModelQueue:
    """A queue in front of a model.

    Args:
        max_waiting (`int`): Requests that may wait.
        batch_size (`int`): Items that run together, of one request or of several.
        seen (`Callable`, *optional*): Told the number of items of each run.
    """

    def __init__(self, max_waiting: int, batch_size: int, seen: Callable[[int], None] = lambda _: None):
        self.max_waiting, self.batch_size, self._seen = max_waiting, batch_size, seen
        self._waiting: deque[Job] = deque()
        self._thread = _ModelThread()
        self._worker: asyncio.Task | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def ask(self, job: Job[Result]) -> list[Result]:
        """The results of a job's items, in their order. Whoever cancels this takes the job out of the queue.

        Raises:
            QueueFull: too many wait already.
            Closed: the service is going down.
            Whatever `run` raises for these items.
        """
        if self._closed:
            raise Closed
        if len(self._waiting) >= self.max_waiting:
            raise QueueFull
        self._waiting.append(job)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        try:
            return await job.done
        finally:
            with suppress(ValueError):  # it has run, or runs
                self._waiting.remove(job)

    async def close(self, within: float | None = None) -> None:
        """Turn away who waits; the batch that runs is finished.

        Args:
            within (`float`, *optional*): Seconds to wait for that batch at most.
        """
        self._closed = True
        while self._waiting:
            _refuse(self._waiting.popleft(), Closed())
        if self._worker is not None:
            await asyncio.wait({self._worker}, timeout=within)
        self._thread.end()

    async def _work(self) -> None:
        while parts := self._next():
            await self._run(parts)

    def _next(self) -> list[tuple[Job, Sequence[Any]]]:
        """What runs next: items of the first job that is still wanted, and of others that are alike."""
        parts: list[tuple[Job, Sequence[Any]]] = []
        room = self.batch_size
        while self._waiting and room > 0:
            job = self._waiting[0]
            if parts and not job.done.done() and (job.alike is None or job.alike != parts[0][0].alike):
                break
            self._waiting.popleft()
            if job.done.done():  # its client has gone, or had no more time
                continue
            begin = len(job.results)
            part = job.items if job.alike is None else job.items[begin : begin + room]
            parts.append((job, part))
            room = 0 if job.alike is None else room - len(part)
        return parts

    async def _run(self, parts: list[tuple[Job, Sequence[Any]]]) -> None:
        items = [item for _, part in parts for item in part]
        self._seen(len(items))
        try:
            results = await self._thread.run(parts[0][0].run, items)
        except Exception as error:
            if len(parts) > 1:  # whose fault it is shows when each runs by itself
                for alone in parts:
                    await self._run([alone])
            else:
                _refuse(parts[0][0], error)
            return
        start = 0
        for job, part in parts:
            job.results += results[start : start + len(part)]
            start += len(part)
            if job.done.done():
                continue
            if len(job.results) == len(job.items):
                job.done.set_result(job.results)
            elif self._closed:
                _refuse(job, Closed())
            else:
                self._waiting.append(job)


def _refuse(job: Job, error: Exception) -> None:
    if not job.done.done():
        job.done.set_exception(error)


class _ModelThread:
    """Runs one call after the other. Unlike an executor's, it does not keep the process from ending."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future, Callable[[Any], Any], Any] | None] = SimpleQueue()
        threading.Thread(target=self._work, name="model", daemon=True).start()

    async def run(self, function: Callable[[Any], Any], argument: Any) -> Any:
        future: Future = Future()
        self._calls.put((future, function, argument))
        return await asyncio.wrap_future(future)

    def end(self) -> None:
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function, argument = call
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function(argument))
            except Exception as error:
                future.set_exception(error)
