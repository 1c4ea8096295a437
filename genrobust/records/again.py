"""What to do where a file of a run is gone: measure again what is missing."""

from __future__ import annotations

import json
from pathlib import Path

from genrobust import files

#: What a run's folder says of it.
PLAN = "plan.json"


def again(folder: Path, command: str) -> str:
    """What gives a run's folder its files back, to type or to call.

    Args:
        folder: of the run.
        command: what the record says repeats it, on any machine.

    Example:
        >>> again(Path("copied"), "genrobust bench --model vae")
        "measure it again by 'genrobust bench --model vae', and load the record from the folder ...
    """
    planned = _planned(folder)
    if planned is None:
        return f"measure it again by '{command}', and load the record from the folder that it names"
    if "--out" in planned.split():
        return f"type its command again, which does what is missing: {planned}"
    function = "minimum_norm" if planned.startswith("genrobust curve") else "bench"
    return (
        f"call genrobust.{function} again as it was called, with out='{folder}', which does what "
        f"is missing (as a command that is '{planned}')"
    )


def _planned(folder: Path) -> str | None:
    """The command in a run's plan: it says more of this machine than a record may."""
    try:
        return str(json.loads(files.read_text(folder / PLAN))["command"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
