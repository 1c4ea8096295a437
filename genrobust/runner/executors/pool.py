"""Work side by side in threads, as torch's kernels release Python's lock.

Each worker computes with one thread of its own, so that neither their number nor their order
changes a bit of the results.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

import torch

from genrobust.errors import GenrobustError, is_out_of_memory
from genrobust.foreign import explain

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_all(
    items: Iterable[Item],
    work: Callable[[Item, Callable[[], bool]], Result | None],
    workers: int,
) -> Generator[tuple[Item, Result], None, None]:
    """Yield (item, result) as they finish.

    ``work`` gets the item and a function that says whether to give up. After an error, or when the
    caller stops iterating (Ctrl-C), work that has not begun is dropped and what runs is told.

    Raises:
        GenrobustError: memory ran out; and whatever ``work`` raises.
    """
    stop = threading.Event()
    patient = True
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, "genrobust")

    def run(item: Item) -> Result | None:
        torch.set_num_threads(1)  # anew, as what ran before in this thread may have set another
        with enough_memory():
            return work(item, stop.is_set)

    try:
        futures = {pool.submit(run, item): item for item in items}
        for future in as_completed(futures):
            result = future.result()
            if result is not None:
                yield futures[future], result
    except (KeyboardInterrupt, GeneratorExit):
        patient = False  # the user wants the prompt back; what runs ends by itself
        raise
    finally:
        stop.set()
        pool.shutdown(wait=patient, cancel_futures=True)
        torch.set_num_threads(threads)


@contextmanager
def enough_memory() -> Iterator[None]:
    """Say what to do about it where memory runs out in the block.

    Raises:
        GenrobustError: it did.
    """
    try:
        yield
    except Exception as problem:
        if not is_out_of_memory(problem):
            raise
        raise GenrobustError(
            f"there is not enough memory ({explain(problem)}); give --workers 1, lower "
            "--batch-size, or compute where there is more"
        ) from problem
