"""What an attack of others is given stays as it was; one that changes it is refused.

The attacks and scores of a process share model, judges and reference images. One that is trained or
rescaled in place would be what all that comes later attacks or asks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from genrobust.batch import Context
from genrobust.errors import GenrobustError, a_few, ran_out_of_memory
from genrobust.models.checks.state import use
from genrobust.models.reading.kept import Held, Manner, Numbers
from genrobust.seeding import generators_kept


@contextmanager
def unchanged(who: str, context: Context) -> Iterator[None]:
    """Put back what a search was given, and refuse one that has changed it.

    Args:
        who: whose search it is, such as ``"the attack 'mine'"``.
        context: what it is given.

    Raises:
        GenrobustError: it changed its sources, labels, targets, references, judge or model, also
            where this made the judge or the model fail.
    """
    codes, problem, fault = context.batch.codes, None, None
    known = dict(codes or {})
    with ExitStack() as stack:
        things = [stack.enter_context(_noted(thing, who)) for thing in _things(context)]
        try:
            yield
        except BaseException as raised:
            problem = raised
        if codes is not None:  # what the search has added may be rescaled too
            codes.clear()
            codes.update(known)
        if changed := [(thing, names) for thing in things if (names := thing.put_back())]:
            fault = _fault(changed)  # while it is known which searches run
    follows = isinstance(problem, GenrobustError) and not ran_out_of_memory(problem)
    if fault is not None and (problem is None or follows):
        raise fault from problem
    if problem is not None:
        raise problem


def _fault(changed: list[tuple[_Thing, list[str]]]) -> GenrobustError:
    who = " or ".join(dict.fromkeys(name for thing, _ in changed for name in thing.searches))
    whats = " and ".join(f"its {thing.name}{_told(thing, names)}" for thing, names in changed)
    copies = " and ".join(dict.fromkeys(thing.copy for thing, _ in changed))
    return GenrobustError(f"{who} changed {whats}; let it work on {copies}")


def _told(thing: _Thing, names: list[str]) -> str:
    if isinstance(thing.item, Tensor):
        return ""
    return f" ({a_few(names)})"


@dataclass(eq=False)
class _Thing:
    """Something that searches are given, as it was before the first of those that run on it now.

    Args:
        name: what it is to a search.
        copy: how to write a copy of it.
        item: what is given.
        use: has it used as it is meant to be, when it may write to itself.
    """

    name: str
    copy: str
    item: nn.Module | Tensor
    use: Callable[[], object] = lambda: None
    #: Whose searches run on it now; any of them may have changed it.
    searches: list[str] = field(default_factory=list)
    _kept: list[Numbers | Held | Manner] = field(default_factory=list)

    def note(self) -> None:
        """Note how it is."""
        if isinstance(self.item, Tensor):
            self._kept = [Numbers([(self.name, self.item)])]
        else:
            self._kept = [Manner(self.item), Held(self.item)]

    def put_back(self) -> list[str]:
        """Put it back; the names of what searches have changed of it."""
        changed = self._put_back()
        if not changed:
            return []
        self.use()
        own = self._put_back()
        return [name for name in changed if name not in own]

    def _put_back(self) -> list[str]:
        return [name for kept in self._kept for name in kept.put_back()]


_LOCK = threading.Lock()
_NOTED: dict[int, _Thing] = {}


@contextmanager
def _noted(thing: _Thing, who: str) -> Iterator[_Thing]:
    """The thing as it was noted, also by searches in other threads: these may have changed it."""
    key = id(thing.item)
    with _LOCK:
        if key not in _NOTED:
            thing.note()
            _NOTED[key] = thing
        noted = _NOTED[key]
        noted.searches.append(who)
    try:
        yield noted
    finally:
        with _LOCK:
            noted.searches.remove(who)
            if not noted.searches:
                del _NOTED[key]


def _things(context: Context) -> Iterator[_Thing]:
    batch, model = context.batch, context.model
    some = batch.x[:2].clone()

    def used(call: Callable[[], object]) -> Callable[[], None]:
        def act() -> None:
            with generators_kept(some.device), torch.no_grad():
                call()

        return act

    yield _Thing(
        "model", "copy.deepcopy(context.model.module)", model.module, used(lambda: use(model, some))
    )
    judge = batch.judge
    if judge is not None:
        own = "copy.deepcopy(context.batch.judge.module)"
        yield _Thing("judge", own, judge.module, used(lambda: judge.logits(some)))
    tensors = [
        ("sources", "x.clone()", batch.x),
        ("labels", "labels.clone()", batch.labels),
        ("targets", "target_x.clone()", batch.target_x),
        ("target labels", "target_labels.clone()", batch.target_labels),
        *(("references", "clones of them", tensor) for tensor in batch.references or ()),
        *(("references' codes", "a clone", tensor) for tensor in (batch.codes or {}).values()),
    ]
    for name, copy, tensor in tensors:
        if tensor is not None:
            yield _Thing(name, copy, tensor)
