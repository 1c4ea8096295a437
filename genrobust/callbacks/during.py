"""Bench a model every few epochs of its training."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from genrobust.arguments import whole
from genrobust.benchmarking import bench
from genrobust.errors import GenrobustError, unknown_name
from genrobust.models.model import GenerativeModel
from genrobust.models.wrapping import left_as_it_was
from genrobust.records.record import Record
from genrobust.suites.suite import Suite

#: Is told the record of an epoch.
Log = Callable[[Record, int], None]

#: Sources that are attacked: few, so that training does not wait long.
SOURCES = 20

#: What the names begin with under which scores are logged.
PREFIX = "robustness/"

#: Options that say what suite is drawn of pictures.
_OF_A_DRAWN_SUITE = {"sources", "eps", "judge", "rule"}


class DuringTraining:
    """Bench a model during training, on few sources; training goes on as if it had not been.

    The process's random generators are put back, and so is the module: the modes, buffers and
    attributes of its parts, generators among them, and what wants a gradient. What its code writes
    into weights, or within a list, a dictionary or another object, stays.

    Scores of few sources have wide intervals and a flag that says so: they show a trend, and the
    last model is benched in full. Of ``data`` a suite is drawn once, for the model that is measured
    first: all later ones are attacked on the same pictures at the same radii. Where that model has
    hardly been trained, its radii tell little of the others; give them with ``eps``.

    Args:
        suite: as for :func:`genrobust.bench`; default ``"digits"``.
        every_n_epochs: after how many epochs each.
        sources: how many are attacked: the suite's first, or as many of ``data``.
        model: from the module that trains to the model in it, such as ``lambda module: module.vae``
            or one that ends in :func:`genrobust.wrap`; default the module itself.
        log: who is told, such as :func:`genrobust.callbacks.to_tensorboard`.
        options: further ones of :func:`genrobust.bench`, such as ``attacks=["latent"]``,
            ``data=...`` in place of ``suite``, or ``workers=1``. The device is the module's own.

    Raises:
        GenrobustError: an option that bench does not have; a number below 1; a model or a log
            that is no function.

    Example:
        >>> import genrobust
        >>> from genrobust.callbacks import DuringTraining
        >>> measure = DuringTraining(sources=2, attacks=["noise"], every_n_epochs=2)
        >>> module = genrobust.load_model("vae").module
        >>> measure(module, 0) is None  # after the first epoch
        True
        >>> record = measure(module, 1)
        >>> list(measure.records)
        [1]
    """

    def __init__(
        self,
        suite: Any = None,
        *,
        every_n_epochs: int = 1,
        sources: int = SOURCES,
        model: Callable[[Any], nn.Module | GenerativeModel] | None = None,
        log: Log | Sequence[Log] = (),
        **options: Any,
    ) -> None:
        for name, value in {"every_n_epochs": every_n_epochs, "sources": sources}.items():
            if whole(name, value) < 1:
                raise GenrobustError(f"{name} is {value}; give 1 or more")
        known = inspect.signature(bench).parameters.keys() - {"model", "suite", "sources", "limit"}
        for name in options:
            if name not in known:
                raise unknown_name("option of bench", name, sorted(known))
        few = {"limit" if options.get("data") is None else "sources": sources}
        self._options: dict[str, Any] = {"suite": suite, **few, **options}
        #: After how many epochs each it measures.
        self.every_n_epochs = every_n_epochs
        if model is not None and not callable(model):
            raise GenrobustError(
                f"model is a {type(model).__name__}; give a function from the module that trains "
                "to the model in it, such as model=lambda module: module.vae"
            )
        logs = (log,) if callable(log) else log
        if not isinstance(logs, Sequence) or not all(callable(one) for one in logs):
            raise GenrobustError(
                f"log is a {type(log).__name__}; give a function of record and epoch, or several, "
                "such as log=to_tensorboard('runs/mine')"
            )
        self._model = model or (lambda module: module)
        self._log = tuple(logs)
        #: What was measured, by the epoch.
        self.records: dict[int, Record] = {}

    def __call__(self, module: nn.Module, epoch: int) -> Record | None:
        """Bench, if it is time to.

        Args:
            module: what trains.
            epoch: the one that has just ended, from 0.

        Returns:
            The record; None where it was not measured.

        Raises:
            GenrobustError: as :func:`genrobust.bench`; no module, or an epoch that is no number.
        """
        epoch = whole("epoch", epoch, 0)
        if not isinstance(module, nn.Module):
            raise GenrobustError(
                f"module is a {type(module).__name__}; give the torch module that trains, of what "
                "genrobust.wrap gave its .module"
            )
        if (epoch + 1) % self.every_n_epochs:
            return None
        weight = next(module.parameters(), None)
        options = dict(self._options)
        if weight is not None:
            options.setdefault("device", str(weight.device))
        with left_as_it_was(module):  # also what wrap() does to it
            record = bench(self._model(module), **options)
        if options.get("data") is not None:
            self._go_on_with(record.suite)
        self.records[epoch] = record
        for log in self._log:
            log(record, epoch)
        return record

    def _go_on_with(self, suite: Suite) -> None:
        """Scores compare between epochs: what a drawn suite holds is not asked for again."""
        asked = {k: v for k, v in self._options.items() if k not in _OF_A_DRAWN_SUITE}
        self._options = {**asked, "suite": suite}


def scores_of(record: Record) -> dict[str, float]:
    """A record's scores by the names under which they are logged.

    Example:
        >>> import genrobust
        >>> list(scores_of(genrobust.bench("vae", limit=2, eps=[0.1], attacks=["noise"])))[:2]
        ['robustness/clean_accuracy', 'robustness/accuracy_eps_0.1']
    """
    scores = record.scores
    found = {"clean_accuracy": scores.clean_accuracy.value}
    found |= {f"accuracy_eps_{at.eps:g}": at.robust_accuracy.value for at in scores.per_eps}
    if scores.robust_area is not None:
        found["area"] = scores.robust_area.value
    found["flags"] = float(len(record.flags))
    return {PREFIX + name: value for name, value in found.items()}
