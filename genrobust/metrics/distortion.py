"""Distortion curves and the area under them (AUDDC), after Gondim-Ribeiro, Tabacof & Valle 2018."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.arguments import floats
from genrobust.errors import GenrobustError
from genrobust.metrics.checks import require_same_shape
from genrobust.metrics.distances import l2
from genrobust.models.inputs import inputs
from genrobust.models.model import GenerativeModel


@dataclass(frozen=True, eq=False)
class DistortionCurve:
    r"""One source and target, attacked at many strengths: how much change buys how much likeness.

    All are Euclidean distances in pixel units, (T,), one entry a strength; the last three are
    constant where the model is deterministic.

    Args:
        noise: :math:`\|d\|`, the size of the perturbation.
        adv_to_target: :math:`\|\hat x(x + d) - x_t\|`.
        source_to_target: :math:`\|x - x_t\|`.
        target_recon_to_target: :math:`\|\hat x(x_t) - x_t\|`: the nearest an attack could hope for.
        source_recon_to_target: :math:`\|\hat x(x) - x_t\|`: where it starts.

    Raises:
        GenrobustError: shapes differ; there is no point; a distance is negative, NaN or infinite;
            source and target are one image; or the source's reconstruction is as near to the
            target as the target's own.

    Example:
        >>> one = torch.ones(3)
        >>> curve = DistortionCurve(torch.arange(3.0), torch.tensor([4.0, 3.0, 2.0]), 5 * one, one,
        ...                         4 * one)
        >>> auddc(curve) < 1
        True
    """

    noise: Tensor
    adv_to_target: Tensor
    source_to_target: Tensor
    target_recon_to_target: Tensor
    source_recon_to_target: Tensor

    def __post_init__(self) -> None:
        for name, given in vars(self).items():
            object.__setattr__(self, name, floats(name, given))
        require_same_shape(**vars(self))
        if self.noise.ndim != 1 or not len(self.noise):
            raise GenrobustError(
                f"the curve's tensors are {tuple(self.noise.shape)}; give (T,), T at least 1"
            )
        for name, given in vars(self).items():
            if not bool(((given >= 0) & given.isfinite()).all()):
                raise GenrobustError(
                    f"{name} holds a number that is negative, NaN or infinite; give distances, and "
                    "leave out strengths at which the model or the attack failed"
                )
        if not bool((self.source_to_target > 0).all()):
            raise GenrobustError("source and target are one image; choose another target")
        if not bool((self.source_recon_to_target > self.target_recon_to_target).all()):
            raise GenrobustError(
                "the source's reconstruction is as near to the target as the target's own "
                "reconstruction, so that an attack has nothing to gain; choose another target"
            )

    def normalised(self) -> tuple[Tensor, Tensor]:
        r"""Both axes in units of the pair, (T,) float64 each.

        .. math::
            u = \frac{\|d\|}{\|x - x_t\|}, \qquad
            v = \frac{\|\hat x(x + d) - x_t\| - \|\hat x(x_t) - x_t\|}
                     {\|\hat x(x) - x_t\| - \|\hat x(x_t) - x_t\|}

        u is 1 where the change is as large as showing the target itself; v is 1 where the
        reconstruction has not moved and 0 where it is as near as the target's own.
        """
        floor = self.target_recon_to_target.double()
        gained = self.adv_to_target.double() - floor
        return (
            self.noise.double() / self.source_to_target.double(),
            gained / (self.source_recon_to_target.double() - floor),
        )


def distortion_curves(
    model: GenerativeModel, x: Tensor, x_target: Tensor, x_adv: Tensor
) -> list[DistortionCurve]:
    """Measure the curves of a sweep of attack strengths, on the deployed reconstructions.

    Args:
        model: the model that was attacked.
        x: sources, (B, C, H, W) in [0, 1].
        x_target: their targets, of the same shape.
        x_adv: the adversarial images of T strengths, (T, B, C, H, W).

    Returns:
        One curve a source.

    Raises:
        GenrobustError: shapes differ, or as :class:`DistortionCurve`.

    Example:
        >>> import genrobust
        >>> class Identity(torch.nn.Module):
        ...     input_shape = (1, 2, 2)
        ...     def encode(self, x): return x.flatten(1)
        ...     def decode(self, z): return 0.9 * z.view(-1, 1, 2, 2)
        >>> x, x_target = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.8)
        >>> sweep = torch.stack([x, (x + x_target) / 2, x_target])
        >>> [curve] = distortion_curves(genrobust.wrap(Identity()), x, x_target, sweep)
        >>> round(auddc(curve), 6)
        0.5
    """
    x, x_target = inputs("x", x, model), inputs("x_target", x_target, model)
    sweep = [inputs(f"x_adv[{t}]", given, model) for t, given in enumerate(x_adv)]
    require_same_shape(x=x, x_target=x_target, **{f"x_adv[{t}]": s for t, s in enumerate(sweep)})
    with torch.no_grad():
        source, target = model.reconstruct(x), model.reconstruct(x_target)
        found = [l2(x_target, model.reconstruct(attacked)) for attacked in sweep]
    noise = torch.stack([l2(x, attacked) for attacked in sweep], 1)
    adv_to_target = torch.stack(found, 1)
    limits = torch.stack([l2(x, x_target), l2(x_target, target), l2(x_target, source)], 1)
    return [
        DistortionCurve(noise[i], adv_to_target[i], *limits[i, :, None].expand(-1, len(sweep)))
        for i in range(len(x))
    ]


def auddc(curve: DistortionCurve) -> float:
    r"""The area under the normalised distortion-distortion curve of one pair.

    Of the points :math:`(u, v)` of :meth:`DistortionCurve.normalised` those with
    :math:`0 \le u \le 1` are kept and sorted by u; the points :math:`(u_{\max}, v_{\min})` and
    :math:`(1, v_{\min})` are appended; the area is the trapezoids' sum. As published, there is no
    anchor at u = 0, so a sweep should include perturbations close to none. A model's AUDDC is the
    mean over its pairs.

    Args:
        curve: the measured curve.

    Returns:
        A number that is 1 where the reconstruction never moves and 0 where it matches the
        target's for any perturbation; higher is more robust. Noise can carry it slightly outside.

    Raises:
        GenrobustError: every perturbation is larger than the distance from source to target.

    Example:
        >>> never = DistortionCurve(torch.tensor([0.0, 1.0]), torch.tensor([3.0, 3.0]),
        ...                         torch.tensor([2.0, 2.0]), torch.zeros(2), torch.full((2,), 3.0))
        >>> auddc(never)
        1.0
    """
    u, v = curve.normalised()
    kept = (u >= 0) & (u <= 1)
    if not bool(kept.any()):
        raise GenrobustError(
            "every perturbation is larger than the distance from source to target, where the curve "
            "ends; sweep weaker attacks (a stronger penalty, a smaller radius)"
        )
    u, order = u[kept].sort(stable=True)
    v = v[kept][order]
    lowest = v.min()
    u = torch.cat([u, u[-1:], u.new_ones(1)])
    v = torch.cat([v, lowest.expand(2)])
    return float(torch.trapezoid(v, u))
