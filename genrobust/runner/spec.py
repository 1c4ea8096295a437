"""What a run is prepared from, as plain data."""

from __future__ import annotations

from genrobust.runner.options import Options
from genrobust.suites.suite import Frozen, Suite


class RunSpec(Frozen):
    """All that another process needs to prepare a run too, and to see that it is the same run.

    Args:
        model: its name or place.
        suite: as it was given, before the options changed it.
        options: likewise.
        identity: see :class:`~genrobust.runner.prepare.Prepared`.
        home: the folder that relative paths in the others start from.
    """

    model: str
    suite: Suite
    options: Options
    identity: str
    home: str
