"""The work of ``genrobust check``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from genrobust.data import load_images
from genrobust.data.base import data_at
from genrobust.models import GenerativeModel, ModelCheck, check_model, load_model
from genrobust.models.checks.fidelity import Fidelity, fidelity, say
from genrobust.runner.options import Options
from genrobust.runner.own import as_built, referred

_FORWARD = {
    "equal": "gives what is scored",
    "differs": "gives something else than what is scored; see the warning",
    "no forward": "none, so that nothing tells whether the model is read right",
}


def check_one(
    model: str,
    weights: Path | None,
    dataset: str,
    data: str | None,
    data_root: Path | None,
    batch_size: int | None,
) -> None:
    """Try a model on a few pictures, and print how it was understood."""
    if data is None:
        few = load_images(dataset, "test", data_root).take(range(8))
        with data_at(data_root):
            loaded = load_model(model, dataset, weights, batch_size)
    else:
        reference, options = referred(data, Options(data_root=data_root))
        root = None if options.data_root is None else Path(options.data_root)
        native = reference.native("test", root)
        built = as_built(model, reference, weights, root)
        with data_at(root):
            loaded = load_model(model, built.name, weights, batch_size)
        count = min(8, native.pictures("test", root).count)
        taken, told = replace(native, shape=loaded.input_shape, draw=count).read("test", root)
        print(f"pictures      {count} of '{reference.place}', {told}")
        few = taken.take(range(count))
    found = check_model(loaded, few)
    compared = fidelity(loaded, few)
    say(loaded, compared)
    print("\n".join(_lines_of(loaded, found, compared)))


def _lines_of(loaded: GenerativeModel, found: ModelCheck, compared: Fidelity) -> Iterator[str]:
    yield f"model         {loaded.name}"
    yield f"fingerprint   {loaded.fingerprint()}"
    yield f"images        {' x '.join(map(str, loaded.input_shape))}"
    yield f"latents       {found.latents}"
    yield f"parameters    {loaded.parameters:,}"
    yield f"pixels        {found.lowest:.3f} to {found.highest:.3f}"
    # What is equal needs no word, but by another way than a forward.
    own = compared.what if compared.status == "equal" and not compared.mend else ""
    yield f"forward       {own or _FORWARD.get(compared.status, compared)}"
    if loaded.deploy is not None:
        yield "deployment    a path of its own; attacks differentiate through encode and decode"
    if loaded.draws > 1:
        yield f"draws         {loaded.draws} for each score"
    if loaded.differentiable:
        passed = found.model.straight
        through = f", passed straight through {', '.join(passed)}" if passed else ""
        yield f"gradient      mean norm {found.gradient:.3g} of the squared reconstruction{through}"
    else:
        yield "gradient      none, as declared; the scores will be flagged"
    yield "ready: the checks passed"
