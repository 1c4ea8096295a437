"""Where scores go: TensorBoard, and Weights & Biases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrobust import drawing
from genrobust.callbacks.during import Log, scores_of
from genrobust.errors import GenrobustError
from genrobust.records.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PICTURES = "robustness/examples"


def to_tensorboard(writer: Any) -> Log:
    """Scores as scalars and the first sources as pictures, by epoch.

    Args:
        writer: a ``torch.utils.tensorboard.SummaryWriter``, or a folder for a new one.

    Raises:
        GenrobustError: tensorboard is not installed; it is neither.

    Example:
        >>> from genrobust.callbacks import DuringTraining
        >>> measure = DuringTraining(log=to_tensorboard("runs/mine"))  # doctest: +SKIP
    """
    if isinstance(writer, (str, Path)):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as problem:
            raise _lacking("TensorBoard", "tensorboard") from problem
        writer = SummaryWriter(str(writer))
    if not hasattr(writer, "add_scalar"):
        raise GenrobustError(
            f"writer is a {type(writer).__name__}; give a SummaryWriter, or a folder such as "
            "to_tensorboard('runs/mine')"
        )

    def log(record: Record, epoch: int) -> None:
        for name, value in scores_of(record).items():
            writer.add_scalar(name, value, epoch)
        figure = _pictures(record)
        if figure is not None:
            writer.add_figure(_PICTURES, figure, epoch)
        writer.flush()

    return log


def to_wandb(run: Any = None) -> Log:
    """Scores and the first sources as pictures, beside ``epoch``.

    Args:
        run: what ``wandb.init`` gave; default the one in progress.

    Raises:
        GenrobustError: wandb is not installed, no run is in progress, or it is none.

    Example:
        >>> from genrobust.callbacks import DuringTraining
        >>> measure = DuringTraining(log=to_wandb(wandb.init()))  # doctest: +SKIP
    """
    try:
        import wandb
    except ImportError as problem:
        raise _lacking("Weights & Biases", "wandb") from problem
    run = wandb.run if run is None else run
    if run is None:
        raise GenrobustError("no run of wandb is in progress; call wandb.init() before")
    if not hasattr(run, "log"):
        raise GenrobustError(
            f"run is a {type(run).__name__}; give what wandb.init gave, such as "
            "to_wandb(wandb.init())"
        )

    def log(record: Record, epoch: int) -> None:
        figure = _pictures(record)
        pictures = {} if figure is None else {_PICTURES: wandb.Image(figure)}
        run.log({**scores_of(record), **pictures, "epoch": epoch})

    return log


def _pictures(record: Record) -> Figure | None:
    """A figure that pyplot does not keep; None where no source is eligible."""
    if not record.scores.eligible:
        return None
    return record.plot_examples(figure=drawing.blank(10, 5))


def _lacking(what: str, package: str) -> GenrobustError:
    return GenrobustError(f"logging to {what} needs {package}; pip install 'genrobust[{package}]'")
