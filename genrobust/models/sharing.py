"""Whether batches may pass through a model at once, in threads that share it.

Neither its source nor its attributes say so for sure: what a model keeps may lie in a closure, a
global or a hook, and be gone when it returns. What counts is whether a result changes when another
batch comes in between. So one does, wherever the model's code may have written something: testing
with preemptions (Musuvathi & Qadeer 2007, "Iterative context bounding"), which finds nearly all
such faults in programs of every kind.
"""

from __future__ import annotations

import dis
import sys
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from itertools import count, pairwise
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor

from genrobust.foreign import is_foreign
from genrobust.models.checks.state import use
from genrobust.models.inputs import probe_images
from genrobust.models.model import GenerativeModel
from genrobust.seeding import seeded, states

#: Instructions after which others may see something else than before.
WRITES = (
    *("CALL", "STORE_ATTR", "STORE_SUBSCR", "STORE_SLICE", "STORE_GLOBAL", "STORE_DEREF"),
    *("DELETE_", "INPLACE_", "BINARY_OP", "BEFORE_WITH", "SETUP_WITH"),
)


def shares_badly(model: GenerativeModel) -> bool:
    """Whether results change when two batches pass through a model at once.

    What is kept and gives equal results, such as a cache by batch size, does no harm.

    Args:
        model: one that is not random and passed its checks. It is used on a small batch about
            twice for each call and each assignment in its code.
    """
    x = probe_images(model.input_shape, 6).to(model.device)
    pairs = ((x[:2], x[2:4]), (x[:2], x[3:]), (x[3:], x[:2]))
    return any(_disturbed(model, *pair) for pair in pairs) or _disturbed_when_new(model)


def draws(model: GenerativeModel) -> bool:
    """Whether a model draws from the process's generators, even if to no effect."""
    x = probe_images(model.input_shape, 2).to(model.device)
    with seeded(model.device, "draws"):
        before = states(model.device)
        use(model, x)
        return states(model.device) != before


def _disturbed(
    model: GenerativeModel,
    a: Tensor,
    b: Tensor,
    wanted: Callable[[Hashable], bool] = lambda place: True,
) -> bool:
    """Whether ``a`` or ``b`` comes out otherwise if ``b`` comes between, at the places wanted."""
    with ThreadPoolExecutor(1) as other:
        began = time.monotonic()
        other.submit(use, model, b[:1]).result()
        patience = 1 + 10 * len(b) * (time.monotonic() - began)
        intruders: list[Future[list[Tensor]]] = []

        def intrude(place: Hashable) -> None:
            # One that is not done waits for a lock that ``a`` holds, and comes when it may.
            if wanted(place) and all(intruder.done() for intruder in intruders):
                intruders.append(other.submit(use, model, b))
                wait(intruders, patience)

        try:
            found = _interrupted(model, a, intrude)
            alone = other.submit(use, model, b).result()
            unharmed = all(_same(intruder.result(), alone) for intruder in intruders)
            return not (unharmed and _same(found, use(model, a)))
        except Exception:  # by itself it raises nothing
            return True


def _disturbed_when_new(model: GenerativeModel) -> bool:
    """The same, at the places that are reached for the first batch of a size alone."""
    sizes = count(7)

    def batch(size: int) -> Tensor:
        return probe_images(model.input_shape, size).to(model.device)

    def places(x: Tensor) -> list[Hashable]:
        seen: list[Hashable] = []
        _interrupted(model, x, seen.append)
        return seen

    x = batch(next(sizes))
    new, known = places(x), set(places(x))
    for place in new:
        if place not in known:
            x = batch(next(sizes))
            if _disturbed(model, x, x.flip(0), lambda found, place=place: found == place):  # type: ignore[misc]
                return True
    return False


def _interrupted(
    model: GenerativeModel, x: Tensor, stop: Callable[[Hashable], None]
) -> list[Tensor]:
    """Use a model, and stop once at each place in foreign code and between its calls."""
    reached: set[Hashable] = set()

    def reach(place: Hashable) -> None:
        if place not in reached:
            reached.add(place)
            stop(place)

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        made = frame.f_code.co_filename == "<string>" and frame.f_code.co_name == "__init__"
        if made or not is_foreign(frame.f_code.co_filename):  # made by dataclasses
            return None
        frame.f_trace = step  # before it is asked for instructions, or Python 3.13 gives none
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return step

    def step(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode" and frame.f_lasti in _after_writes(frame.f_code):
            reach((frame.f_code, frame.f_lasti))
        return step

    calls = count()
    before = sys.gettrace()
    # Python 3.12 gives instructions only where a frame had asked for them by then.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(enter)
    try:
        return use(model, x, lambda: reach(next(calls)))
    finally:
        sys.settrace(before)


@cache
def _after_writes(code: CodeType) -> frozenset[int]:
    """The offsets of the instructions that come right after one that may write."""
    instructions = [i for i in dis.get_instructions(code) if i.opname != "CACHE"]
    return frozenset(b.offset for a, b in pairwise(instructions) if a.opname.startswith(WRITES))


def _same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(map(torch.equal, a, b))
