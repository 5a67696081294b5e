"""Dynamic batching: requests that wait at the same time are computed together.

A free worker takes the oldest request and those behind it, up to ``max_batch`` rows. With a ``delay`` it
first waits for more, until the batch is full or the oldest has waited that long; without one it never waits.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Batcher", "Computed"]

Rows = NDArray[np.generic]


@dataclass(frozen=True)
class Computed:
    """What a request got.

    Attributes:
        outputs: its own rows.
        queue_s: seconds between its arrival and the start of its batch.
        infer_s: seconds that its batch took.
        rows: of its batch, those of other requests included.
    """

    outputs: Rows
    queue_s: float
    infer_s: float
    rows: int


class _Job:
    def __init__(self, inputs: Rows, answer: "asyncio.Future[Computed]") -> None:
        self.inputs, self.answer, self.arrived = inputs, answer, time.perf_counter()


class Batcher:
    """The queue of one model.

    Args:
        runs: one function from rows to rows per worker, each called from one thread at a time.
        executor: where they are called; has a thread for each.
        max_batch: rows of a batch, at most. A request with more is computed in parts.
        delay_s: how long the oldest request may wait for others.
        observe: told of every batch: rows and seconds.
    """

    def __init__(
        self,
        runs: tuple[Callable[[Rows], Rows], ...],
        executor: Executor,
        max_batch: int,
        delay_s: float,
        observe: Callable[[int, float], None],
    ) -> None:
        self._executor, self._max_batch, self._delay_s, self._observe = executor, max_batch, delay_s, observe
        self._jobs: deque[_Job] = deque()
        self._arrived = asyncio.Condition()
        self._workers = [asyncio.create_task(self._work(run)) for run in runs]

    @property
    def waiting(self) -> int:
        """Requests that no worker has taken yet."""
        return len(self._jobs)

    async def submit(self, inputs: Rows) -> Computed:
        """Compute rows [N, ...]; one that is given up while it waits is not computed."""
        job = _Job(inputs, asyncio.get_running_loop().create_future())
        async with self._arrived:
            self._jobs.append(job)
            self._arrived.notify_all()
        return await job.answer

    async def close(self) -> None:
        """Stop the workers; nothing may be waiting."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self, run: Callable[[Rows], Rows]) -> None:
        while True:
            jobs = await self._next_batch()
            if jobs:
                await self._compute(run, jobs)

    async def _next_batch(self) -> list[_Job]:
        async with self._arrived:
            await self._arrived.wait_for(lambda: self._jobs)
            await self._wait_for_more()
            jobs: list[_Job] = []
            rows = 0
            while self._jobs and (not jobs or rows + len(self._jobs[0].inputs) <= self._max_batch):
                job = self._jobs.popleft()
                if not job.answer.done():  # its request was given up
                    jobs.append(job)
                    rows += len(job.inputs)
            return jobs

    async def _wait_for_more(self) -> None:
        while self._jobs and sum(len(job.inputs) for job in self._jobs) < self._max_batch:
            left = self._jobs[0].arrived + self._delay_s - time.perf_counter()
            if left <= 0:
                return
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                return

    async def _compute(self, run: Callable[[Rows], Rows], jobs: list[_Job]) -> None:
        inputs = jobs[0].inputs if len(jobs) == 1 else np.concatenate([job.inputs for job in jobs])
        started = time.perf_counter()
        try:
            outputs = await asyncio.get_running_loop().run_in_executor(
                self._executor, _in_parts, run, inputs, self._max_batch
            )
        except Exception as error:  # of the runtime; each request is told, and the worker goes on
            for job in jobs:
                if not job.answer.done():
                    job.answer.set_exception(error)
            return
        took = time.perf_counter() - started
        self._observe(len(inputs), took)
        start = 0
        for job in jobs:
            own = outputs[start : start + len(job.inputs)]
            start += len(job.inputs)
            if not job.answer.done():
                job.answer.set_result(Computed(own, started - job.arrived, took, len(inputs)))


def _in_parts(run: Callable[[Rows], Rows], inputs: Rows, most: int) -> Rows:
    if len(inputs) <= most:
        return run(inputs)
    return np.concatenate([run(inputs[start : start + most]) for start in range(0, len(inputs), most)])
