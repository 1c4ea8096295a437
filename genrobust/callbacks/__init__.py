"""Robustness while a model trains: measured every few epochs, and logged beside the losses."""

from genrobust.callbacks.during import DuringTraining, scores_of
from genrobust.callbacks.lightning import lightning_callback
from genrobust.callbacks.loggers import to_tensorboard, to_wandb

__all__ = ["DuringTraining", "lightning_callback", "scores_of", "to_tensorboard", "to_wandb"]
