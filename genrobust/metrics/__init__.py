"""Metrics: pure functions from tensors, posteriors or a model to numbers, one a sample or one.

Everything here is imported when first used. A file is never named like a function of it, so that
``genrobust.metrics.auddc`` is the function whatever was imported before.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from genrobust.registry import Registry

if TYPE_CHECKING:
    from genrobust.metrics.bootstrap import paired_difference
    from genrobust.metrics.distances import l0, l2, linf, rmse
    from genrobust.metrics.distortion import DistortionCurve, auddc, distortion_curves
    from genrobust.metrics.exact import exact_accuracy, exact_area, exact_eps50
    from genrobust.metrics.frechet import FID, Features, fid, inception_features, judge_features
    from genrobust.metrics.geometry import (
        encoder_jacobian,
        largest_eigenvalue,
        pullback_spectrum,
        von_neumann_entropy,
    )
    from genrobust.metrics.latent import (
        Probe,
        fit_probe,
        latent_displacement,
        mahalanobis_displacement,
        probe_accuracy,
        probe_agreement,
        symmetric_kl,
        token_flip_rate,
    )
    from genrobust.metrics.likelihood import target_log_likelihood
    from genrobust.metrics.margin import (
        certified_margin,
        certified_margin_fixed_std,
        first_order_margin,
        robust_probability,
        robustness_margin,
    )
    from genrobust.metrics.similarity import ms_ssim_small, ssim
    from genrobust.metrics.success import (
        as_ignore_target,
        as_target,
        as_target_of_wrong,
        eps50,
        robust_accuracy,
        robust_area,
        success_rate,
    )

#: What gives a number, by name; arguments are in each function's docstring.
_METRICS = {
    "as_ignore_target": "success",
    "as_target": "success",
    "as_target_of_wrong": "success",
    "auddc": "distortion",
    "certified_margin": "margin",
    "certified_margin_fixed_std": "margin",
    "eps50": "success",
    "exact_accuracy": "exact",
    "exact_area": "exact",
    "exact_eps50": "exact",
    "fid": "frechet",
    "first_order_margin": "margin",
    "l0": "distances",
    "l2": "distances",
    "largest_eigenvalue": "geometry",
    "latent_displacement": "latent",
    "linf": "distances",
    "mahalanobis_displacement": "latent",
    "ms_ssim_small": "similarity",
    "paired_difference": "bootstrap",
    "probe_accuracy": "latent",
    "probe_agreement": "latent",
    "rmse": "distances",
    "robust_accuracy": "success",
    "robust_area": "success",
    "robust_probability": "margin",
    "robustness_margin": "margin",
    "ssim": "similarity",
    "symmetric_kl": "latent",
    "target_log_likelihood": "likelihood",
    "token_flip_rate": "latent",
    "von_neumann_entropy": "geometry",
}

#: What metrics are made with.
_TOOLS = {
    "DistortionCurve": "distortion",
    "FID": "frechet",
    "Features": "frechet",
    "Probe": "latent",
    "distortion_curves": "distortion",
    "encoder_jacobian": "geometry",
    "fit_probe": "latent",
    "inception_features": "frechet",
    "judge_features": "frechet",
    "pullback_spectrum": "geometry",
    "success_rate": "success",
}

METRICS: Registry[Callable[..., Any]] = Registry(
    "metric", {name: f"genrobust.metrics.{file}:{name}" for name, file in _METRICS.items()}
)

__all__ = [
    "FID",
    "METRICS",
    "DistortionCurve",
    "Features",
    "Probe",
    "as_ignore_target",
    "as_target",
    "as_target_of_wrong",
    "auddc",
    "certified_margin",
    "certified_margin_fixed_std",
    "distortion_curves",
    "encoder_jacobian",
    "eps50",
    "exact_accuracy",
    "exact_area",
    "exact_eps50",
    "fid",
    "first_order_margin",
    "fit_probe",
    "inception_features",
    "judge_features",
    "l0",
    "l2",
    "largest_eigenvalue",
    "latent_displacement",
    "linf",
    "mahalanobis_displacement",
    "ms_ssim_small",
    "paired_difference",
    "probe_accuracy",
    "probe_agreement",
    "pullback_spectrum",
    "rmse",
    "robust_accuracy",
    "robust_area",
    "robust_probability",
    "robustness_margin",
    "ssim",
    "success_rate",
    "symmetric_kl",
    "target_log_likelihood",
    "token_flip_rate",
    "von_neumann_entropy",
]


def __getattr__(name: str) -> Any:
    file = {**_METRICS, **_TOOLS}.get(name)
    if file is None:
        raise AttributeError(f"module 'genrobust.metrics' has no attribute '{name}'")
    return getattr(import_module(f"genrobust.metrics.{file}"), name)


def __dir__() -> list[str]:
    return __all__
