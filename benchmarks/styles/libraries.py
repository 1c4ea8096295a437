"""Models of other people's libraries, small, where they are installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrobust.data.torchvision_datasets import torchvision_datasets
from styles.case import SHAPE, Case, Truth


def _still(get: Callable[[nn.Module, Tensor], Tensor]) -> Truth:
    """What a module gives where what it draws with randn_like is 0."""

    def truth(module: nn.Module, x: Tensor) -> Tensor:
        with mock.patch("torch.randn_like", torch.zeros_like):
            return get(module, x)

    return truth


#: pythae's models, each with what to type where it is not read as it is.
_PYTHAE = {
    **dict.fromkeys(("AE", "VAE", "BetaVAE", "DisentangledBetaVAE", "BetaTCVAE", "FactorVAE"), ""),
    **dict.fromkeys(("INFOVAE_MMD", "WAE_MMD", "RAE_L2", "RAE_GP", "VAMP", "Adversarial_AE"), ""),
    **dict.fromkeys(("VAEGAN", "MSSSIM_VAE", "IWAE", "MIWAE", "PIWAE", "CIWAE"), ""),
    **dict.fromkeys(("HVAE", "RHVAE"), ""),
    "PoincareVAE": "encode=lambda x: module.encoder(x).embedding",
    "VQVAE": "",
    "SVAE": "encode=lambda x: F.normalize(module.encoder(x).embedding)",
    "VAE_LinNF": "decode=lambda z: module.decoder(reduce(lambda h, f: f(h).out, module.net, z))",
    "VAE_IAF": "decode=lambda z: module.decoder(module.iaf_flow.inverse(z).out)",
}


def _decoded(m: Any, x: Tensor) -> Tensor:
    return m.decoder(m.encoder(x).embedding).reconstruction


def _recon(m: Any, x: Tensor) -> Tensor:
    return m({"data": x}).recon_x


_PYTHAE_TRUTH: dict[str, Truth] = {
    "VQVAE": _recon,
    "SVAE": lambda m, x: m.decoder(F.normalize(m.encoder(x).embedding)).reconstruction,
    "VAE_LinNF": _still(_recon),
    "VAE_IAF": _still(_recon),
}


def library_cases() -> Iterator[Case]:
    """Models of other people's libraries, small, where they are installed."""
    with suppress(Exception):
        torchvision_datasets()  # makes torchvision importable, which some of them import
    for cases in (_pythae, _monai, _diffusers, _compressai, _lucidrains):
        with suppress(ImportError):
            yield from cases()


def _pythae() -> Iterator[Case]:
    from pythae import models

    def build(name: str) -> nn.Module:
        config = getattr(models, f"{name}Config", None) or getattr(models, f"{name}_Config")
        return getattr(models, name)(config(input_dim=SHAPE, latent_dim=6))

    for name, mend in _PYTHAE.items():
        truth = _PYTHAE_TRUTH.get(name, _decoded)
        # Its spread is one of the hyperbolic plane, of which no log-variance tells.
        logvar = (lambda m, x: m.encoder(x).log_covariance + 9) if name == "PoincareVAE" else None
        yield Case(f"pythae {name}", partial(build, name), truth, logvar, mend=mend)


def _monai() -> Iterator[Case]:
    from monai.networks import nets

    two = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1}
    given = {"input_shape": SHAPE, "clamp": True}
    build = partial(nets.AutoEncoder, **two, channels=(4, 8), strides=(2, 2))
    yield Case("monai AutoEncoder", build, lambda m, x: m(x), wrap=given)
    build = partial(
        nets.VarAutoEncoder,
        2,
        in_shape=SHAPE,
        out_channels=1,
        latent_size=24,
        channels=(4, 8),
        strides=(2, 2),
    )
    # Its forward decodes mean + std in eval mode.
    mend = "encode=module.encode_forward, decode=module.decode_forward, "
    mend += "deploy=lambda x: module(x)[0]"
    yield Case("monai VarAutoEncoder", build, lambda m, x: m(x)[0], wrap=given, mend=mend)
    build = partial(
        nets.VQVAE,
        **two,
        **{"channels": (8, 8), "num_res_channels": (8, 8), "num_res_layers": 1},
        downsample_parameters=((2, 4, 1, 1),) * 2,
        upsample_parameters=((2, 4, 1, 1, 0),) * 2,
        **{"num_embeddings": 16, "embedding_dim": 4},
    )
    yield Case("monai VQVAE", build, lambda m, x: m(x)[0], wrap=given)
    build = partial(
        nets.AutoencoderKL,
        **two,
        **{"channels": (8, 8), "attention_levels": (False, False), "num_res_blocks": (1, 1)},
        **{"latent_channels": 3, "norm_num_groups": 4},
    )
    mend = "encode=lambda x: (lambda m, s: (m, 2 * s.log()))(*module.encode(x))"

    def logvar(m: Any, x: Tensor) -> Tensor:
        return 2 * m.encode(x)[1].log()

    def truth(m: Any, x: Tensor) -> Tensor:
        return m.decode(m.encode(x)[0])

    yield Case("monai AutoencoderKL", build, truth, logvar, wrap=given, mend=mend)


def _diffusers() -> Iterator[Case]:
    import diffusers

    blocks = {"block_out_channels": (8, 8), "down_block_types": ("DownEncoderBlock2D",) * 2}
    blocks |= {"up_block_types": ("UpDecoderBlock2D",) * 2, "norm_num_groups": 4}
    blocks |= {"sample_size": 16, "latent_channels": 3}
    given = {"value_range": (-1, 1), "clamp": True}

    def sample(m: Any, x: Tensor) -> Tensor:
        return m(x).sample

    build = partial(diffusers.AutoencoderKL, **blocks)

    def logvar(m: Any, x: Tensor) -> Tensor:
        return m.encode(x).latent_dist.logvar

    yield Case("diffusers AutoencoderKL", build, sample, logvar, wrap=given)
    bare = {"encode": "lambda x: module.encode(x).latent_dist"}
    name = "diffusers DiagonalGaussianDistribution"
    yield Case(name, build, sample, logvar, wrap={**given, **bare})
    build = partial(diffusers.VQModel, **blocks, num_vq_embeddings=16)
    yield Case("diffusers VQModel", build, sample, wrap=given)
    two = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    build = partial(
        diffusers.AutoencoderTiny, **two, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)
    )
    three = {"input_shape": (3, 16, 16), "clamp": True}
    mend = "deploy=lambda x: module(x).sample"  # its forward keeps codes as bytes
    yield Case("diffusers AutoencoderTiny", build, sample, wrap=three, mend=mend)
    build = partial(
        diffusers.AutoencoderDC,
        **two,
        **{"encoder_block_types": "ResBlock", "decoder_block_types": "ResBlock"},
        **{"encoder_layers_per_block": (1, 1), "decoder_layers_per_block": (1, 1)},
        **{"encoder_qkv_multiscales": ((), ()), "decoder_qkv_multiscales": ((), ())},
        **{"latent_channels": 4, "attention_head_dim": 4, "downsample_block_type": "conv"},
    )
    yield Case("diffusers AutoencoderDC", build, sample, wrap=three)


def _compressai() -> Iterator[Case]:
    from compressai import models

    mend = "encode=module.g_a, decode=module.g_s, deploy=lambda x: module(x)['x_hat']"
    for name in ("FactorizedPrior", "MeanScaleHyperprior"):
        build = partial(getattr(models, name), 8, 12)
        given = {"input_shape": (3, 64, 64), "clamp": True}
        yield Case(f"compressai {name}", build, lambda m, x: m(x)["x_hat"], wrap=given, mend=mend)


class Quantised(nn.Module):
    """A VAE with a quantiser of lucidrains' library: in encode, or between the halves."""

    input_shape = SHAPE

    def __init__(self, width: int, quantiser: nn.Module, between: bool = False) -> None:
        super().__init__()
        self.between = between
        self.encoder = nn.Conv2d(1, width, 4, 4)
        self.vq = quantiser
        self.decoder = nn.Sequential(nn.ConvTranspose2d(width, 1, 4, 4), nn.Sigmoid())

    def encode(self, x: Tensor) -> Tensor:
        features: Tensor = self.encoder(x)
        return features if self.between else self.vq(features)[0]

    def decode(self, z: Tensor) -> Tensor:
        image: Tensor = self.decoder(z)
        return image

    def forward(self, x: Tensor) -> Tensor:
        z = self.encode(x)
        return self.decode(self.vq(z)[0] if self.between else z)


#: Of each quantiser the channels that it takes, its class and its settings.
LUCIDRAINS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "plain": (8, "VectorQuantize", {"dim": 8}),
    "cosine": (8, "VectorQuantize", {"dim": 8, "use_cosine_sim": True}),
    "projected": (8, "VectorQuantize", {"dim": 8, "codebook_dim": 4}),
    "heads": (8, "VectorQuantize", {"dim": 8, "heads": 2}),
    "grouped": (8, "GroupedResidualVQ", {"dim": 8, "groups": 2, "num_quantizers": 2}),
    "levels": (4, "FSQ", {"levels": [8, 5, 5, 5]}),
    "signs": (4, "LFQ", {"dim": 4}),
}


def lucidrains(name: str, between: bool = False) -> Quantised:
    """A model with one of the quantisers of the library ``vector-quantize-pytorch``."""
    import vector_quantize_pytorch as library

    width, kind, settings = LUCIDRAINS[name]
    if kind != "FSQ":
        settings = {**settings, "codebook_size": 16}
    if kind in ("VectorQuantize", "GroupedResidualVQ"):
        settings = {**settings, "accept_image_fmap": True}
    return Quantised(width, getattr(library, kind)(**settings), between)


def _lucidrains() -> Iterator[Case]:
    import vector_quantize_pytorch

    assert vector_quantize_pytorch  # its absence is told here, and not where a case is built
    mend = "decode=lambda z: module.decode(module.vq(z)[0])"
    for name in LUCIDRAINS:
        yield Case(f"lucidrains {name}", partial(lucidrains, name), lambda m, x: m(x))
        if name in ("projected", "levels"):
            build = partial(lucidrains, name, True)
            yield Case(f"lucidrains {name} between", build, lambda m, x: m(x), mend=mend)
