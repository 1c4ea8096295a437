"""Whether what is scored is what the module's own ``forward`` gives, and what mends it if not.

An encoder's (mean, standard deviation) has the shape of a (mean, log-variance), and a quantiser
that lives in ``forward`` is missing from ``decode(encode(x))``: no shape tells. So ``forward`` is
asked, or a method such as ``reconstruct`` where it gives no picture. Where it draws, its noise is
held at 0, which shows the code that it decodes, and at 1, which shows the spread about it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from genrobust.errors import GenrobustWarning
from genrobust.models.checks.batches import tolerance_of
from genrobust.models.checks.beside import takes_more
from genrobust.models.checks.finding import Finding
from genrobust.models.checks.halves import encoded, held_in
from genrobust.models.checks.heads import between_halves, heads_of
from genrobust.models.checks.lines import Seen, line_through_heads, line_to
from genrobust.models.checks.own_forward import OwnForward, OwnPicture, apart, is_clipped
from genrobust.models.checks.spreads import reading_of
from genrobust.models.checks.unlikely import unlikely
from genrobust.models.model import FORWARD_ALONE, GenerativeModel
from genrobust.models.reading.adapters import approximated
from genrobust.models.reading.held_noise import HeldNoise
from genrobust.models.reading.kinds import SPREADS
from genrobust.models.reading.modules import halves_of_parts, place_of
from genrobust.models.reading.typed import GIVEN_DECODE, GIVEN_ENCODE, Typed
from genrobust.models.reading.views import UNITS
from genrobust.models.reading.ways import FORWARD, ways_of
from genrobust.posterior import Gaussian, Point
from genrobust.seeding import seeded

T = TypeVar("T")

#: The most images that are compared, and how often noise is drawn that cannot be held still.
IMAGES, DRAWS = 8, 64
#: How many times what chance makes of it the squared gap of the means of draws may be.
GAP = 3
#: By what factor the variance of draws may be off, and by how many of its standard errors: where a
#: decoder saturates, a far wider code moves its pictures by little more.
SPREAD, ERRORS = 1.2, 5
#: Another range of pixels is named where its error is below this share of the error as the model is
#: read, or below the second share on every picture: what was trained on [-1, 1] gives pictures of
#: half the contrast back nearly as well, but none of them better. Its error must also be below a
#: share of that of one picture for all, which a model that learned nothing may reach.
BETTER, EVERY, LEARNED = 0.5, 0.9, 0.8
#: The forward of a part speaks against functions of the user's that lead through its halves where
#: its error is below this share of theirs: more contrast, or a clip, may be meant.
OF_PART = 0.25
#: A reading whose error is below this share of that of one picture for all is right.
RIGHT = 0.001
#: A choice from a list hangs on rounding where it leads by less than this many tolerances, in units
#: of the largest score.
TIE = 0.1


@dataclass(frozen=True)
class Fidelity:
    """What came of the comparison.

    Args:
        status: ``"declared"`` where ``deploy=`` or ``draws=`` says that it is something else than
            ``forward``; ``"not compared"`` where ``forward`` takes or gives something else.
        difference: of what is scored and what ``forward`` gives: root mean square over pixels, in
            [0, 1]; None without a comparison. Noise that ``forward`` draws is 0 here.
        what: what differs, or why nothing was compared.
        mend: what to type.
    """

    status: Literal["equal", "differs", "declared", "no forward", "not compared"]
    difference: float | None = None
    what: str = ""
    mend: str = ""

    def __str__(self) -> str:
        return "; ".join(filter(None, [self.what, self.mend])) or self.status


def say(model: GenerativeModel, found: Fidelity) -> None:
    """Warn where what is scored differs from what the module gives, or that cannot be told."""
    if found.mend:
        misread = " may be misread" if found.status == "differs" else ""
        warnings.warn(f"{model.name}{misread}: {found}", GenrobustWarning, stacklevel=4)


@torch.no_grad()
def fidelity(model: GenerativeModel, x: Tensor, real: bool = True) -> Fidelity:
    """Compare what is scored with what the module's ``forward`` gives.

    Args:
        model: one that passes its check.
        x: images (B, C, H, W) in [0, 1]; the first few are used.
        real: they are pictures, on which a model that learned something has a small error.

    Example:
        >>> import genrobust
        >>> model = genrobust.load_model("vae")
        >>> fidelity(model, torch.rand(4, 1, 32, 32)).status
        'equal'
    """
    if model.part:  # what holds it may normalise on the way to it
        typed = Typed(GIVEN_ENCODE, GIVEN_DECODE, model.typed.given)
        whole = _asked(replace(model, part="", typed=typed), x, real)
        if whole.difference is not None:
            return whole
        return _asked(model, x, real)
    return _asked(model, x, real, parts=True)


def _asked(model: GenerativeModel, x: Tensor, real: bool, parts: bool = False) -> Fidelity:
    """The comparison with the forward of what is read, or of its parts where it has none."""
    x = x[:IMAGES].to(model.device)
    with seeded(model.device, "fidelity"):
        # Unclipped, as of an untrained model clipping may leave little.
        free, clamp = replace(model, clamp=False), model.clamp
        compared, findings = _compared(free, x, real, clamp=clamp)
        if parts and compared.status == "no forward":
            compared, findings = _of_parts(free, x, real, clamp) or (compared, findings)
        asked = compared.status in ("equal", "declared")  # and of its spread
        if not asked and not any(finding.differs for finding in findings):
            findings += [f for f in (_unlikely(model, x, real), _left_out(model, x)) if f]
        findings += [f for f in (_other_units(model, x) if real else None,) if f]
        findings += [f for f in (_told_by_method(free, x),) if f]
    if not findings:
        return compared
    told = ("; ".join(getattr(f, name) for f in findings) for name in ("what", "mend"))
    what, mend = map(model.typed.put, told)
    differs = any(finding.differs for finding in findings)
    return Fidelity("differs" if differs else compared.status, compared.difference, what, mend)


def is_as_forward(model: GenerativeModel, x: Tensor) -> bool:
    """Whether what is scored for each of the images is what the module's ``forward`` gives."""
    with seeded(model.device, "fidelity"):
        compared, findings = _compared(replace(model, clamp=False), x, exact=True, mends=False)
    return compared.status == "equal" and not any(finding.differs for finding in findings)


def unlike_forward(model: GenerativeModel, x: Tensor) -> Callable[[Tensor], bool]:
    """Tells at once of reconstructions of the images that :func:`is_as_forward` would say no.

    It runs ``forward`` once for all that are to be told: none of the images is as one of those.
    """

    @cache
    def shown() -> list[tuple[float, Tensor]]:
        ways = [OwnForward(replace(model, clamp=False), way=way) for way in ways_of(model.network)]
        with torch.no_grad(), seeded(model.device, "fidelity"):
            return [(2 * own.allowed(v), image) for own in ways for v, image in own.in_any_units(x)]

    def is_unlike(images: Tensor) -> bool:
        # Forward may choose another of two entries that are as near: of some images, not of all.
        return bool(shown()) and not any(
            apart(theirs, ours) <= allowed
            for allowed, image in shown()
            for theirs, ours in zip(image, images, strict=False)
        )

    return is_unlike


@torch.no_grad()
def reads_alone(model: GenerativeModel, x: Tensor) -> bool:
    """Whether the module's forward takes images alone, and gives one picture of each.

    Args:
        model: one whose encoder or decoder fails.
        x: images (B, C, H, W) in [0, 1].
    """
    own = OwnForward(replace(model, clamp=False))
    with seeded(model.device, "fidelity"):
        return (own.exists and model.condition is None) and any(
            len({view.path for view, _ in own.pictures(x, call)}) == 1 for call in own.calls
        )


def _compared(
    model: GenerativeModel,
    x: Tensor,
    real: bool = False,
    exact: bool = False,
    mends: bool = True,
    clamp: bool = False,
) -> tuple[Fidelity, list[Finding]]:
    """What is scored beside what the module gives; where they differ, with what mends it or not."""
    ways = [OwnForward(model, exact, way, clamp) for way in ways_of(model.network)]
    if not ways:
        return Fidelity("no forward"), []
    with HeldNoise(0.0):
        decided = _decided(model, x)
        # Forward may add up the same distances in another order, and so choose another of two.
        x = x[decided] if decided.any() else x
        ours = model.reconstruct(x).double()
    for own in ways:
        found = own.nearest(x, ours)
        if found is not None and _is_of_images(model, x, own, found):
            return _beside(model, x, own, found, ours, real, mends)
    own = ways[0]
    if own.exists:
        return Fidelity("not compared", what=own.why), _untold(own)
    return Fidelity("no forward"), []


class MethodPictures(NamedTuple):
    """What a method such as ``reconstruct`` gives of images, each time anew.

    Args:
        name: its own.
        line: what to type for it.
        pixels: (B, C, H, W).
    """

    name: str
    line: str
    pixels: Tensor


@torch.no_grad()
def pictures_of_methods(model: GenerativeModel, x: Tensor) -> Iterator[MethodPictures]:
    """Of a model that is read by its forward alone, what its methods give of images.

    Not of such as draw, or give one picture whatever they are given.
    """
    for way in ways_of(model.network):
        own = OwnForward(replace(model, clamp=False), way=way)
        for call in own.calls if way.name != FORWARD.name else ():
            for view, image in own.pictures(x, call):
                again, allowed = own.at(x, view, None), own.allowed(view)
                steady = again is not None and apart(again, image) <= allowed
                if steady and (len(x) == 1 or apart(image, image[:1]) > allowed):
                    line = f"encode=torch.nn.Identity() and decode=lambda x: {own.source(view)}"
                    yield MethodPictures(way.name, f"pass {line}", image)


def _told_by_method(model: GenerativeModel, x: Tensor) -> Finding | None:
    """Where a module that is read by its forward, unasked, has a method that gives others."""
    alone = model.spec.get(FORWARD_ALONE) and model.typed.encode != GIVEN_ENCODE
    if not alone or model.deploy is not None or model.condition is not None or model.draws > 1:
        return None
    ours, others = model.reconstruct(x).double(), [*pictures_of_methods(model, x)]
    if not others or any(apart(o.pixels, ours) <= tolerance_of(model) for o in others):
        return None
    what = f"its {others[0].name} gives other pictures than its forward, which is scored"
    return Finding(what, f"{others[0].line} if those are what people get", differs=False)


def _of_parts(
    model: GenerativeModel, x: Tensor, real: bool, clamp: bool
) -> tuple[Fidelity, list[Finding]] | None:
    """What the forward of a part says, of functions of the user's that lead through its halves.

    It speaks where it gives what is scored, or, of real pictures, such as are much nearer: some
    scale or normalise round a part what others do within.
    """
    for name, *_ in halves_of_parts(model.network):
        own = OwnForward(replace(model, part=name), clamp=clamp)
        if model.condition is not None or model.draws > 1 or not own.exists:
            continue
        with HeldNoise(0.0):
            ours = model.reconstruct(x).double()
        found = own.nearest(x, ours)
        if found is None:
            continue
        if apart(found.pixels, ours) <= found.allowed:
            return _beside(model, x, own, found, ours, real, mends=True)
        scored = ours.clamp(0, 1) if clamp else ours
        error, least, most = map(_error, (scored, found.pixels, x.mean(0).expand_as(x)), [x] * 3)
        if real and model.deploy is None and least < min(OF_PART * error, LEARNED * most):
            what = (
                f"the squared error of its pictures is {error:.4g}, and of those that the forward "
                f"of its part '{name}' gives {least:.4g}: between the halves it may scale, shift "
                "or quantise"
            )
            difference = float((found.pixels - ours).square().mean().sqrt())
            mend = "do in encode= and decode= all that it does"
            return Fidelity("differs", difference), [Finding(what, mend)]
    return None


def _error(image: Tensor, x: Tensor) -> float:
    return float((image - x).flatten(1).square().sum(1).mean())


def _is_of_images(model: GenerativeModel, x: Tensor, own: OwnForward, found: OwnPicture) -> bool:
    """Whether a method in forward's place takes images: not how many to draw, nor codes."""
    if own.name == FORWARD.name:
        return True
    if len(x) > 1 and apart(found.pixels, found.pixels[:1]) <= found.allowed:
        return False
    low, high = model.spec.get("value_range", (0.0, 1.0))
    codes = x * (high - low) + low
    given = (codes, codes.flatten(1))
    return not any(_shows(model, x, code, found.pixels, found.allowed) for code in given)


def _beside(
    model: GenerativeModel,
    x: Tensor,
    own: OwnForward,
    found: OwnPicture,
    ours: Tensor,
    real: bool,
    mends: bool,
) -> tuple[Fidelity, list[Finding]]:
    """What is scored beside the picture that the module gives."""
    difference = float((found.pixels - ours).square().mean().sqrt())
    findings: list[Finding | None] = [_written(own)]
    if apart(found.pixels, ours) <= found.allowed or _is_alike(model, own, x, found):
        findings += [_nearer(model, x, own, found)] if real else []
        findings.append(_spread(model, x, own, found, ours, real))
        what = "" if own.name == FORWARD.name else f"its {own.name} gives what is scored"
        return Fidelity("equal", difference, what), [f for f in findings if f]
    if not mends:
        return Fidelity("differs", difference), []
    # A function of the user's that leads from images to images says so as deploy= does.
    whole = model.spec.get(FORWARD_ALONE) and model.typed.decode == GIVEN_DECODE
    if model.deploy is not None or model.draws > 1 or whole:
        which = "decode=" if whole else "deploy= or draws="
        what = f"{which} says what is scored, which is not what {own.name} gives"
        spread = _spread(model, x, own, found, ours, real)
        return Fidelity("declared", difference, what), [spread] if spread else []
    clips = is_clipped(found.pixels, ours, found.allowed)
    findings.append(_clips(own) if clips else _path(model, x, own, found, difference))
    return Fidelity("differs", difference), [f for f in findings if f]


def _untold(own: OwnForward) -> list[Finding]:
    """What is to be said where forward is asked in vain, though it is for images."""
    if own.fails:
        mend = "let forward take such images"
    elif own.is_blank:
        mend = "let forward give it as a tensor, or pass deploy=, a function that does"
    else:
        return []
    words = f"nothing tells whether it is read right; {mend}"
    return [Finding(own.why, words, differs=False)]


def _written(own: OwnForward) -> Finding | None:
    """What forward changes at each call, though it is in eval mode."""
    if not own.writes:
        return None
    names = ", ".join(f"'{name}'" for name in own.writes)
    return Finding(
        f"its {own.name} writes to {names} in eval mode, so that what it gives may hang on what "
        "went through it before; scored is the module as it was given",
        "write there in train mode alone (if self.training)",
        differs=False,
    )


def _decided(model: GenerativeModel, x: Tensor) -> Tensor:
    """Which images' choices from lists do not hang on rounding, (B,) bool."""
    decided = torch.ones(len(x), dtype=torch.bool, device=x.device)
    if model.deploy is not None:
        return decided
    for _, part in model.encode(x).discrete():
        scores = part.scores()
        largest = scores.masked_fill(scores.isinf(), 0).abs().amax().clamp_min(1)
        decided &= part.lead(part.tokens()) > TIE * tolerance_of(model) * largest
    return decided


def _path(
    model: GenerativeModel,
    x: Tensor,
    own: OwnForward,
    found: OwnPicture,
    difference: float,
) -> Finding:
    """Why forward gives another picture, even with its noise at 0."""
    gaussian = _gaussian(model, x)
    measured = f"by {difference:.2g} of the pixel range"
    reading = None if gaussian is None else reading_of(model, x, gaussian)
    if reading and _shows(model, x, reading.numbers, found.pixels, found.allowed):
        return Finding(
            f"{own.name} decodes what is read as {reading.kind.name}, and genrobust what is read "
            f"as the mean; the pictures differ {measured}",
            reading.turned(),
        )
    random = ", draws=16" if found.noise else ""

    what = (
        f"the module's {own.name} gives other pictures than decode(encode(x)), which is scored, "
        f"{measured}: it may normalise, flatten, quantise or transform on the way"
    )
    line = line_to(model, x, [Seen(own, found.view, found.pixels)])
    if line is not None:
        return Finding(what, line.words(own.name))
    return Finding(
        what,
        f"pass deploy=lambda x: {own.source(found.view)}{random}, or do in encode= or decode= what "
        f"{own.name} does",
    )


def _clips(own: OwnForward) -> Finding:
    return Finding(
        f"decode clips pictures that {own.name} gives as they are, and attacks have no gradient "
        "where it does",
        "pass decode=, a function that gives them unclipped, and clamp=True if the deployment "
        "clips them",
    )


def _nearer(
    model: GenerativeModel, x: Tensor, own: OwnForward, found: OwnPicture
) -> Finding | None:
    """Whether forward gives a picture that is much nearer, so that what is scored is a draft."""
    if model.deploy is not None:
        return None

    ours, constant = _error(found.pixels, x), _error(x.mean(0).expand_as(x), x)
    given = own.pictures(x, found.view.call)
    others = {v: _error(i, x) for v, i in given if v.scale == found.view.scale and v != found.view}
    best = min(others, key=lambda view: others[view], default=found.view)
    if others.get(best, torch.inf) >= min(BETTER * ours, LEARNED * constant):
        return None
    return Finding(
        f"{own.name} also gives a picture whose squared error is {others[best]:.4g}, and that of "
        f"what is scored, its {own.source(found.view)}, is {ours:.4g}",
        f"pass deploy=lambda x: {own.source(best)} if that is what people get",
    )


def _spread(
    model: GenerativeModel,
    x: Tensor,
    own: OwnForward,
    found: OwnPicture,
    ours: Tensor,
    real: bool,
) -> Finding | None:
    """Whether forward's draws have the spread that the log-variance says, and what if none do."""
    if model.deploy is not None or model.draws > 1:  # which say what is scored, and of no spread
        model = replace(model, deploy=None, draws=1)
        with HeldNoise(0.0):
            ours = model.reconstruct(x).double()
        decoded = own.nearest(x, ours)
        if decoded is None or apart(decoded.pixels, ours) > decoded.allowed:
            return _unlikely(model, x, real)
        found = decoded
    told = _normal_spread(model, x, own, found)
    if told is None:  # many draw in training alone
        trained = own.in_training()
        loud = trained.nearest(x, ours)
        told = None if loud is None else _normal_spread(model, x, trained, loud)
    if told is None:
        told = _drawn_spread(model, x, own, found)
    return _unlikely(model, x, real) if told is None else next(iter(told), None)


def _normal_spread(
    model: GenerativeModel, x: Tensor, own: OwnForward, found: OwnPicture
) -> list[Finding] | None:
    """What the picture with its normal noise at 1 says of the spread; None if nothing.

    Whatever else is drawn is held at its middle, and so is other normal noise than the code's if
    that tells nothing.
    """
    if not any(found.noise):
        return None
    gaussian = _gaussian(model, x)
    sizes = (None,) if gaussian is None else (None, gaussian.mean[0].numel())
    each = [own.at(x, found.view, 1.0, size) for size in sizes]
    heard = [image for image in each if image is not None]
    loud = [image for image in heard if apart(image, found.pixels) > found.allowed]
    if not loud:
        return None  # the noise is not of the picture
    if gaussian is None:
        halves = _halves(model, x, own, found)
        return None if halves is None else [halves]

    def gives(std: Tensor, images: list[Tensor]) -> bool:
        code = gaussian.mean + std
        return any(_shows(model, x, code, image, found.allowed) for image in images)

    reading = reading_of(model, x, gaussian)
    read = (0.5 * gaussian.logvar).exp()
    # Forward may draw with numbers of either sign, which it hands back or the encoder gives it.
    signed = [*own.numbers(x, found.view), *_numbers(model, x)]
    handed = (t.to(read) for t in signed if t.shape == read.shape)
    likely = [read, *(t for t in handed if torch.allclose(t.abs(), read, rtol=1e-4))]
    # What decode clips is looked at as forward gives it, and as decode would.
    for images, told in ((loud, []), ([i.clamp(0, 1) for i in loud], [_clips(own)])):
        if any(gives(std, images) for std in likely):
            return told
        for kind in SPREADS:
            if kind is not reading.kind and gives(kind.std(reading.numbers).nan_to_num(), images):
                what = (
                    f"what is read as {reading.kind.name} is {kind.name}, as its {own.name} draws"
                )
                return [Finding(what, reading.typed(kind))]
    if found.loose or found.noise != (gaussian.mean.numel(),):
        return None  # not the code's noise alone
    if any(approximated(output) for output in _attempt(partial(encoded, model), x) or ()):
        return []  # a covariance, of which it was said that its variances alone are read
    what = (
        f"{own.name} draws codes with another spread than the second of the encoder's two says as "
        "a log-variance"
    )
    return [Finding(what, "pass encode=, a function that returns (mean, logvar)")]


def _numbers(model: GenerativeModel, x: Tensor) -> list[Tensor]:
    """What the module's own encoder gives, also where a function of the user's makes more of it."""
    return [*(_attempt(lambda given: held_in(encoded(model, given, read=False)), x) or {}).values()]


def _drawn_spread(
    model: GenerativeModel, x: Tensor, own: OwnForward, found: OwnPicture
) -> list[Finding] | None:
    """What is to be said where forward draws in other ways, and by how much its draws differ.

    None if it draws nothing of the picture, or there are too few images to tell.
    """
    gaussian = _gaussian(model, x)
    if gaussian is None or not (found.loose or found.noise):
        return None
    if found.noise.count(gaussian.mean.numel()) > 1:
        return None  # a code that moves on with a momentum of its size, as in a Hamiltonian VAE
    theirs, read = _draws(model, own, x, found)
    moves, wanted = (images.var(0).flatten(1).sum(1) for images in (theirs, read))
    if len(x) < 2 or moves.sum() <= found.allowed**2 * x.numel():
        return None
    apart_by = moves.clamp_min(1e-12).log() - wanted.clamp_min(1e-12).log()  # (B,)
    error = float(apart_by.std()) / len(x) ** 0.5
    if abs(float(apart_by.mean())) <= max(math.log(SPREAD), ERRORS * error):
        return []
    what = (
        f"its {own.name} draws pictures that vary {float(apart_by.mean().exp()):.2g} times as much "
        "as those of its codes, so that nothing confirms what is read as the log-variance"
    )
    mend = (
        "if it is something else, such as a standard deviation or a width, pass encode=, a "
        "function that returns (mean, logvar)"
    )
    return [Finding(what, mend, differs=False)]


def _halves(
    model: GenerativeModel, x: Tensor, own: OwnForward, found: OwnPicture
) -> Finding | None:
    """A code of which decode takes one half, and the other is the spread that forward draws."""
    with HeldNoise(0.0):
        posterior = model.encode(x)
    points = all(isinstance(part, Point) for part in posterior.parts)
    if not points or 2 * sum(found.noise) != posterior.mode().numel():
        return None
    return Finding(
        f"{own.name} draws noise about one half of the code, which is all read as a point",
        "pass encode=lambda x: module.encode(x).chunk(2, 1) if it is the mean and the log-variance "
        "side by side",
    )


def _unlikely(model: GenerativeModel, x: Tensor, real: bool) -> Finding | None:
    """What the code's numbers alone say against their reading."""
    gaussian = _gaussian(model, x)
    if gaussian is None:
        return None
    constant = _error(x.mean(0).expand_as(x), x)
    learned = real and len(x) > 1 and _error(model.reconstruct(x), x) < LEARNED * constant
    return unlikely(gaussian, reading_of(model, x, gaussian), tolerance_of(model), learned)


def _left_out(model: GenerativeModel, x: Tensor) -> Finding | None:
    """What of a module is passed over, where no forward speaks for that."""
    heads, line = heads_of(model, x), line_through_heads(model, x)
    if heads is not None and line is not None:
        one, other = heads.names
        return Finding(
            f"its '{one}' and '{other}' take what the encoder gives, and no part in what is scored",
            line.words(),
        )
    with HeldNoise(0.0):
        parts = [*between_halves(model, x)]
    if not parts:
        return takes_more(model, x)
    listed = " and ".join(f"'{part}'" for part in parts)
    written = f"{place_of(model.network, parts[0])}(module.encode(x))"
    return Finding(
        f"its encoder and decoder alone are scored, and not {listed}, which fits between the two",
        f"pass encode=lambda x: {written} if '{parts[0]}' belongs there",
        differs=False,
    )


def _other_units(model: GenerativeModel, x: Tensor) -> Finding | None:
    """Whether the pictures come out much better in another range than that declared."""
    if model.draws > 1 or len(x) < 4:
        return None
    low, high = model.spec.get("value_range", (0.0, 1.0))

    def errors(image: Tensor, of: Tensor = x) -> Tensor:
        image = image.clamp(0, 1) if model.clamp else image
        return (image.double() - of).flatten(1).square().sum(1)

    def constant(of: Tensor) -> float:
        return float(errors(of.mean(0, keepdim=True).expand_as(of), of).mean())

    as_read = errors(model.reconstruct(x))
    ours = float(as_read.mean())
    if ours < RIGHT * constant(x):
        return None
    least, chosen, noise = LEARNED * constant(x), None, torch.rand_like(x)
    for name, units in UNITS.items():
        if len(units[0]) not in (1, x.shape[1]):
            continue
        for how, image in _in_units(model, x, units).items():
            found = errors(image)
            is_better = found.mean() < BETTER * ours or bool((found < EVERY * as_read).all())
            if not is_better or found.mean() >= least:
                continue
            # What gives noise back too learned no pictures: it passes on what it finds odd.
            back = _in_units(model, noise, units).get(how)
            if back is not None and errors(back, noise).mean() >= BETTER * constant(noise):
                least, chosen = float(found.mean()), (name, how)
    if chosen is None:
        return None
    name, how = chosen
    by_range = name.startswith("value_range") and not how
    return Finding(
        f"the squared error of its pictures is {ours:.4g} as it is read, with pixels from {low:g} "
        f"to {high:g}, and {least:.4g} where it is given them as {name}{how}",
        f"pass {name}" if by_range else "pass encode= and decode= that convert so",
    )


def _in_units(
    model: GenerativeModel, x: Tensor, units: tuple[tuple[float, ...], tuple[float, ...]]
) -> dict[str, Tensor]:
    """What a model makes of images in other units, read in these or those of a sigmoid or a tanh.

    None if it fails.
    """
    low, high = model.spec.get("value_range", (0.0, 1.0))
    mean, std = (x.new_tensor(u).view(-1, 1, 1) for u in units)
    free = replace(model, clamp=False)
    found = _attempt(free.reconstruct, ((x - mean) / std - low) / (high - low))
    if found is None:
        return {}
    image = found * (high - low) + low
    return {
        "": image * std + mean,
        " and gives them in [0, 1]": image,
        " and gives them in [-1, 1]": (image + 1) / 2,
    }


def _is_alike(model: GenerativeModel, own: OwnForward, x: Tensor, found: OwnPicture) -> bool:
    """Whether the means of draws agree, where noise does not hold still."""
    if not found.loose:
        return False
    a, b = _draws(model, own, x, found)
    errors = float((a.var(0) + b.var(0)).sum() / DRAWS)
    return float((a.mean(0) - b.mean(0)).square().sum()) <= GAP * errors


def _draws(
    model: GenerativeModel, own: OwnForward, x: Tensor, found: OwnPicture
) -> tuple[Tensor, Tensor]:
    """Pictures that forward draws, and those of codes that are drawn as the model is read."""
    gaussian = _gaussian(model, x)

    def drawn() -> Tensor:
        if gaussian is None:
            return model.reconstruct(x)
        return _decode(model, x, gaussian.rsample(torch.randn_like(gaussian.mean), 1.0))

    theirs = [own.at(x, found.view, None) for _ in range(DRAWS)]
    none = torch.full_like(found.pixels, torch.nan)
    return (
        torch.stack([none if image is None else image for image in theirs]),
        torch.stack([drawn().double() for _ in range(DRAWS)]),
    )


def _gaussian(model: GenerativeModel, x: Tensor) -> Gaussian | None:
    if model.deploy is not None:
        return None
    with HeldNoise(0.0):
        part, *others = model.encode(x).parts
    alone = len(others) == (0 if model.condition is None else 1)  # a label lies beside it
    return part if alone and isinstance(part, Gaussian) else None


def _decode(model: GenerativeModel, x: Tensor, code: Tensor) -> Tensor:
    """The pictures of codes, with the labels of the images where the model takes any."""
    if model.condition is None:
        return model.decode(code)
    label = model.encode(x).parts[-1].mode()
    return model.decode(torch.cat([code.flatten(1), label.flatten(1)], 1))


def _shows(model: GenerativeModel, x: Tensor, code: Tensor, image: Tensor, allowed: float) -> bool:
    """Whether a picture is that of a code, which the model need not take."""
    ours = _attempt(partial(_decode, model, x), code)
    return ours is not None and apart(image, ours) <= allowed


def _attempt(function: Callable[[Tensor], T], given: Tensor) -> T | None:
    """What a model makes of what nobody says that it takes; None where it refuses that."""
    try:
        return function(given)
    except Exception:  # other people's code
        return None
