"""A case beside what genrobust reads: right as it is, told, refused or misread."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import genrobust
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.models import GenerativeModel
from genrobust.models.inputs import probe_images
from genrobust.posterior import Gaussian
from styles.case import Case


@dataclass(frozen=True)
class Row:
    """What came of a case."""

    name: str
    read: str
    difference: float | None
    lines: str
    mended: float | None
    said: str

    @property
    def silent(self) -> bool:
        return self.read == "MISREAD"

    @property
    def false_alarm(self) -> bool:
        return self.read == "false alarm"


def measured(case: Case) -> Row:
    """Wrap it as it is, and as the line says, and compare each with the truth."""
    torch.manual_seed(0)
    module = case.build()
    for part in module if isinstance(module, tuple) else (module,):
        part.eval()
    as_is, said = _wrapped(case, module, "")
    difference = None if as_is is None else _difference(case, module, as_is)
    right = difference is not None and difference <= _allowed(module)
    warned = "may be misread" in said
    if as_is is None:
        read = "refused"
    elif right:
        read = "false alarm" if warned else "as is"
    else:
        read = "warned" if warned else "MISREAD"
    mended, lines = None, ""
    if read != "as is" and case.mend:
        model, again = _wrapped(case, module, case.mend)
        mended = None if model is None else _difference(case, module, model)
        lines = case.mend if "may be misread" not in again else f"{case.mend} (warned again)"
    return Row(case.name, read, difference, lines, mended, said)


def _allowed(module: Any) -> float:
    half = any(p.dtype in (torch.float16, torch.bfloat16) for m in _parts(module) for p in m)
    return 0.05 if half else 1e-4


def _parts(module: Any) -> list[Iterator[nn.Parameter]]:
    return [m.parameters() for m in (module if isinstance(module, tuple) else (module,))]


def _wrapped(case: Case, module: Any, more: str) -> tuple[GenerativeModel | None, str]:
    """The model, and what was said; warnings of a misreading begin with those words."""
    scope = {"module": module, "reduce": reduce, "torch": torch, "F": F, "math": __import__("math")}
    scope["genrobust"] = genrobust
    given = {
        key: eval(value, scope) if isinstance(value, str) else value
        for key, value in case.wrap.items()
    }
    given |= eval(f"dict({more})", scope)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = genrobust.wrap(module, **given)
        except GenrobustError as problem:
            return None, str(problem)
    said = [str(w.message) for w in caught if issubclass(w.category, GenrobustWarning)]
    return model, "; ".join(said)


def _difference(case: Case, module: Any, model: GenerativeModel) -> float:
    """The largest difference to the truth, of pictures and of log-variances."""
    x = probe_images(model.input_shape, 6)
    low, high = model.spec["value_range"]
    precision = next(iter(_parts(module)[0])).dtype
    own = (x * (high - low) + low).to(precision)
    with torch.no_grad():
        torch.manual_seed(1)
        picture = (case.truth(module, own).float() - low) / (high - low)
        torch.manual_seed(1)
        found = [replace(model, clamp=False).reconstruct(x) - picture]
        part = model.encode(x).parts[0]
        if case.logvar is not None:
            logvar = case.logvar(module, own)
            if isinstance(part, Gaussian):
                found.append(part.logvar - logvar)
            elif part.mode().numel() == 2 * logvar.numel():  # the mean and it side by side
                found.append(torch.tensor(torch.inf))
    return max(float(f.abs().max()) for f in found)
