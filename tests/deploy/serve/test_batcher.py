"""Requests that wait together are computed together, each gets its own rows, and none is lost."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from deploy.serve.batcher import Batcher, Computed


class Recorder:
    """Doubles its rows, remembers its batches, and can be held."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None

    def __call__(self, rows: Any) -> Any:
        self.open.wait(10)
        self.batches.append(len(rows))
        if self.error:
            raise self.error
        return rows * 2


def run(
    body: Callable[[Batcher, Recorder], Any], *, most: int = 4, delay: float = 0.0, workers: int = 1
) -> Any:
    recorder = Recorder()

    async def whole() -> Any:
        with ThreadPoolExecutor(workers) as executor:
            batcher = Batcher((recorder,) * workers, executor, most, delay, lambda *_: None)
            try:
                return await asyncio.wait_for(body(batcher, recorder), 10)
            finally:
                recorder.open.set()
                await batcher.close()

    return asyncio.run(whole())


def rows(first: int, count: int = 1) -> Any:
    return np.arange(first, first + count, dtype=np.float32)[:, None]


def test_those_that_wait_share_a_batch_and_get_their_own_rows() -> None:
    async def body(batcher: Batcher, recorder: Recorder) -> None:
        recorder.open.clear()
        jobs = [asyncio.create_task(batcher.submit(rows(10 * i, i % 2 + 1))) for i in range(6)]
        await asyncio.sleep(0.05)
        assert batcher.waiting == 3
        recorder.open.set()
        for i, got in enumerate(await asyncio.gather(*jobs)):
            assert np.array_equal(got.outputs, 2 * rows(10 * i, i % 2 + 1))
        assert recorder.batches == [4, 3, 2]  # of 1, 2, 1, 2, 1, 2 rows, at most 4, in order
        assert batcher.waiting == 0

    run(body)


def test_without_a_delay_one_that_is_alone_does_not_wait() -> None:
    async def body(batcher: Batcher, recorder: Recorder) -> None:
        for _ in range(3):
            assert (await batcher.submit(rows(1))).queue_s < 0.1
        assert recorder.batches == [1, 1, 1]

    run(body)


def test_a_delay_gathers_until_the_batch_is_full_or_the_oldest_has_waited() -> None:
    async def body(batcher: Batcher, recorder: Recorder) -> list[Computed]:
        full = [asyncio.create_task(batcher.submit(rows(i))) for i in range(3)]
        await asyncio.sleep(0.05)
        full.append(asyncio.create_task(batcher.submit(rows(3))))
        done = await asyncio.gather(*full)
        assert recorder.batches == [4]
        alone = await batcher.submit(rows(9))
        assert recorder.batches == [4, 1]
        return [*done, alone]

    *done, alone = run(body, delay=0.5)
    assert all(one.queue_s < 0.4 for one in done)
    assert 0.45 < alone.queue_s < 2


def test_one_with_more_rows_than_a_batch_is_computed_in_parts() -> None:
    async def body(batcher: Batcher, recorder: Recorder) -> None:
        got = await batcher.submit(rows(0, 10))
        assert np.array_equal(got.outputs, 2 * rows(0, 10))
        assert recorder.batches == [4, 4, 2]

    run(body)


def test_one_that_is_given_up_is_not_computed() -> None:
    async def body(batcher: Batcher, recorder: Recorder) -> None:
        recorder.open.clear()
        first = asyncio.create_task(batcher.submit(rows(0)))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(batcher.submit(rows(1)))
        await asyncio.sleep(0.05)
        second.cancel()
        recorder.open.set()
        await first
        await batcher.submit(rows(2))
        assert recorder.batches == [1, 1]

    run(body)


def test_an_error_reaches_its_requests_and_the_worker_goes_on() -> None:
    async def body(batcher: Batcher, recorder: Recorder) -> None:
        recorder.error = ValueError("broken")
        with pytest.raises(ValueError, match="broken"):
            await batcher.submit(rows(0))
        recorder.error = None
        await batcher.submit(rows(0))

    run(body)


def test_workers_compute_side_by_side() -> None:
    async def body(batcher: Batcher, recorder: Recorder) -> None:
        recorder.open.clear()
        jobs = [asyncio.create_task(batcher.submit(rows(i))) for i in range(2)]
        await asyncio.sleep(0.1)
        assert batcher.waiting == 0
        recorder.open.set()
        await asyncio.gather(*jobs)

    run(body, most=1, workers=2)
