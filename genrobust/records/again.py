"""What to do where a run, or a file of it, is not whole: measure again what is missing."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from genrobust import files
from genrobust._version import __version__

#: What a run's folder says of it.
PLAN = "plan.json"


@dataclass(frozen=True)
class Onward:
    """How a run goes on in its folder.

    Args:
        words: what to do.
        command: what to type, where a command leads to that folder.
    """

    words: str
    command: str | None = None


def onward(
    folder: Path, planned: str, begun: Path | None = None, version: str = __version__
) -> Onward:
    """How a run goes on in its folder, which may have been moved, copied or mounted elsewhere.

    Args:
        folder: where it lies now.
        planned: the command of its plan.
        begun: where it lay when that was written; None in plans that do not say it.
        version: of genrobust, that began it: another one does not take its shards.

    Example:
        >>> command, begun = "genrobust bench --model vae --out /old", Path("/old/digits-v2/vae")
        >>> onward(Path("/new/digits-v2/vae"), command, begun).command
        'genrobust bench --model vae --out /new'
    """
    if version != __version__:
        return Onward(
            f"install genrobust {version}, which began it (here is {__version__}), or measure it "
            f"anew, in another folder: {planned}"
        )
    words = shlex.split(planned)
    if "--out" not in words:
        function = "minimum_norm" if words[1:2] == ["curve"] else "bench"
        return Onward(
            f"call genrobust.{function} again as it was called, with out='{folder}', which does "
            f"what is missing (as a command that is '{planned}')"
        )
    here = folder.resolve()
    if begun is not None and begun.resolve() != here:
        out = Path(words[words.index("--out") + 1])
        tail = begun.relative_to(out) if begun.is_relative_to(out) else begun
        depth = len(tail.parts)
        if here.parts[-depth:] != tail.parts:
            return Onward(
                f"move '{folder}' to a path that ends in '{tail}', as '{begun}' does, where it was "
                "begun and where its command leads; 'genrobust status' then says what to type"
            )
        planned = shlex.join(_moved(word, out, here.parents[depth - 1]) for word in words)
    return Onward(f"type its command again, which does what is missing: {planned}", planned)


def again(folder: Path, command: str) -> str:
    """What gives a run's folder its files back, to type or to call.

    Args:
        folder: of the run.
        command: what the record says repeats it, on any machine.

    Example:
        >>> again(Path("copied"), "genrobust bench --model vae")
        "measure it again by 'genrobust bench --model vae', and load the record from the folder ...
    """
    try:
        plan = json.loads(files.read_text(folder / PLAN))
        version = str(plan["shards"][0]["genrobust"])
        return onward(folder, str(plan["command"]), begun_in(plan), version).words
    except (OSError, ValueError, TypeError, LookupError):
        return f"measure it again by '{command}', and load the record from the folder that it names"


def begun_in(plan: dict[str, object]) -> Path | None:
    """Where a run's folder lay when its plan was written."""
    return Path(str(plan["folder"])) if "folder" in plan else None


def _moved(word: str, out: Path, moved: Path) -> str:
    """A word of the command: what lay in the folder for results may have moved with it."""
    path = Path(word)
    if path == out:
        return str(moved)
    there = moved / path.relative_to(out) if path.is_relative_to(out) else path
    return str(there) if there != path and there.exists() else word
