"""Metrics: pure functions from tensors, posteriors or a model to numbers, one a sample or one.

A file is never named like a function of it, so that ``genrobust.metrics.auddc`` is the function
whatever was imported before.
"""

from __future__ import annotations

from genrobust.metrics.bootstrap import paired_difference
from genrobust.metrics.disentanglement import (
    Disentanglement,
    active_latents,
    beta_score,
    dci,
    disentanglement_of,
    factor_score,
    mig,
    modularity,
    sap,
)
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

__all__ = [
    "FID",
    "Disentanglement",
    "DistortionCurve",
    "Features",
    "Probe",
    "active_latents",
    "as_ignore_target",
    "as_target",
    "as_target_of_wrong",
    "auddc",
    "beta_score",
    "certified_margin",
    "certified_margin_fixed_std",
    "dci",
    "disentanglement_of",
    "distortion_curves",
    "encoder_jacobian",
    "eps50",
    "exact_accuracy",
    "exact_area",
    "exact_eps50",
    "factor_score",
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
    "mig",
    "modularity",
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
    "sap",
    "ssim",
    "success_rate",
    "symmetric_kl",
    "target_log_likelihood",
    "token_flip_rate",
    "von_neumann_entropy",
]
