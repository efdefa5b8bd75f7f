"""Requests to one model: those that wait together are judged together, one batch after the other.

A model computes one thing at a time, so there is one thread for it. Whatever has come while it was busy goes
into its next batch: a single request never waits for company, and many share their batches.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class QueueFull(Exception):
    """As many requests wait as may."""


class Closed(Exception):
    """The service is going down."""


@dataclass
class Job(Generic[Result]):
    """Items of one request, and what is done with them.

    Args:
        run (`Callable`): From items, of this request and of others that are `alike`, to a result for each.
        items (`Sequence`): Of the request.
        alike (`Hashable`): What jobs that may run together have in common; `None` for a job by itself.
    """

    run: Callable[[list[Any]], Sequence[Result]]
    items: Sequence[Any]
    alike: Any = None
    done: asyncio.Future = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ModelQueue:
    """A queue in front of a model.

    Args:
        max_waiting (`int`): Requests that may wait.
        batch_size (`int`): Items of several requests that run together; those of one always do.
        seen (`Callable`, *optional*): Told the number of items of each run.
    """

    def __init__(self, max_waiting: int, batch_size: int, seen: Callable[[int], None] = lambda _: None):
        self.max_waiting, self.batch_size, self._seen = max_waiting, batch_size, seen
        self._waiting: deque[Job] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._worker: asyncio.Task | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def ask(self, job: Job[Result]) -> list[Result]:
        """The results of a job's items, in their order.

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
        return await job.done

    async def close(self) -> None:
        """Turn away who waits; what is being judged is finished."""
        self._closed = True
        while self._waiting:
            job = self._waiting.popleft()
            if not job.done.done():
                job.done.set_exception(Closed())
        if self._worker is not None:
            await self._worker
        self._thread.shutdown(wait=True)

    async def _work(self) -> None:
        while jobs := self._next():
            await self._run(jobs)

    def _next(self) -> list[Job]:
        """The first job that is still wanted, and those after it that can run with it."""
        jobs: list[Job] = []
        while self._waiting:
            job = self._waiting[0]
            if job.done.done():  # its client has gone, or had no more time
                self._waiting.popleft()
                continue
            together = jobs and (job.alike is None or job.alike != jobs[0].alike)
            if together or sum(len(other.items) for other in jobs) >= self.batch_size:
                break
            jobs.append(self._waiting.popleft())
        return jobs

    async def _run(self, jobs: list[Job]) -> None:
        items = [item for job in jobs for item in job.items]
        self._seen(len(items))
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._thread, jobs[0].run, items)
        except Exception as error:
            if len(jobs) > 1:  # whose fault it is shows when each runs by itself
                for job in jobs:
                    await self._run([job])
            elif not jobs[0].done.done():
                jobs[0].done.set_exception(error)
            return
        start = 0
        for job in jobs:
            own = list(results[start : start + len(job.items)])
            start += len(job.items)
            if not job.done.done():
                job.done.set_result(own)
