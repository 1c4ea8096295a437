"""wrap(): every form of user model, and one clear sentence for each mistake."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributions as D
from torch import Tensor, nn

import genrobust
from genrobust.errors import GenrobustError
from genrobust.models import check_model, load_model, wrap
from genrobust.models.checks.fidelity import fidelity
from genrobust.models.reading.modules import own_shape
from genrobust.posterior import Categorical, Gaussian, Point, Posterior


class Toy(nn.Module):
    """8x8 images, three latents; the expected answers come from its four linear maps."""

    input_shape: Any = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.to_mean, self.to_logvar = nn.Linear(64, 3), nn.Linear(64, 3)
            self.from_code = nn.Linear(3, 64)

    def mean(self, x: Tensor) -> Tensor:
        return self.to_mean(x.flatten(1))

    def logvar(self, x: Tensor) -> Tensor:
        return self.to_logvar(x.flatten(1))

    def image(self, z: Tensor) -> Tensor:
        return self.from_code(z.flatten(1)).sigmoid().view(-1, 1, 8, 8)


class Usual(Toy):
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(x), self.logvar(x)

    def decode(self, z: Tensor) -> Tensor:
        return self.image(z)


class ModelOutput(OrderedDict[str, Any]):
    """As pythae's: a mapping whose entries are attributes too."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        super().__setattr__(key, value)


class LatentDist:
    """As diffusers' DiagonalGaussianDistribution, whose ``sample`` is a method."""

    def __init__(self, mean: Tensor, logvar: Tensor) -> None:
        self.mean, self.logvar = mean, logvar

    def sample(self) -> Tensor:
        return self.mean + torch.randn_like(self.mean)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))


GAUSSIAN_FORMS: dict[str, Callable[[Toy, Tensor], Any]] = {
    "tuple": lambda t, x: (t.mean(x), t.logvar(x)),
    "list": lambda t, x: [t.mean(x), t.logvar(x)],
    "tuple with a loss third": lambda t, x: (t.mean(x), t.logvar(x), t.logvar(x).exp().sum()),
    "joint-vae, continuous alone": lambda t, x: {"cont": [t.mean(x), t.logvar(x)]},
    "diffusers": lambda t, x: SimpleNamespace(latent_dist=LatentDist(t.mean(x), t.logvar(x))),
    "latent_dist of torch": lambda t, x: SimpleNamespace(
        latent_dist=D.Normal(t.mean(x), (0.5 * t.logvar(x)).exp())
    ),
    "pythae": lambda t, x: ModelOutput(embedding=t.mean(x), log_covariance=t.logvar(x)),
    "Normal": lambda t, x: D.Normal(t.mean(x), (0.5 * t.logvar(x)).exp()),
    "Independent": lambda t, x: D.Independent(D.Normal(t.mean(x), (t.logvar(x) / 2).exp()), 1),
    "Posterior": lambda t, x: Posterior((Gaussian(t.mean(x), t.logvar(x)),)),
}
POINT_FORMS: dict[str, Callable[[Toy, Tensor], Any]] = {
    "tensor": lambda t, x: t.mean(x),
    "tuple of one": lambda t, x: (t.mean(x),),
    "pythae's plain autoencoder": lambda t, x: ModelOutput(embedding=t.mean(x)),
    "Posterior": lambda t, x: Posterior((Point(t.mean(x)),)),
}
CATEGORICAL_FORMS: dict[str, Callable[[Toy, Tensor], Any]] = {
    "OneHotCategorical": lambda t, x: D.OneHotCategorical(logits=t.mean(x)),
    "Categorical": lambda t, x: D.Categorical(logits=t.mean(x)),
    "relaxed": lambda t, x: D.RelaxedOneHotCategorical(torch.tensor(0.5), logits=t.mean(x)),
    "joint-vae": lambda t, x: {"disc": [t.mean(x).softmax(1)]},
    "Posterior": lambda t, x: Posterior((Categorical(t.mean(x)),)),
}
DECODED_FORMS: dict[str, Callable[[Toy, Tensor], Any]] = {
    "tensor": lambda t, z: t.image(z),
    "flattened": lambda t, z: t.image(z).flatten(1),
    "diffusers": lambda t, z: SimpleNamespace(sample=t.image(z)),
    "pythae": lambda t, z: ModelOutput(reconstruction=t.image(z)),
    "tuple": lambda t, z: (t.image(z), None),
    "Bernoulli": lambda t, z: D.Bernoulli(t.image(z)),
    "Independent Normal": lambda t, z: D.Independent(D.Normal(t.image(z), 0.1), 3),
}


@pytest.mark.parametrize("form", GAUSSIAN_FORMS)
def test_every_form_of_gaussian_is_read(form: str, x: Tensor) -> None:
    toy = Toy()
    encode = GAUSSIAN_FORMS[form]
    model = wrap(toy, encode=lambda x: encode(toy, x), decode=toy.image)
    posterior = model.encode(x)
    assert [type(part) for part in posterior.parts] == [Gaussian]
    torch.testing.assert_close(posterior.parts[0].mean, toy.mean(x))  # type: ignore[attr-defined]
    torch.testing.assert_close(posterior.parts[0].logvar, toy.logvar(x))  # type: ignore[attr-defined]
    torch.testing.assert_close(model.reconstruct(x), toy.image(toy.mean(x)))


@pytest.mark.parametrize("form", POINT_FORMS)
def test_every_form_of_plain_autoencoder_is_read(form: str, x: Tensor) -> None:
    toy = Toy()
    model = wrap(toy, encode=lambda x: POINT_FORMS[form](toy, x), decode=toy.image)
    assert [type(part) for part in model.encode(x).parts] == [Point]
    torch.testing.assert_close(model.reconstruct(x), toy.image(toy.mean(x)))


@pytest.mark.parametrize("form", CATEGORICAL_FORMS)
def test_every_form_of_categorical_is_deployed_as_its_argmax(form: str, x: Tensor) -> None:
    toy = Toy()
    model = wrap(toy, encode=lambda x: CATEGORICAL_FORMS[form](toy, x), decode=toy.image)
    (part,) = model.encode(x).parts
    assert isinstance(part, Categorical)
    torch.testing.assert_close(part.logits.softmax(1), toy.mean(x).softmax(1))
    hot = torch.eye(3)[toy.mean(x).argmax(1)]
    torch.testing.assert_close(model.reconstruct(x), toy.image(hot))


@pytest.mark.parametrize("form", DECODED_FORMS)
def test_every_form_of_decoder_is_read(form: str, x: Tensor) -> None:
    toy = Toy()
    model = wrap(toy, encode=toy.mean, decode=lambda z: DECODED_FORMS[form](toy, z))
    torch.testing.assert_close(model.reconstruct(x), toy.image(toy.mean(x)))


def test_a_joint_vae_has_its_gaussians_before_its_categoricals(x: Tensor) -> None:
    class JointVAE(Toy):
        input_shape = None
        img_size = (1, 8, 8)  # the name that repository uses

        def encode(self, x: Tensor) -> dict[str, list[Tensor]]:
            mean = self.mean(x)
            return {
                "cont": [mean[:, :1], self.logvar(x)[:, :1]],
                "disc": [(5000 * mean[:, 1:]).softmax(1)],  # some underflow to 0
            }

        def decode(self, z: Tensor) -> Tensor:
            return self.image(z)

    module = JointVAE()
    model = wrap(module)
    mean = module.mean(x)
    code = torch.cat([mean[:, :1], torch.eye(2)[mean[:, 1:].argmax(1)]], 1)
    torch.testing.assert_close(model.encode(x).mode(), code)
    torch.testing.assert_close(model.reconstruct(x), module.image(code))
    assert check_model(model).latents == "1 Gaussian + one 2-way categorical"
    assert model.encode(x).vector().isfinite().all()


def test_modules_called_encoder_and_decoder_are_found(x: Tensor) -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
            self.decoder = nn.Sequential(nn.Linear(3, 64), nn.Sigmoid())

    module = Plain()
    model = wrap(module, input_shape=(1, 8, 8))
    expected = module.decoder(module.encoder(x)).view(-1, 1, 8, 8)
    torch.testing.assert_close(model.reconstruct(x), expected)
    assert model.name == "Plain"
    assert wrap(module, input_shape=(1, 8, 8), name="mine").name == "mine"


def test_encode_wins_over_encoder_and_an_argument_over_both(x: Tensor) -> None:
    class Both(Usual):
        def encoder(self, x: Tensor) -> Tensor:
            raise AssertionError("not asked for")

    module = Both()
    torch.testing.assert_close(wrap(module).encode(x).mode(), module.mean(x))
    given = wrap(module, encode=lambda x: 2 * module.mean(x))
    torch.testing.assert_close(given.encode(x).mode(), 2 * module.mean(x))


def test_spatial_latents_reach_the_decoder_in_their_shape(x: Tensor) -> None:
    class Spatial(nn.Module):
        input_shape = (1, 8, 8)

        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Conv2d(1, 4, 2, 2), nn.ConvTranspose2d(4, 1, 2, 2)

        def encode(self, x: Tensor) -> Any:
            mean = self.down(x)
            return SimpleNamespace(latent_dist=LatentDist(mean, -mean.abs()))

        def decode(self, z: Tensor) -> Any:
            assert z.shape[1:] == (4, 4, 4)
            return SimpleNamespace(sample=self.up(z).sigmoid())

    module = Spatial()
    model = wrap(module)
    assert model.encode(x).kl_to_prior().shape == (5, 64)
    torch.testing.assert_close(model.reconstruct(x), module.up(module.down(x)).sigmoid())


# Ranges


def test_a_model_in_minus_one_to_one_sees_and_gives_its_own_range(x: Tensor) -> None:
    class Signed(Toy):
        def encode(self, x: Tensor) -> Tensor:
            seen.append(x)
            return self.mean(x)

        def decode(self, z: Tensor) -> Tensor:
            return 2 * self.image(z) - 1

    seen: list[Tensor] = []
    module = Signed()
    model = wrap(module, value_range=(-1, 1))
    found = model.reconstruct(x)
    torch.testing.assert_close(seen[-1], 2 * x - 1)
    torch.testing.assert_close(found, module.image(module.mean(2 * x - 1)))
    with pytest.raises(GenrobustError, match=r"where \[0, 1\] is allowed; pass value_range"):
        wrap(module)


def test_clamp_clips_the_deployed_image_but_not_what_attacks_differentiate(x: Tensor) -> None:
    toy = Toy()
    with pytest.raises(GenrobustError, match=r"reconstructions reach from .*clamp=True"):
        wrap(toy, encode=toy.mean, decode=lambda z: 4 * toy.image(z) - 1.5)
    model = wrap(toy, encode=toy.mean, decode=lambda z: 4 * toy.image(z) - 1.5, clamp=True)
    raw = 4 * toy.image(toy.mean(x)) - 1.5
    assert raw.min() < 0
    assert raw.max() > 1
    torch.testing.assert_close(model.reconstruct(x), raw.clamp(0, 1))
    torch.testing.assert_close(model.surrogate(x, "softmax"), raw)


@pytest.mark.parametrize(
    "value_range", [(1, 0), (0.5, 0.5), (0, float("nan")), (0, 1, 2), (0, float("inf"))]
)
def test_a_bad_value_range_is_refused(value_range: Any) -> None:
    with pytest.raises(GenrobustError, match="value_range is"):
        wrap(Usual(), value_range=value_range)


def test_surrogates_differ_from_the_deployed_path_only_in_the_categorical(x: Tensor) -> None:
    toy = Toy()
    model = wrap(toy, encode=lambda x: D.OneHotCategorical(logits=toy.mean(x)), decode=toy.image)
    deployed = model.reconstruct(x)
    torch.testing.assert_close(model.surrogate(x, "deployed"), deployed)
    torch.testing.assert_close(model.surrogate(x, "straight-through"), deployed)
    soft = toy.image((toy.mean(x) / 0.5).softmax(1))
    torch.testing.assert_close(model.surrogate(x, "softmax", 0.5), soft)


# What wrapping does to the module


def test_the_module_is_put_in_eval_mode_and_frozen(x: Tensor) -> None:
    class Dropping(Usual):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def decode(self, z: Tensor) -> Tensor:
            return self.drop(self.image(z))

    module = Dropping().train()
    model = wrap(module)
    assert not any(m.training for m in module.modules())
    assert not any(p.requires_grad for p in module.parameters())
    assert torch.equal(model.reconstruct(x), model.reconstruct(x))


def test_the_weights_are_left_as_they_were() -> None:
    module = Usual()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    wrap(module)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_parameters_are_counted() -> None:
    assert wrap(Usual()).parameters == 2 * (64 * 3 + 3) + 3 * 64 + 64


def test_the_fingerprint_is_that_of_weights_and_settings() -> None:
    def changed() -> Usual:
        module = Usual()
        with torch.no_grad():
            module.from_code.bias[7] += 1e-6
        return module

    fingerprint = wrap(Usual()).fingerprint()
    assert fingerprint == wrap(Usual(), name="another name").fingerprint()
    others = [
        wrap(changed()),
        wrap(Usual(), clamp=True),
        wrap(Usual(), value_range=(0.0, 1.1)),
        wrap(Usual(), encode=Usual().mean),
        wrap(Toy(), encode=Toy().mean, decode=Toy().image),
    ]
    prints = {model.fingerprint() for model in others}
    assert len(prints) == len(others)
    assert fingerprint not in prints


# Mistakes


class NoEncode(Toy):
    decode = Toy.image


class NoDecode(Toy):
    encode = Toy.mean


class Normalised(Usual):
    """Batch norm without running statistics, so that images depend on one another."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3, track_running_stats=False)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.norm(self.mean(x)), self.logvar(x)


class NoShape(Usual):
    input_shape = None


class Sides(Usual):
    input_shape = (64,)
    img_size = (8, 8)


class SideAlone(Usual):
    input_shape = None
    img_size = 8


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (NoEncode, "NoEncode has neither 'encode' nor 'encoder'; pass encode="),
        (NoDecode, "NoDecode has neither 'decode' nor 'decoder'; pass decode="),
        (NoShape, r"image shape of NoShape is not known; pass input_shape="),
        (SideAlone, r"image shape of SideAlone is not known; pass input_shape="),
        (Sides, r"image shape of Sides is not known; pass input_shape="),
        (Normalised, r"failed on a batch of shape \(1, 1, 8, 8\)"),
        (lambda: Usual().encode, "takes a torch.nn.Module, or .* not a method"),
        (lambda: None, "takes a torch.nn.Module, or .* not a NoneType"),
    ],
)
def test_a_module_that_cannot_be_wrapped(build: Callable[[], Any], words: str) -> None:
    with pytest.raises(GenrobustError, match=words):
        wrap(build())


@pytest.mark.parametrize(
    "held", [8, (8, 8), (64,), torch.tensor([8, 8]), torch.tensor(8), "188", (1, 0, 8), None]
)
def test_what_a_module_says_of_its_shape_is_passed_over_where_it_is_none(held: Any) -> None:
    toy = Usual()
    vars(toy).update(input_shape=held, img_size=held)
    assert own_shape(toy) is None
    assert wrap(toy, input_shape=(1, 8, 8)).input_shape == (1, 8, 8)
    toy.img_size = (1, 8, 8)
    assert wrap(toy).input_shape == (1, 8, 8)


@pytest.mark.parametrize("held", [torch.tensor([1, 8, 8]), np.array([1, 8, 8]), [1.0, 8.0, 8.0]])
def test_a_shape_in_a_tensor_is_one_too(held: Any) -> None:
    toy = Usual()
    vars(toy).update(input_shape=held)
    assert wrap(toy).input_shape == wrap(Usual(), input_shape=held).input_shape == (1, 8, 8)


class Exported(nn.Module):
    """Its two halves are exported by TorchScript, and it has no forward."""

    def __init__(self) -> None:
        super().__init__()
        self.to_code, self.from_code = nn.Linear(64, 3), nn.Linear(3, 64)

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        return self.to_code(x.flatten(1))

    @torch.jit.export
    def decode(self, z: Tensor) -> Tensor:
        return self.from_code(z).sigmoid().view(-1, 1, 8, 8)


def test_a_scripted_module_without_a_forward_is_wrapped(x: Tensor) -> None:
    scripted = torch.jit.script(Exported())
    model = wrap(scripted, input_shape=(1, 8, 8))
    assert fidelity(model, x).status == "no forward"
    torch.testing.assert_close(model.reconstruct(x), scripted.decode(scripted.encode(x)))


class Called(nn.Module):
    """A part that defines the call itself, without a forward."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def __call__(self, batch: Tensor) -> Any:
        return self.part(batch)


def _with_own_forward(part: nn.Module) -> nn.Module:
    bare = nn.Module()
    bare.part, bare.forward = part, part.forward
    return bare


PARTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "compiled": lambda part: torch.compile(part, backend="eager"),
    "with a call of its own": Called,
    "with a forward set on it": _with_own_forward,
}


class Parts(nn.Module):
    input_shape = (1, 8, 8)

    def __init__(self, made: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        to_code = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        self.plain, self.encoder = to_code, made(to_code)
        self.decoder = made(
            nn.Sequential(nn.Linear(3, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))
        )


class PartsWithForward(Parts):
    def forward(self, x: Tensor) -> Any:
        return self.decoder(self.encoder(x))


@pytest.mark.parametrize("kind", [Parts, PartsWithForward])
@pytest.mark.parametrize(
    "made",
    [pytest.param(made, marks=pytest.mark.slow) if made == "compiled" else made for made in PARTS],
)
def test_parts_that_can_be_called_are_read_however_they_are(
    made: str, kind: type[Parts], x: Tensor
) -> None:
    module = kind(PARTS[made])
    model = wrap(module)
    torch.testing.assert_close(model.encode(x).mode(), module.plain(x))


@pytest.mark.parametrize(
    "held", [nn.ModuleList(), nn.ModuleDict(), nn.ParameterList(), nn.Module()]
)
def test_what_cannot_be_called_is_no_encoder(held: nn.Module) -> None:
    module = Parts(lambda part: part)
    module.encoder = held
    with pytest.raises(GenrobustError, match="nor 'encoder' that can be called; pass encode="):
        wrap(module)


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8, 1), (1, 0, 8), (), 8, "188"])
def test_an_input_shape_that_is_none_is_refused(shape: Any) -> None:
    with pytest.raises(GenrobustError, match="input_shape"):
        wrap(Usual(), input_shape=shape)


def test_another_input_shape_than_the_models_is_refused() -> None:
    with pytest.raises(GenrobustError, match=r"encode failed on .*\(4, 3, 16, 16\).*input_shape"):
        wrap(Usual(), input_shape=(3, 16, 16))


@torch.no_grad()
def _without_gradient(toy: Toy, x: Tensor) -> Tensor:
    return toy.mean(x)


@torch.inference_mode()
def _inference(toy: Toy, x: Tensor) -> Tensor:
    return toy.mean(x)


BAD_ENCODERS: dict[str, tuple[Callable[[Toy, Tensor], Any], str]] = {
    "None": (lambda t, x: None, "encoder returned a NoneType; known are"),
    "number": (lambda t, x: 3.0, "encoder returned a float; known are"),
    "unknown mapping": (lambda t, x: {"mu": t.mean(x)}, r"dict with keys \['mu'\]; known are"),
    "empty tuple": (lambda t, x: (), "encoder returned a tuple"),
    "shapes differ": (lambda t, x: (t.mean(x), t.logvar(x)[:, :2]), r"\(4, 3\).*\(4, 2\)"),
    "Cauchy": (
        lambda t, x: D.Independent(D.Cauchy(t.mean(x), 1.0), 1),
        r"distribution Cauchy, which has no mean .* your_encode\(x\)\.base_dist\.mode",
    ),
    "many categoricals": (
        lambda t, x: D.OneHotCategorical(logits=t.mean(x)[:, None].expand(-1, 2, -1)),
        r"logits of shape \(4, 2, 3\)",
    ),
    "raises": (lambda t, x: t.to_mean(x[:, :, 1:]), r"encode failed on .*\(4, 1, 8, 8\)"),
    "one code": (
        lambda t, x: t.mean(x).mean(0, keepdim=True),
        r"tensor of shape \(1, 3\) for 4 images",
    ),
    "one log-variance": (
        lambda t, x: Posterior((Gaussian(t.mean(x), t.logvar(x)[:1]),)),
        r"tensor of shape \(1, 3\) for 4 images",
    ),
    "other log-variance": (
        lambda t, x: ModelOutput(embedding=t.mean(x), log_covariance=t.logvar(x)[:, :1]),
        r"\(4, 1\) for 4 images.*of one shape",
    ),
    "no batch": (lambda t, x: t.mean(x)[:, 0], "batch first"),
    "scalar": (lambda t, x: t.mean(x).sum(), "batch first"),
    "NaN": (lambda t, x: t.mean(x) / 0 * 0, "encoder gave NaN"),
    "NaN log-variance": (lambda t, x: (t.mean(x), t.logvar(x).abs().neg().log()), "gave NaN"),
    "random": (lambda t, x: t.mean(x) + torch.randn(len(x), 3), "draws random numbers"),
    "batch-coupled": (lambda t, x: t.mean(x) - t.mean(x).mean(0), "others in its batch"),
    "no_grad": (_without_gradient, "no gradient reaches the image"),
    "inference_mode": (_inference, "no gradient reaches the image"),
    "rounded": (
        lambda t, x: (99 * t.mean(x)).round() / 99,
        "no gradient reaches the image from its reconstruction; .* takes differentiable=False",
    ),
    "detached": (lambda t, x: t.mean(x).detach(), "no gradient reaches the image"),
    "numpy": (lambda t, x: t.mean(torch.from_numpy(x.numpy())), "gradient"),
    "ignored image": (lambda t, x: t.mean(torch.ones_like(x)), "no gradient reaches the image"),
    "collapsed": (lambda t, x: 0 * t.mean(x), "one picture for all images; train the model anew"),
    "infinite gradient": (lambda t, x: t.mean((x - x.detach()).sqrt()), "gradient .* is NaN"),
}
BAD_DECODERS: dict[str, tuple[Callable[[Toy, Tensor], Any], str]] = {
    "None": (lambda t, z: None, "decoder returned a NoneType; known are"),
    "empty tuple": (lambda t, z: (), "decoder returned a tuple"),
    "other mapping": (lambda t, z: {"image": t.image(z)}, r"dict with keys \['image'\]"),
    "raises": (lambda t, z: t.image(z[:, :2]), r"decode failed on .*\(4, 3\)"),
    "too few pixels": (lambda t, z: t.image(z)[..., :6], r"\(4, 1, 8, 6\) for images of shape"),
    "flat, too few": (lambda t, z: t.image(z).flatten(1)[:, 1:], r"\(4, 63\) for images of"),
    "one image": (lambda t, z: t.image(z)[:1], r"\(1, 1, 8, 8\) for images of shape"),
    "scalar": (lambda t, z: t.image(z).sum(), "for images of shape"),
    "NaN": (lambda t, z: t.image(z) * torch.nan, "NaN or infinite pixels"),
    "no sigmoid": (lambda t, z: 20 * t.image(z) - 10, "missing sigmoid"),
    "bytes": (lambda t, z: 255 * t.image(z), r"value_range=\(lowest, highest\)"),
    "random": (lambda t, z: t.image(z) * torch.rand(1), "draws random numbers"),
    "thresholded": (lambda t, z: (t.image(z) > 0.5).float(), "no gradient reaches the image"),
}


@pytest.mark.parametrize("mistake", BAD_ENCODERS)
def test_a_wrong_encoder_is_one_clear_sentence(mistake: str) -> None:
    toy = Toy()
    encode, words = BAD_ENCODERS[mistake]
    with pytest.raises(GenrobustError, match=words):
        wrap(toy, encode=lambda x: encode(toy, x), decode=toy.image)


@pytest.mark.parametrize("mistake", BAD_DECODERS)
def test_a_wrong_decoder_is_one_clear_sentence(mistake: str) -> None:
    toy = Toy()
    decode, words = BAD_DECODERS[mistake]
    with pytest.raises(GenrobustError, match=words):
        wrap(toy, encode=toy.mean, decode=lambda z: decode(toy, z))


def test_one_picture_for_odd_images_belongs_to_the_deployed_path() -> None:
    toy = Toy()
    known = 0.1 * torch.ones(1, *toy.input_shape)

    def rejecting(x: Tensor) -> Tensor:
        """Blank for what is far from all that it knows."""
        odd = (x - known).flatten(1).norm(dim=1) > 0.5
        return torch.where(odd.view(-1, 1, 1, 1), 0.0, toy.image(toy.mean(x)))

    with pytest.raises(GenrobustError, match=r"it finds odd.* without that and .* as deploy=;"):
        wrap(toy, encode=nn.Identity(), decode=rejecting)
    for encode, decode in (
        (toy.mean, toy.image),
        (nn.Identity(), lambda x: toy.image(toy.mean(x))),
    ):
        model = wrap(toy, encode=encode, decode=decode, deploy=rejecting)
        assert float(model.reconstruct(torch.rand(2, *toy.input_shape)).max()) == 0.0
        assert float(model.reconstruct(known).max()) > 0.0


KNOWN = 0.2 * torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def _nearest(x: Tensor) -> Tensor:
    return KNOWN[torch.cdist(x.flatten(1), KNOWN.flatten(1)).argmin(1)]


@pytest.mark.parametrize(
    ("is_odd", "words"),
    [
        (lambda x: x.amin((1, 2, 3)) < 0.1, "one does where that is the image, .* finds odd"),
        (lambda x: x.amin((1, 2, 3)) < 1, r"stands still where each pixel moves by 0.01; .* knows"),
    ],
)
def test_what_answers_odd_images_by_known_ones_is_not_said_to_detach(
    is_odd: Callable[[Tensor], Tensor], words: str
) -> None:
    toy = Toy()

    def seen(x: Tensor) -> Tensor:
        return torch.where(is_odd(x).view(-1, 1, 1, 1), _nearest(x), x)

    with pytest.raises(GenrobustError, match=f"no gradient .*{words}.* as deploy=") as found:
        wrap(toy, encode=lambda x: toy.mean(seen(x)), decode=toy.image)
    assert "no_grad" not in str(found.value)


def test_the_check_describes_what_it_found() -> None:
    toy = Toy()
    weak = check_model(wrap(toy, encode=lambda x: 0.1 * toy.mean(x), decode=toy.image))
    found = check_model(wrap(Usual()))
    assert (found.latents, found.code_size) == ("3 Gaussian", 3)
    assert 0 <= found.lowest < found.highest <= 1
    assert weak.latents == "3 point"
    assert 0 < weak.gradient < found.gradient


def test_a_registered_builder_is_a_model_by_name() -> None:
    @genrobust.MODELS.register("toy-of-this-test")
    def build(dataset: str) -> nn.Module:
        assert dataset == "digits"
        return Usual()

    try:
        assert load_model("toy-of-this-test").input_shape == (1, 8, 8)
    finally:
        genrobust.MODELS._registered.pop("toy-of-this-test")


@pytest.mark.parametrize("name", ["vae", "jointvae"])
def test_a_model_goes_to_another_process(name: str) -> None:
    model, x = load_model(name), torch.rand(2, 1, 32, 32)
    there = pickle.loads(pickle.dumps(model))
    assert torch.equal(there.reconstruct(x), model.reconstruct(x))
    assert there.fingerprint() == model.fingerprint()


@pytest.mark.parametrize("method", ["encode", "decode", "reconstruct"])
@pytest.mark.parametrize("given", [np.zeros((2, 1, 32, 32)), [[0.5]], None, "a.png"])
def test_a_model_takes_tensors(method: str, given: Any) -> None:
    words = rf"{method} is given a {type(given).__name__}; give a tensor, such as torch\.from_numpy"
    with pytest.raises(GenrobustError, match=words):
        getattr(load_model("vae"), method)(given)


def test_a_decoder_takes_a_code_of_the_posterior() -> None:
    posterior: Any = Posterior((Point(torch.zeros(1, 10)),))
    with pytest.raises(GenrobustError, match=r"given a Posterior; give a tensor, such as its mode"):
        load_model("vae").decode(posterior)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64, torch.float16])
def test_images_of_another_type_than_the_weights_are_told_so(dtype: torch.dtype) -> None:
    with pytest.raises(GenrobustError, match=r"; give it numbers of its weights' type, such as"):
        load_model("vae").reconstruct(torch.ones(2, 1, 32, 32).to(dtype))


def test_what_holds_a_module_or_none_is_told_how_it_is_given() -> None:
    class Pipeline:
        def __init__(self, vae: nn.Module) -> None:
            self.name, self.vae = "mine", vae

    given: Any
    for given, words in (
        (Pipeline(Toy()), "give the module that it holds, such as its .vae, and"),
        (lambda x: x, "in the forward of a module of your own, and takes differentiable=False"),
    ):
        with pytest.raises(GenrobustError, match=words):
            genrobust.wrap(given)
