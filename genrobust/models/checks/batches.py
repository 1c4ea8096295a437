"""Whether a model gives each image its own result: the same each time, whatever is beside it.

A score is measured in batches that the protocol chose, and has to hold for an image.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator

import torch
from torch import Tensor

from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.foreign import Call
from genrobust.models.model import GenerativeModel
from genrobust.seeding import generator, seeded, states

#: By how much one batch's results may differ from one call to the next: by what kernels differ.
REPEAT_TOLERANCE = 1e-5
#: By how much an image's results may differ from one batch to another, in units of the largest
#: number or of 1; in lower precision, by a few of its steps.
BATCH_TOLERANCE = 1e-4
STEPS = 4
#: Which part of a gradient may differ: a kink that rounding passes moves more than rounding.
GRADIENT_TOLERANCE = 0.05
#: Where a gradient is this part of the largest or less, that part of this: rounding, as of a
#: softmax that is sure, is as large on all images.
FAINT = 0.01
#: Of a deployed image, the share of pixels that may differ by more: where a quantised pixel lies
#: on the edge between two levels, rounding decides.
EDGES = 0.01

#: By what part of that tolerance pixels are moved, and how often, to see whether rounding decides.
NUDGE, NUDGES = 0.01, 16

#: How many times as far others in the batch may then move an image's results.
AS_FAR = 4.0

#: How many images are tried alone; all are tried in other orders and batches.
ALONE = 64

#: How often a random model is drawn, and how many standard errors apart its means may be.
DRAWS, ERRORS = 32, 6


def check_draws(model: GenerativeModel, x: Tensor) -> dict[str, bool]:
    """Check that a model is not random, or that what it draws can be drawn again.

    It is said where one that is declared to be random draws nothing.

    Args:
        model: the model to try.
        x: images (B, C, H, W).

    Returns:
        Of ``encode``, ``decode`` and ``deploy``, where it has one, whether each is random.

    Raises:
        GenrobustError: it is random and does not say so; or its draws cannot be repeated, or are
            not the images' own.
    """
    if model.draws == 1:
        before = states(model.device)
        stages = _check_repeats(model, x, 1)
        if states(model.device) != before:
            _check_repeats(model, x[:2], DRAWS)
        return dict.fromkeys(stages, False)
    with seeded(model.device, "check"):
        before = states(model.device)
        first, other = _outputs(model, x), _outputs(model, x)
        draws = states(model.device) != before
    with seeded(model.device, "check"):
        again = _outputs(model, x)
    for stage in first:
        moved = _moved(first[stage], again[stage])
        if moved > REPEAT_TOLERANCE:
            raise GenrobustError(
                f"what the model's {stage} draws cannot be drawn again (with the same seeds it "
                f"differs by up to {moved:.2g}); let it draw from the generators that "
                "torch.manual_seed, np.random.seed and random.seed reach, and not from a generator "
                "of its own, the clock or the operating system"
            )
    random = {stage: _moved(first[stage], other[stage]) > 0 for stage in first}
    if draws and not any(random.values()):
        random = _random_stages(model, x[:2])
    if not any(random.values()):
        warnings.warn(
            f"draws={model.draws}, and '{model.name}' draws nothing: it is asked {model.draws} "
            "times for each score all the same; leave draws= out if it never draws",
            GenrobustWarning,
            stacklevel=2,
        )
    with seeded(model.device, "check", "each"), torch.no_grad():
        _check_own_draws(model, x)
    return random


def _random_stages(model: GenerativeModel, x: Tensor) -> dict[str, bool]:
    """Whether each stage of a model that draws is random: two of its draws may be alike."""
    with seeded(model.device, "check", "again"):
        first = _outputs(model, x)
        others = [_outputs(model, x) for _ in range(DRAWS)]
    return {
        stage: any(_moved(first[stage], other[stage]) > 0 for other in others) for stage in first
    }


def _check_repeats(model: GenerativeModel, x: Tensor, times: int) -> Collection[str]:
    """Check that a model gives the same again, and name its stages.

    What draws may draw alike twice: a random one of nine sizes, or a flip of every tenth batch.
    """
    first = _outputs(model, x)
    for _ in range(times):
        again = _outputs(model, x)
        for stage in first:
            moved = _moved(first[stage], again[stage])
            if moved > REPEAT_TOLERANCE:
                raise GenrobustError(
                    "the model gives another reconstruction each time (the same images, and what "
                    f"{stage} leads to differs by up to {moved:.2g}); it draws random numbers in "
                    "eval mode, or looks at the clock: pass encode= and decode= that do not, such "
                    "as an encode that returns (mean, logvar); or, if the deployment is random, "
                    "draws=16"
                )
    return first.keys()


@torch.no_grad()
def check_batches(model: GenerativeModel, x: Tensor, stages: Collection[str]) -> None:
    """Check that each image's results are the same alone, in other orders and in other batches.

    Args:
        model: the model to try.
        x: as many images as a run's batches have: none that is larger is tried.
        stages: those of ``encode``, ``decode`` and ``deploy`` to look at: those not random.

    Raises:
        GenrobustError: an image's results depend on the others in its batch, or on its place.
    """
    whole = _outputs(model, x)
    tolerance = tolerance_of(model)
    for batch in _batches(len(x)):
        found = _outputs(model, x[batch])
        for stage in sorted(stages):
            spared = EDGES if stage == "deploy" or not model.differentiable else 0.0
            pairs = zip(found[stage], whole[stage], strict=True)
            for output, (ours, theirs) in enumerate(pairs):
                wanted = theirs[batch]
                difference = (ours - wanted).abs().flatten(1)
                scale = max(1.0, float(wanted.abs().max()))
                # Each image has some pixels to spare, if any.
                moved = difference.kthvalue(_kept(difference.shape[1], spared), 1).values
                wrong = (~(moved <= tolerance * scale)).nonzero()[:, 0].tolist()
                by_others = difference.norm(dim=1).tolist()
                if any(
                    not by_others[i]
                    <= AS_FAR * _by_rounding(model, x[batch[i]], stage, output, tolerance)
                    for i in wrong
                ):
                    raise GenrobustError(
                        "an image's reconstruction changes with the others in its batch, their "
                        f"order or number (in {len(batch)} of {len(x)} images, what {stage} leads "
                        f"to, by up to {float(difference.max()):.2g}); use layers that treat "
                        "images one by one in eval mode (batch norm with running statistics, no "
                        "minibatch statistics), and no noise by the place in a batch; where it "
                        "runs on one image at a time, as int8 with a scale for each batch may, "
                        "give max_batch=1 (--batch-size 1)"
                    )


def _by_rounding(
    model: GenerativeModel, image: Tensor, stage: str, output: int, tolerance: float
) -> float:
    """How far (in L2) an image's result is moved by moving its pixels by no more than rounding.

    They may choose another of two entries that are as near, as adding up in another order may.
    """
    alone = image[None]
    before = _outputs(model, alone)[stage][output]
    draw, farthest = generator("nudges"), 0.0
    for _ in range(NUDGES):  # each alone, as what is beside it is what is in question
        steps = 2 * torch.rand(alone.shape, generator=draw).to(image) - 1
        moved = (alone + NUDGE * tolerance * steps).clamp(0, 1)
        farthest = max(farthest, float((_outputs(model, moved)[stage][output] - before).norm()))
    return farthest


def check_gradients(model: GenerativeModel, x: Tensor) -> None:
    """Check that the gradient of one image does not depend on the others in its batch.

    Raises:
        GenrobustError: it does.
    """
    if len(x) < 2:
        return
    whole = _gradient(model, x)
    scale = whole.flatten(1).norm(dim=1)
    for batch in list(_batches(len(x)))[-4:]:
        wanted = whole[batch]
        apart = (_gradient(model, x[batch]) - wanted).flatten(1).norm(dim=1)
        allowed = GRADIENT_TOLERANCE * scale[batch].clamp_min(FAINT * float(scale.max()))
        if not (apart <= allowed).all():
            share = float((apart / scale[batch].clamp_min(1e-12)).max())
            raise GenrobustError(
                "the gradient of an image changes with the others in its batch (by up to "
                f"{share:.2g} of its length); use layers and backward passes that treat images one "
                "by one, or wrap it with differentiable=False"
            )


def _outputs(model: GenerativeModel, x: Tensor) -> dict[str, list[Tensor]]:
    """What each stage of a model gives. ``decode`` is on the smooth path that attacks follow."""
    with torch.no_grad():
        posterior = model.encode(x)
        found = {"encode": posterior.tensors(), "decode": [model.decode(posterior.relaxed())]}
        if posterior.is_discrete or model.deploy is not None:
            found["deploy"] = [model.reconstruct(x)]
    return {stage: [t.clone() for t in tensors] for stage, tensors in found.items()}


def _batches(count: int) -> Iterator[list[int]]:
    """Other batches than all images in order, none of them larger."""
    everyone = list(range(count))
    for i in everyone[:: max(1, -(-count // ALONE))]:
        yield [i]
    if count > 1:
        third, half = max(1, count // 3), count // 2
        yield everyone[::-1]
        yield everyone[:third]
        yield everyone[third:]
        yield everyone[:half] * 2


def tolerance_of(model: GenerativeModel) -> float:
    """By how much results may differ that should be equal, in units of the largest or of 1."""
    weights = [p.dtype for p in model.module.parameters() if p.is_floating_point()]
    steps = [torch.finfo(dtype).eps for dtype in weights]
    if model.device.type == "cuda":
        steps.append(2**-10)  # of TF32, in which torch lets such devices convolve
    return max([BATCH_TOLERANCE, *(STEPS * step for step in steps)])


def _kept(count: int, spared: float) -> int:
    """Which of so many sorted differences is the largest that counts."""
    return count - (max(1, int(spared * count)) if spared and count > 1 else 0)


def _moved(a: list[Tensor], b: list[Tensor]) -> float:
    return max(float((one - other).detach().abs().max()) for one, other in zip(a, b, strict=True))


def _gradient(model: GenerativeModel, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    with torch.enable_grad():
        loss = model.surrogate(x, "softmax").square().sum()
        with Call(model.name, "gradient", x):
            (gradient,) = torch.autograd.grad(loss, x)
    return gradient


def _check_own_draws(model: GenerativeModel, x: Tensor) -> None:
    """Check that a random model draws for each image, and from the same law in any batch."""
    few = x[: min(len(x), 4)]
    path = "module" if model.deploy is None else "deploy"
    together = torch.stack([model.reconstruct(few) for _ in range(DRAWS)])
    for i, image in enumerate(few):
        rows = [model.reconstruct(image.expand(DRAWS, *image.shape)) for _ in range(2)]
        if not torch.equal(*rows) and all(torch.equal(row, row[:1].expand_as(row)) for row in rows):
            raise GenrobustError(
                "the model draws one random number for all images of a batch, so that its draws "
                "are one; let it draw for each image, such as torch.rand(len(x), 1, 1, 1), or pass "
                f"deploy=lambda x: torch.cat([{path}(one) for one in x.split(1)])"
            )
        alone = rows[0]
        errors = (alone.var(0) + together[:, i].var(0)).sum() / DRAWS
        apart = (alone.mean(0) - together[:, i].mean(0)).square().sum()
        rounding = BATCH_TOLERANCE**2 * image.numel()
        if apart > ERRORS**2 * errors + rounding:
            raise GenrobustError(
                "the mean of an image's random reconstructions changes with the others in its "
                f"batch (by {float(apart / errors) ** 0.5:.2g} standard errors); use layers that "
                "treat images one by one"
            )
