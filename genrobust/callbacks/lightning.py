"""A callback for Lightning's Trainer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from genrobust.callbacks.during import PREFIX, DuringTraining, scores_of
from genrobust.callbacks.monitors import require_measured
from genrobust.errors import GenrobustError, in_a_line

if TYPE_CHECKING:
    from lightning.pytorch import Callback


def lightning_callback(measure: DuringTraining) -> Callback:
    """Measure at the end of training epochs, and log the scores as Lightning logs.

    They reach every logger of the trainer, and ``ModelCheckpoint(monitor="robustness/area")``. Of
    several ranks the first measures, on the whole model, and all have its scores.

    Args:
        measure: what to measure, and how often. With ``model=None`` the LightningModule itself is
            benched: it then has ``encode`` and ``decode``.

    Raises:
        GenrobustError: lightning is not installed. Training raises it before it begins where
            something monitors a score at other times than it is measured, and later, on all ranks,
            where :func:`genrobust.bench` does.

    Example:
        >>> measure = DuringTraining(every_n_epochs=5, model=lambda module: module.vae)
        >>> Trainer(callbacks=[lightning_callback(measure)])  # doctest: +SKIP
    """

    class Robustness(_base()):  # type: ignore[misc]
        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            require_measured(trainer, measure.every_n_epochs)

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            # Lightning keeps the last scores, and would give them for those of this epoch.
            for name in [name for name in trainer.callback_metrics if name.startswith(PREFIX)]:
                del trainer.callback_metrics[name]

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            scores = _of_the_first_rank(trainer, lambda: _measured(measure, trainer, pl_module))
            # Equal on all ranks: their largest is exact, where a mean may round.
            pl_module.log_dict(scores, sync_dist=True, reduce_fx="max")

    return Robustness()


def _measured(measure: DuringTraining, trainer: Any, module: Any) -> dict[str, float]:
    """The scores of this epoch; none where it is not measured."""
    # A module's trainer holds data and optimisers, which are no part of the model.
    module.trainer = None
    try:
        record = measure(module, trainer.current_epoch)
    finally:
        module.trainer = trainer
    return {} if record is None else scores_of(record)


def _of_the_first_rank(trainer: Any, compute: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What the first rank computes, on all: they wait for it, and fail where it fails."""
    found: dict[str, float] = {}
    problem: Exception | None = None
    if trainer.is_global_zero:
        try:
            found = compute()
        except Exception as raised:  # other people's code
            problem = raised
    said = None if problem is None else in_a_line(problem)
    found, said = trainer.strategy.broadcast((found, said))
    if problem is not None:
        raise problem
    if said is not None:
        raise GenrobustError(said)
    return found


def _base() -> type:
    """The Callback of the package that is in use: it goes by two names."""
    names = ("lightning.pytorch", "pytorch_lightning")
    for name in (*(name for name in names if name in sys.modules), *names):
        try:
            found: type = import_module(name).Callback
        except ImportError:
            continue
        return found
    raise GenrobustError(
        "a Lightning callback needs lightning; pip install 'genrobust[lightning]', or call "
        "DuringTraining yourself: measure(module, epoch)"
    )
