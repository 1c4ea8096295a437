"""Read what encoders of other libraries return.

Each form is recognised by its own mark, never by the library's name. What has no mark of its own is
tried (:class:`Reader`) or refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from operator import itemgetter
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch import distributions as D

from genrobust.errors import GenrobustError
from genrobust.models.reading.distributions import approximation, mean_of, part_of
from genrobust.models.reading.kinds import SPREADS, Spread
from genrobust.models.reading.outputs import at, describe, fields, get, plain
from genrobust.posterior import Categorical, Gaussian, Part, Point, Posterior

FORMS = (
    "(mean, logvar), {'cont': [mean, logvar], 'disc': [probabilities]}, a dictionary or an object "
    "with mean or mu beside logvar, log_var or std, one with latent_dist or latents, a ModelOutput "
    "with embedding, a torch.distributions object, a tensor, a genrobust Posterior, one of its "
    "parts, or a list of these (decode then takes a list)"
)

#: The names under which a mean is held, and a spread: as which power of the standard deviation, and
#: whether as its logarithm.
_MEANS = ("mean", "mu", "z_mean", "z_mu", "loc", "means")
_SPREADS: dict[str, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys(("logvar", "log_var", "log_variance", "z_logvar", "z_log_var"), lambda s: s),
    **dict.fromkeys(("log_covariance", "log_sigma2", "logvars"), lambda s: s),
    **dict.fromkeys(("ln_var", "log_sigma_sq", "log_sigma_squared"), lambda s: s),
    **dict.fromkeys(("log_std", "logstd", "log_sigma", "log_scale"), lambda s: 2 * s),
    **dict.fromkeys(("std", "sigma", "stddev", "scale", "z_std"), lambda s: 2 * s.log()),
    **dict.fromkeys(("var", "variance", "sigma2"), lambda s: s.log()),
}
#: The names of a code without a spread.
_POINTS = ("latents", "latent", "z", "code")

#: How often an encoder is tried whose output does not say what it holds.
TRIALS = 32

#: How far from 1 the sum of probabilities in half precision may be.
_SUMS = 0.02

#: By what factor the spread of its samples may be off, over all trials together.
_SPREAD = 4 / 3
#: How many times what chance makes of it the squared error of the logarithms of spreads may be,
#: and how many times the least of several.
_FITS, _ALIKE = 3, 1.2
#: How many standard errors the mean of its samples may be off, as root mean square.
_ERRORS = 3


class SeveralCodesError(GenrobustError):
    """The encoder gave several tensors, of which no two are a mean and a log-variance."""


class DrawnError(GenrobustError):
    """What the encoder draws says what of its output is what, and it is no log-variance."""


class Reader:
    """Reads what one encoder returns, each time in the same way.

    A sequence of three or more tensors, such as (z, mean, logvar), does not say what is what. Which
    is the sample can be told where it is drawn anew each time, or is the mean itself; else the
    sequence is refused. What was found holds for all batches.

    Args:
        try_once: gives an output of the encoder, each time for the same images.
        say: is told how a sequence was understood, once.

    Example:
        >>> mean, logvar = torch.randn(5, 3), torch.zeros(5, 3)
        >>> read = Reader(lambda: (mean, mean, logvar), print)
        >>> read((mean, mean, logvar)).parts[0].logvar is logvar
        of the 3 that the encoder returns, number 1 is read as the mean and number 3 as the \
log-variance; if that is wrong, pass encode=, a function that returns (mean, logvar)
        True
    """

    def __init__(self, try_once: Callable[[], Any], say: Callable[[str], None]) -> None:
        self._try_once, self._say, self._told = try_once, say, False
        self._shapes: list[torch.Size] | None = None
        self._named: tuple[str, str] | tuple[()] | None = None

    def __call__(self, output: Any) -> Posterior:
        """The posterior in what the encoder returned.

        Raises:
            GenrobustError: the form is not one of ``FORMS``, or cannot be told.
        """
        layers = _layers(output)
        if layers is not None:
            if not self._told:
                for i, layer in enumerate(output):
                    self._require_its_code(layer, itemgetter(i))
            self._told = True
            self._shapes = [layer.mode().shape[1:] for layer in layers]
            return Posterior(tuple(part for layer in layers for part in layer.parts))
        if not self._told:
            require_probabilities(output)
        output = _by_names(output)
        if isinstance(output, (tuple, list)) and len(output) > 2:
            i, j = self._places
            return Posterior((_gaussian(output[i], output[j]),))
        if (pair := self._drawn_beside(output)) is not None:
            return Posterior((_gaussian(*(get(output, name) for name in pair)),))
        posterior = posterior_of(output)
        if not self._told:
            self._require_its_code(output)
        if not self._told and (words := approximated(output)):
            self._say(words)
        self._told = True
        return posterior

    def for_decoder(self, code: Tensor) -> Any:
        """What the decoder takes: for an encoder that gave a list of layers, a list of codes."""
        if self._shapes is None:
            return code
        pieces = code.flatten(1).split([shape.numel() for shape in self._shapes], 1)
        shaped = zip(pieces, self._shapes, strict=True)
        return [piece.reshape(-1, *shape) for piece, shape in shaped]

    def _require_its_code(self, output: Any, layer: Callable[[Any], Any] | None = None) -> None:
        """A code beside a posterior must be its mean, or drawn from it.

        Args:
            output: what holds the two.
            layer: takes it from all that the encoder returned, which is a list of such; None where
                it is all.

        Raises:
            GenrobustError: it is neither, as beside a prior that is not called so, or as what a
                flow or rounding makes of the mean.
        """
        marks, held = _marks(output), _held(output, _POINTS)
        if len(marks) != 1 or not held or marks not in (["mean"], _distributions(output)):
            return
        (mark,), name = marks, held[0]
        if _is_middle(get(output, name), output, mark) or self._is_drawn(name, layer):
            return
        what = f"the mean of '{mark}'"
        if mark == "mean":
            what = f"'{_held(output, _MEANS)[0]}'"
        code, whole = _either(output, name, mark, listed=layer is not None)
        raise GenrobustError(
            f"the encoder returned {'a list with ' if layer else ''}{describe(output)}, in which "
            f"'{name}' is neither {what} nor drawn from it; pass encode=lambda x: {code} if that "
            f"is the code, or encode=lambda x: {whole} if that is"
        )

    def _is_drawn(self, name: str, layer: Callable[[Any], Any] | None) -> bool:
        """Whether a code is another one each time, and of a Gaussian about its mean."""

        def once() -> Any:
            return self._try_once() if layer is None else layer(self._try_once())

        outputs = [once(), once()]
        if torch.equal(*(get(output, name) for output in outputs)):
            return False
        outputs += [once() for _ in range(TRIALS - len(outputs))]
        codes = torch.stack([get(output, name) for output in outputs])
        (part, *_) = posterior_of(outputs[0]).parts
        if not isinstance(part, Gaussian) or codes[0].shape != part.mean.shape:
            return True
        return _is_about(codes.double(), part.mean.double())

    @cached_property
    def _places(self) -> tuple[int, int]:
        outputs = [self._try_once()]
        if _rivals(outputs[0]) == [0, 1]:
            return 0, 1
        outputs += [self._try_once() for _ in range(TRIALS - 1)]
        mean, logvar = places_of(outputs)
        self._say_which(len(outputs[0]), f"number {mean + 1}", f"number {logvar + 1}")
        return mean, logvar

    def _drawn_beside(self, output: Any) -> tuple[str, str] | None:
        """Under which names the mean and the log-variance are from which the code there is drawn.

        None where it is not drawn, or of names that say what they are.
        """
        if self._named is None:
            names = _unnamed_beside(output)
            self._named = self._drawn_from(output, names) if len(names) > 2 else ()
        return self._named or None

    def _drawn_from(self, output: Any, names: list[str]) -> tuple[str, str] | tuple[()]:
        def once() -> list[Any]:
            tried = self._try_once()
            return [get(tried, name) for name in names]

        rows = [once(), once()]
        if torch.equal(rows[0][0], rows[1][0]):  # nothing says which are what
            return ()
        rows += [once() for _ in range(TRIALS - len(rows))]
        mean, logvar = places_of(rows, [at(output, name) for name in names])
        pair = names[mean], names[logvar]
        self._say_which(len(names), *map(repr, pair))
        return pair

    def _say_which(self, count: int, mean: str, logvar: str) -> None:
        self._say(
            f"of the {count} that the encoder returns, {mean} is read as the mean and {logvar} as "
            "the log-variance; if that is wrong, pass encode=, a function that returns (mean, "
            "logvar)"
        )


def places_of(
    outputs: Sequence[Sequence[Any]], written: Sequence[str] | None = None
) -> tuple[int, int]:
    """Where the mean and the log-variance are in what an encoder returned for the same images.

    Args:
        outputs: of several calls.
        written: how each place is written behind the output; default by its number.

    Raises:
        GenrobustError: that cannot be told.
    """
    first = outputs[0]
    rivals = _rivals(first)
    if len(rivals) < 3 or len({first[i].shape for i in rivals}) > 1:
        raise _untold(first)
    moving = [i for i in rivals if any(not torch.equal(o[i], first[i]) for o in outputs[1:])]
    steady = [i for i in rivals if i not in moving]
    twins = {i: [j for j in steady if torch.equal(first[i], first[j])] for i in steady}
    kinds = [i for i in steady if twins[i][0] == i]
    if len(kinds) != 2:
        raise _untold(first)
    mean, logvar = kinds
    if len(twins[logvar]) > 1:  # the sample is the mean, so what there is two of is the mean
        mean, logvar = logvar, mean
    if len(twins[logvar]) > 1 or not (len(twins[mean]) > 1 or moving):
        raise _untold(first)
    if moving and (wrong := _drawn_otherwise(outputs, moving[0], mean, logvar)):
        i, j, kind = wrong
        one, other = (f"o{written[k] if written else f'[{k}]'}" for k in (i, j))
        raise DrawnError(
            f"the encoder draws its code about {one} of its output o with {other} as {kind.name}, "
            f"and genrobust takes (mean, logvar); pass encode=lambda x: (lambda o: ({one}, "
            f"{kind.logvar.format(other)}))(module.encode(x))"
        )
    if not all(_drawn_from(outputs, z, mean, logvar) for z in moving):
        raise _untold(first)
    return mean, logvar


def _drawn_otherwise(
    outputs: Sequence[Sequence[Any]], z: int, one: int, other: int
) -> tuple[int, int, Spread] | None:
    """About which of two samples lie, and of what kind the other is; None of (mean, logvar), or
    where nothing fits."""
    samples = torch.stack([o[z].double() for o in outputs])
    drawn = samples.std(0).log()

    def misfit(mean: int, spread: int, kind: Spread) -> float:
        if not _is_about(samples, outputs[0][mean].double()):
            return torch.inf
        apart = drawn - kind.std(outputs[0][spread].double()).log()
        return float(apart.square().mean().nan_to_num(torch.inf))

    ways = [(i, j, kind) for i, j in ((one, other), (other, one)) for kind in SPREADS]
    errors = [misfit(*way) for way in ways]
    least, chance = min(errors), 0.5 / (len(outputs) - 1)
    # The first way is how it is read.
    if least > _FITS * chance or errors[0] <= _FITS * least:
        return None
    # Of kinds that are as one where numbers are small, the likelier stands first.
    return next(w for w, error in zip(ways, errors, strict=True) if error <= _ALIKE * least)


def posterior_of(output: Any) -> Posterior:
    """The posterior in what an encoder returned, where its form says what it holds.

    Raises:
        GenrobustError: the form is not one of ``FORMS``.
    """
    if isinstance(output, Posterior):
        return output
    if isinstance(output, Part):
        return Posterior((output,))
    if isinstance(output, D.Distribution):
        return Posterior((part_of(output),))
    if isinstance(output, Tensor):
        return Posterior((Point(plain(output, "the encoder")),))
    marks = _marks(output)
    if len(marks) > 1:
        raise GenrobustError(
            f"the encoder returned {describe(output)}, which holds more than one posterior "
            f"({' and '.join(map(str, marks))}); {_DO}, such as encode=lambda x: "
            f"{_taken(marks[0], output)}"
        )
    if marks and isinstance(told := get(output, marks[0]), D.Distribution):
        return posterior_of(told)
    if marks:
        return _READERS.get(marks[0], _of_point)(output)
    if isinstance(output, (tuple, list)):
        return _of_sequence(output)
    held = [value for value in _but_priors(output).values() if _is_posterior(value)]
    if len(held) == 1:
        return posterior_of(held[0])
    line = _of_layers(output) or _of_pair(output)
    raise GenrobustError(
        f"the encoder returned {describe(output)}; "
        + (f"pass {line}" if line else f"known are {FORMS}; {_DO}")
    )


def _of_layers(output: Any) -> str | None:
    """What to type of a hierarchy's layers that are no list of posteriors; None of other things."""
    if isinstance(output, Mapping) and len(output) > 1 and all(map(_is_posterior, output.values())):
        return (
            "encode=lambda x: list(module.encode(x).values()) and decode=lambda codes: "
            f"module.decode(dict(zip({[*output]}, codes))) if these are the layers of a hierarchy"
        )
    pair, spreads, line = output, "log-variances", "list(zip(*module.encode(x)))"
    if isinstance(output, Mapping):
        names = [next((n for n in known if n in output), None) for known in (_MEANS, _SPREADS)]
        pair, spreads = [output.get(name) for name in names], "spreads"
        each = f"{{'mean': m, {names[1]!r}: s}} for m, s in zip(o[{names[0]!r}], o[{names[1]!r}])"
        line = f"(lambda o: [{each}])(module.encode(x))"
    listed = isinstance(pair, (tuple, list)) and len(pair) == 2
    if not listed or not all(isinstance(one, (tuple, list)) and len(one) > 1 for one in pair):
        return None
    if len(pair[0]) != len(pair[1]) or not all(map(_is_posterior, zip(*pair, strict=True))):
        return None
    return (
        f"encode=lambda x: {line} if these are the means and the {spreads} of the layers of a "
        "hierarchy, whose codes decode then takes as a list"
    )


def _of_pair(output: Any) -> str | None:
    """What to type of two tensors of one shape whose names are nearly known; None of others."""
    held = {str(name): value for name, value in _but_priors(output).items() if is_batch(value)}
    mean, spread = (
        next((n for n in held for word in known if n.lower().endswith(word)), None)
        for known in (_MEANS, tuple(_SPREADS))
    )
    if mean is None or spread is None or held[mean].shape != held[spread].shape:
        return None
    known = max((word for word in _SPREADS if spread.lower().endswith(word)), key=len)
    pair = f"{{'mean': o{at(output, mean)}, '{known}': o{at(output, spread)}}}"
    return f"encode=lambda x: (lambda o: {pair})(module.encode(x)) if they are such"


def _by_names(output: Any) -> Any:
    """A namedtuple that holds a posterior by its names as an object; all else as it is."""
    if not (isinstance(output, tuple) and hasattr(output, "_asdict")):
        return output
    named = type(type(output).__name__, (SimpleNamespace,), {})(**output._asdict())
    return named if _marks(named) else output


def _layers(output: Any) -> list[Posterior] | None:
    """The posteriors in a list, or a tuple of genrobust's own: the layers of a hierarchy.

    Other tuples may hold a posterior beside its prior, or beside features.
    """
    listed = output if isinstance(output, (tuple, list)) else ()
    known = [isinstance(item, (Part, Posterior)) for item in listed]
    if isinstance(output, list) and len(output) > 1:
        known = [_is_posterior(item) or is_own for item, is_own in zip(output, known, strict=True)]
    if not known or not all(known):
        return None
    return [posterior_of(item) for item in listed]


_DO = "pass encode=, a function from images to one of these"


def _marks(output: Any) -> list[str]:
    """The marks by which an object or a mapping holds a posterior."""
    mapping = output if isinstance(output, Mapping) else {}
    found = [key for key in ("cont", "embedding") if key in mapping]
    if "disc" in mapping and "cont" not in mapping:
        found.append("disc")
    if get(output, "latent_dist") is not None:
        found.append("latent_dist")
    if not found and _held(output, _MEANS) and _held(output, tuple(_SPREADS)):
        found = ["mean"]
    if not found:  # beside a distribution a code is its sample, or its mean
        found = _distributions(output) or _held(output, _POINTS)
    if found == ["embedding"] and isinstance(mapping["embedding"], Tensor):
        known = ("embedding", "log_covariance")
        same = (
            str(key)
            for key, value in mapping.items()
            if isinstance(value, Tensor)
            and str(key) not in known
            and value.shape == mapping["embedding"].shape
        )
        found += same
    return found


def _but_priors(output: Any) -> dict[Any, Any]:
    """What a mapping or an object holds, without what is a prior by its name."""
    return {
        name: value for name, value in fields(output).items() if "prior" not in str(name).lower()
    }


def _distributions(output: Any) -> list[Any]:
    """The names of the distributions that are not priors."""
    return [n for n, value in _but_priors(output).items() if isinstance(value, D.Distribution)]


def _is_middle(code: Tensor, output: Any, mark: str) -> bool:
    """Whether a code is the mean beside it, or what that is read as; whole numbers say which."""
    if not code.is_floating_point():
        return True
    if mark == "mean":
        mean = get(output, _held(output, _MEANS)[0])
        return not _is_beside(code, mean) or torch.allclose(mean.to(code), code)
    given = get(output, mark)
    middles = [one for one in (mean_of(given), part_of(given).mode()) if one is not None]
    return any(m.shape == code.shape and torch.allclose(m.to(code), code) for m in middles)


def _taken(mark: str, output: Any) -> str:
    """What to type to take one of several posteriors."""
    if mark == "embedding":
        keys = [key for key in ("embedding", "log_covariance") if key in output]
        return f"[module.encode(x)[key] for key in {keys}]"
    if mark == "disc":
        return "{'disc': module.encode(x)['disc']}"
    return _written(output, mark)


def _of_joint(output: Mapping[str, Any]) -> Posterior:
    parts: list[Part] = []
    if "cont" in output:
        given = output["cont"]
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise GenrobustError(
                f"the encoder returned 'cont' as {describe(given)}, which is not [mean, logvar]; "
                "pass encode=, a function that gives these two there"
            )
        parts.append(_gaussian(*given))
    given = output.get("disc", [])
    for p in [given] if isinstance(given, Tensor) else given:
        # Probabilities, as joint-vae's softmax gives them: their logarithm is a set of logits. The
        # clamp keeps a probability that underflowed to 0 from becoming -inf.
        p = plain(p, "the encoder")
        parts.append(Categorical(p.clamp_min(torch.finfo(torch.float32).tiny).log()))
    return Posterior(tuple(parts))


def require_probabilities(output: Any) -> None:
    """Of what an encoder returned in joint-vae's form, each ``disc`` must be probabilities.

    Raises:
        GenrobustError: it is something else, such as their logarithms.
    """
    given = output.get("disc", []) if isinstance(output, Mapping) else []
    for p in [given] if isinstance(given, Tensor) else given:
        p = plain(p, "the encoder")
        if not p.isfinite().all():
            continue  # the model's check says so
        low, high = (float(end) for end in p.sum(-1).aminmax())
        if p.min() < 0 or low < 1 - _SUMS or high > 1 + _SUMS:
            raise GenrobustError(
                f"the encoder returned under 'disc' numbers from {float(p.min()):.3g} to "
                f"{float(p.max()):.3g} with sums from {low:.3g} to {high:.3g}, which are no "
                "probabilities; pass encode=, a function that gives these there, such as "
                "logits.softmax(1)"
            )


def _of_embedding(output: Mapping[str, Any]) -> Posterior:
    embedding, spread = output["embedding"], output.get("log_covariance")
    if spread is None:
        return Posterior((Point(plain(embedding, "the encoder")),))
    return Posterior((_gaussian(embedding, spread),))


def _of_latent_dist(output: Any) -> Posterior:
    return posterior_of(get(output, "latent_dist"))


def _of_names(output: Any) -> Posterior:
    means, spreads = _held(output, _MEANS), _held(output, tuple(_SPREADS))
    if any(not torch.equal(get(output, means[0]), get(output, name)) for name in means[1:]):
        raise GenrobustError(
            f"the encoder returned {describe(output)}, which holds more than one mean "
            f"({' and '.join(means)}); {_DO}"
        )
    mean, spread = get(output, means[0]), _SPREADS[spreads[0]](get(output, spreads[0]))
    return Posterior((_gaussian(mean, spread),))


def _of_point(output: Any) -> Posterior:
    (name,) = _held(output, _POINTS)
    code = get(output, name)
    for other in (*_held(output, tuple(_SPREADS)), *_held(output, _MEANS)):
        if _is_beside(code, get(output, other)):
            one = f"encode=lambda x: {_written(output, name)}"
            two = f"encode=lambda x: {_written(output, other)} if the other is"
            if other in _SPREADS:
                pair = _pair(output, name, other)
                two = f"encode=lambda x: (lambda o: {pair})(module.encode(x)) if it is a mean"
            raise GenrobustError(
                f"the encoder returned {describe(output)}, and genrobust cannot tell what '{name}' "
                f"is beside '{other}'; pass {one} if it is the code, or {two}"
            )
    return Posterior((Point(plain(code, "the encoder")),))


def _is_beside(code: Tensor, other: object) -> bool:
    """Whether something is of a code's shape and has other numbers."""
    if not isinstance(other, Tensor) or not is_batch(other) or other.shape != code.shape:
        return False
    return not torch.equal(code, other)


def _written(output: Any, name: str) -> str:
    return f"module.encode(x){at(output, name)}"


def _pair(output: Any, mean: str, spread: str) -> str:
    """How to write a mean and the spread beside it, which keeps its name, of an output ``o``."""
    return f"{{'mean': o{at(output, mean)}, '{spread}': o{at(output, spread)}}}"


def _either(output: Any, name: str, mark: str, listed: bool) -> tuple[str, str]:
    """How to write that a code is taken, or the posterior beside it; of each where many are listed.

    Args:
        output: what holds the two.
        name: of the code.
        mark: of the posterior.
        listed: the encoder gives a list of such.
    """
    code, whole = f"o{at(output, name)}", f"o{at(output, mark)}"
    if mark == "mean":
        whole = _pair(output, _held(output, _MEANS)[0], _held(output, tuple(_SPREADS))[0])
    if listed:
        each = "for o in module.encode(x)]"
        return f"[genrobust.Point({code}) {each}", f"[{whole} {each}"
    taken = f"(lambda o: {whole})(module.encode(x))"
    return _written(output, name), taken if mark == "mean" else _written(output, mark)


def _held(output: Any, names: Sequence[str]) -> list[str]:
    """Those of the names under which a mapping, or an object, holds a tensor."""
    return [name for name in names if isinstance(get(output, name), Tensor)]


_READERS: dict[str, Callable[[Any], Posterior]] = {
    "cont": _of_joint,
    "disc": _of_joint,
    "embedding": _of_embedding,
    "latent_dist": _of_latent_dist,
    "mean": _of_names,
}


def _gaussian(mean: Tensor, logvar: Tensor) -> Gaussian:
    return Gaussian(plain(mean, "the encoder"), plain(logvar, "the encoder"))


def _of_sequence(output: tuple[Any, ...] | list[Any]) -> Posterior:
    if len(output) == 1:
        return posterior_of(output[0])
    if _rivals(output) != [0, 1]:
        raise _untold(output)
    return Posterior((_gaussian(output[0], output[1]),))


def _rivals(output: Sequence[Any]) -> list[int]:
    """The places of tensors that share their shape with another: a mean has its log-variance.

    What is no batch of codes, such as a loss, is none of them.
    """
    shapes = {i: tuple(item.shape) for i, item in enumerate(output) if is_batch(item)}
    return [i for i in shapes if list(shapes.values()).count(shapes[i]) > 1]


def is_batch(item: Any) -> bool:
    if not isinstance(item, Tensor) or item.is_nested or item.ndim < 2:
        return False
    return item.is_floating_point() or item.is_complex()  # whole numbers say which, not how much


def _drawn_from(outputs: Sequence[Sequence[Any]], z: int, mean: int, logvar: int) -> bool:
    """Whether samples spread about the mean as the log-variance says."""
    spread = (0.5 * outputs[0][logvar].double()).exp()
    normal = torch.stack([(o[z].double() - o[mean].double()) / spread for o in outputs])
    return 1 / _SPREAD < float(normal.square().mean().sqrt()) < _SPREAD


def _is_about(samples: Tensor, mean: Tensor) -> bool:
    """Whether the mean of samples (N, B, ...) is that one, as nearly as so many tell."""
    least = torch.finfo(torch.float32).eps * mean.abs().amax().clamp_min(1)
    errors = (samples.std(0) / len(samples) ** 0.5).clamp_min(least)
    off = (samples.mean(0) - mean) / errors
    return float(off.square().mean().sqrt()) < _ERRORS


def _untold(output: Sequence[Any]) -> GenrobustError:
    """The error for a sequence, with what to type in place of it."""
    rivals = _rivals(output)
    kind: type[GenrobustError] = GenrobustError
    first = next((i for i, item in enumerate(output) if _is_posterior(item)), None)
    codes = [i for i, item in enumerate(output) if is_batch(item)]
    if _is_spread_over(output):
        remedy = (
            "encode=lambda x: (lambda m, s: (m, s.expand_as(m)))(*module.encode(x)) if the second "
            "is one log-variance for several numbers of the first, or encode=lambda x: "
            "module.encode(x)[0] if that alone is the code"
        )
    elif rivals:
        remedy = f"encode=lambda x: {_picked(output, rivals[-2:])}"
        if len(rivals) > 2:
            remedy += (
                f" if these are (mean, logvar), {_picked(output, rivals[:2])} if those are, or "
                f"module.encode(x)[{rivals[-1]}] if that alone is the code, as the last of steps is"
            )
    elif first is not None:
        remedy = f"encode=lambda x: module.encode(x)[{first}] if that is the posterior, or " + (
            "encode=lambda x: list(module.encode(x)) if these are the layers of a hierarchy, "
            "whose codes decode then takes as a list"
            if all(map(_is_posterior, output))
            else "a function that joins the parts of several in one genrobust.Posterior"
        )
    elif len(codes) == 1:
        remedy = f"encode=lambda x: module.encode(x)[{codes[0]}] if that is the code"
    elif len(codes) > 1:
        kind = SeveralCodesError
        remedy = (
            f"encode=lambda x: [genrobust.Point(module.encode(x)[i]) for i in {codes}] and "
            "decode=lambda codes: module.decode(*codes) if these are the codes of a hierarchy"
        )
    elif line := _of_layers(output):
        remedy = line
    else:
        return GenrobustError(
            f"the encoder returned {describe(output)}, in which no two are a mean and a "
            f"log-variance of one shape; known are {FORMS}; {_DO}"
        )
    return kind(
        f"the encoder returned {describe(output)}, and genrobust cannot tell which are the mean "
        f"and the log-variance; pass {remedy}"
    )


def _is_spread_over(output: Sequence[Any]) -> bool:
    """Whether there are two, of which the second is as the first once it is repeated."""
    if len(output) != 2 or not is_batch(output[0]) or not isinstance(output[1], Tensor):
        return False
    mean, spread = output
    if not spread.is_floating_point() or spread.ndim == 0 or spread.shape == mean.shape[:1]:
        return False  # such as a loss
    try:
        return torch.broadcast_shapes(mean.shape, spread.shape) == mean.shape != spread.shape
    except RuntimeError:
        return False


def _picked(output: Sequence[Any], places: list[int]) -> str:
    """How to write the items at two places."""
    if places[1] != places[0] + 1:
        return f"[module.encode(x)[i] for i in {places}]"
    end = "" if places[1] + 1 == len(output) else places[1] + 1
    return f"module.encode(x)[{places[0] or ''}:{end}]"


def _is_posterior(item: Any) -> bool:
    pair = isinstance(item, (tuple, list)) and len(item) == 2 and _rivals(item) == [0, 1]
    return pair or isinstance(item, (Posterior, D.Distribution)) or bool(_marks(item))


def approximated(output: Any) -> str | None:
    """What of an encoder's output the reading leaves out, in words; None if nothing."""
    if isinstance(output, D.Distribution):
        return approximation(output)
    marks = [] if isinstance(output, (Part, Posterior, Tensor)) else _marks(output)
    if len(marks) != 1:
        return None
    told = get(output, marks[0])
    return approximation(told) if isinstance(told, D.Distribution) else _left_out(output, marks[0])


def _left_out(output: Any, name: str) -> str | None:
    """What lies beside a code read as a point, with its shape and a name that says nothing."""
    _, *others = _unnamed_beside(output) or [name]
    if not others:
        return None
    # Of two beside it the code is a sample, or the mean once more.
    likely = others[:2] if len(others) > 1 else [name, others[0]]
    pair = ", ".join(f"o{at(output, one)}" for one in likely)
    left, two = (" and ".join(map(repr, some)) for some in (others[:2], likely))
    return (
        f"of what the encoder returns, '{name}' is read as a point, and {left} beside it "
        f"{'are' if others[1:] else 'is'} left out; if {two} are a mean and a log-variance, pass "
        f"encode=lambda x: (lambda o: ({pair}))(module.encode(x))"
    )


def _unnamed_beside(output: Any) -> list[str]:
    """The name of a code, and those of what lies beside it with its shape and a name that says
    nothing; none of anything else."""
    if isinstance(output, (Part, Posterior, Tensor, D.Distribution)):
        return []
    marks, known = _marks(output), (*_MEANS, *_SPREADS)
    if len(marks) != 1 or marks[0] not in _POINTS:
        return []
    code, beside = get(output, marks[0]), fields(output).items()
    return [
        marks[0],
        *(str(k) for k, value in beside if k not in known and _is_beside(code, value)),
    ]
