"""The work of ``genrobust check``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from genrobust.cli.suite import loaded_on
from genrobust.models import GenerativeModel, ModelCheck, check_model
from genrobust.models.checks.fidelity import Fidelity, fidelity, say

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
    loaded, few = loaded_on(model, weights, dataset, data, data_root, batch_size)
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
        yield f"gradient      mean norm {found.gradient:.3g} of the squared reconstruction"
    else:
        yield "gradient      none, as declared; the scores will be flagged"
    yield "ready: the checks passed"
