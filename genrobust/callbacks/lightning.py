"""A callback for Lightning's Trainer."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from genrobust.callbacks.during import DuringTraining, scores_of
from genrobust.errors import GenrobustError

if TYPE_CHECKING:
    from lightning.pytorch import Callback


def lightning_callback(measure: DuringTraining) -> Callback:
    """Measure at the end of training epochs, and log the scores as Lightning logs.

    They reach every logger of the trainer, and ``ModelCheckpoint(monitor="robustness/area")``.

    Args:
        measure: what to measure, and how often. With ``model=None`` the LightningModule itself is
            benched: it then has ``encode`` and ``decode``.

    Raises:
        GenrobustError: lightning is not installed.

    Example:
        >>> measure = DuringTraining(every_n_epochs=5, model=lambda module: module.vae)
        >>> Trainer(callbacks=[lightning_callback(measure)])  # doctest: +SKIP
    """

    class Robustness(_base()):  # type: ignore[misc]
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if not trainer.is_global_zero:
                return
            # A module's trainer holds data and optimisers, which are no part of the model.
            pl_module.trainer = None
            try:
                record = measure(pl_module, trainer.current_epoch)
            finally:
                pl_module.trainer = trainer
            if record is not None:
                pl_module.log_dict(scores_of(record), rank_zero_only=True)

    return Robustness()


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
