"""What of a Lightning training looks at scores, and when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from genrobust.callbacks.during import PREFIX
from genrobust.errors import GenrobustError


class _Monitor(NamedTuple):
    who: str
    #: The name of what it looks at.
    what: str
    #: After how many epochs each; 0 where it looks after steps.
    every: int
    #: How it is told to, with a place for the number; nothing where it looks after each.
    setting: str = ""


def require_measured(trainer: Any, every: int) -> None:
    """Require that what looks at a score does so where it is measured, after so many epochs each.

    Raises:
        GenrobustError: something would find none, or that of an earlier epoch.
    """
    for monitor in _monitors(trainer):
        if not monitor.what.startswith(PREFIX) or (monitor.every and not monitor.every % every):
            continue
        own = [f"it {monitor.setting.format(every)}"] if monitor.setting else []
        ours = ["DuringTraining every_n_epochs=1"] if every > 1 else []
        raise GenrobustError(
            f"{monitor.who} looks at '{monitor.what}' {_times(monitor.every)}, and DuringTraining "
            f"measures it {_times(every)}; give {', or '.join(own + ours)}"
        )


def _times(every: int) -> str:
    if not every:
        return "after steps"
    return f"after every {every} epochs" if every > 1 else "after every epoch"


def _monitors(trainer: Any) -> Iterator[_Monitor]:
    """Callbacks, and schedules of the learning rate that wait for a plateau."""
    for callback in trainer.callbacks:
        monitor = _Monitor(type(callback).__name__, str(getattr(callback, "monitor", "")), 1)
        every = getattr(callback, "every_n_epochs", None)
        if every is not None:
            monitor = monitor._replace(every=every, setting="every_n_epochs={}")
        yield monitor
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau:
            every = config.frequency if config.interval == "epoch" else 0
            setting = "'interval': 'epoch', 'frequency': {}"
            yield _Monitor(type(config.scheduler).__name__, config.monitor, every, setting)
