"""What a user's module is, gives and goes through: precision, devices, its state, its weights."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import genrobust
from genrobust.cli.app import app
from genrobust.data.base import DATASETS, Images
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.models.checks.check import check_model
from genrobust.models.networks import ConvVAE, NetworkSpec, initialised
from genrobust.models.weights import load_state_dict, read_state_dict
from genrobust.runner.options import Options
from genrobust.runner.prepare import prepare
from genrobust.suites import Suite, load_suite

pytestmark = pytest.mark.usefixtures("brief")


class Toy(nn.Module):
    """8x8 images, three latents."""

    input_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.enc, self.dec = nn.Linear(64, 6), nn.Linear(3, 64)

    def encode(self, x: Tensor) -> Any:
        return self.enc(x.flatten(1)).chunk(2, 1)

    def decode(self, z: Tensor) -> Any:
        return self.dec(z).sigmoid().view(-1, 1, 8, 8)


@pytest.fixture
def quick() -> Suite:
    """Two digits under one short attack."""
    return load_suite("digits").with_attacks(["noise"]).limited(2)


# Precision


LOW = {torch.float16: 4e-3, torch.bfloat16: 3e-2, torch.float64: 1e-5}


@pytest.mark.parametrize("precision", LOW)
def test_a_module_in_another_precision_sees_its_own_and_gives_float32(
    precision: torch.dtype,
) -> None:
    exact = genrobust.wrap(Toy())
    model = genrobust.wrap(Toy().to(precision))
    x = torch.rand(4, 1, 8, 8).requires_grad_()
    posterior, image = model.encode(x), model.reconstruct(x)
    part: Any = posterior.parts[0]
    assert part.mean.dtype == part.logvar.dtype == image.dtype == torch.float32
    torch.testing.assert_close(image, exact.reconstruct(x), rtol=0, atol=LOW[precision])
    (gradient,) = torch.autograd.grad(image.square().sum(), x)
    (wanted,) = torch.autograd.grad(exact.reconstruct(x).square().sum(), x)
    assert gradient.dtype == torch.float32
    assert (gradient - wanted).norm() < 10 * LOW[precision] * wanted.norm()


@pytest.mark.slow
@pytest.mark.parametrize("precision", LOW)
def test_a_model_in_another_precision_is_benchmarked(
    precision: torch.dtype, small_suite: Suite
) -> None:
    spec = NetworkSpec(gaussian=4, categorical=(5,), layers="dense")
    module = initialised(spec, seed=3).to(precision)
    suite = small_suite.limited(2).model_copy(update={"eps": (0.1,)})
    suite = suite.with_attacks(["latent", "noise"])
    found = genrobust.bench(module, suite)
    assert found.scores.sources == 2


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e7])
def test_small_and_large_gradients_pass_through_half_precision(
    factor: float, precision: torch.dtype
) -> None:
    """A judge that is sure gives a gradient that is 0 in half precision, and is not 0."""
    exact, model = genrobust.wrap(Toy()), genrobust.wrap(Toy().to(precision))
    x = torch.rand(4, 1, 8, 8).requires_grad_()
    weights = factor * torch.tensor([1, 1e-3, 1e-6, 0]).view(-1, 1, 1, 1)

    def gradient(of: genrobust.GenerativeModel, what: str) -> Tensor:
        part: Any = of.encode(x).parts[0]
        found = {
            "image": of.surrogate(x, "softmax"),
            "codes": (part.mean + part.logvar).square()[:, :, None, None],
        }[what]
        (gradient,) = torch.autograd.grad((weights * found).sum(), x)
        return gradient

    for what in ("image", "codes"):
        wanted, found = gradient(exact, what), gradient(model, what)
        assert torch.equal(found[3], torch.zeros(1, 8, 8))
        for ours, theirs in zip(found[:3], wanted[:3], strict=True):
            assert (ours - theirs).norm() < 10 * LOW[precision] * theirs.norm()


def half_of(t: Any) -> Any:
    return t.half() if isinstance(t, Tensor) else type(t)(half_of(item) for item in t)


@pytest.mark.parametrize("change", [half_of, lambda t: t.double() if isinstance(t, Tensor) else t])
def test_results_in_another_precision_than_the_weights_are_float32(
    change: Callable[[Any], Any],
) -> None:
    toy = Toy()
    model = genrobust.wrap(
        toy, encode=lambda x: change(toy.encode(x)), decode=lambda z: change(toy.decode(z))
    )
    x = torch.rand(3, 1, 8, 8)
    assert model.reconstruct(x).dtype == torch.float32
    assert {t.dtype for t in vars(model.encode(x).parts[0]).values()} == {torch.float32}


def test_a_deployment_in_another_precision_works_too() -> None:
    toy = Toy().half()
    model = genrobust.wrap(toy, deploy=lambda x: toy.decode(toy.encode(x)[0]))
    assert model.reconstruct(torch.rand(3, 1, 8, 8)).dtype == torch.float32


def test_probabilities_that_underflow_in_half_precision_have_finite_logits() -> None:
    toy = Toy().half()
    model = genrobust.wrap(toy, encode=lambda x: {"disc": [(40 * toy.encode(x)[0]).softmax(1)]})
    part: Any = model.encode(torch.rand(3, 1, 8, 8)).parts[0]
    assert part.logits.isfinite().all()


def test_halves_in_two_precisions_work_where_each_is_a_module() -> None:
    class Halves(nn.Module):
        input_shape = (1, 8, 8)

        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).half()
            self.decoder = nn.Sequential(nn.Linear(3, 64), nn.Sigmoid())

    x = torch.rand(3, 1, 8, 8)
    assert genrobust.wrap(Halves()).reconstruct(x).dtype == torch.float32

    class Mixed(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.enc = self.enc.half()

    with pytest.raises(GenrobustError, match=r"float16 and float32; pass decode=.*module\.decode"):
        genrobust.wrap(Mixed())


# What no model may give


BAD: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "complex": (lambda t: torch.complex(t, t), r"gave complex numbers \(complex64\)"),
    "integers": (lambda t: (100 * t).long(), r"gave whole numbers \(int64\).*output\.float\(\)"),
    "bytes": (lambda t: (100 * t).byte(), r"gave whole numbers \(uint8\)"),
    "truth": (lambda t: t > 0.5, r"gave whole numbers \(bool\)"),
    "sparse": (lambda t: t.to_sparse(), r"gave a sparse tensor.*to_dense"),
    "nested": (lambda t: torch.nested.nested_tensor(list(t)), r"gave a nested tensor"),
    "meta": (lambda t: t.to("meta"), r"gave a tensor on 'meta' for one on 'cpu'"),
    "quantised": (
        lambda t: torch.quantize_per_tensor(t.detach(), 0.1, 0, torch.quint8),
        "gave quantised numbers",
    ),
    "nothing": (lambda t: None, "returned a NoneType"),
    "NaN": (lambda t: t * torch.nan, "gave NaN or infinite"),
    "infinite": (lambda t: t + torch.inf, "gave NaN or infinite"),
    "a list of images": (lambda t: [list(t)], "returned a list of|in which no two"),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested", "ignore:torch.quantize")
@pytest.mark.parametrize("stage", ["encode", "decode", "deploy"])
@pytest.mark.parametrize("case", BAD)
def test_what_no_model_may_give_is_one_sentence(case: str, stage: str) -> None:
    change, words = BAD[case]
    toy, given = Toy(), {}
    given = {
        "encode": {"encode": lambda x: change(toy.encode(x)[0])},
        "decode": {"decode": lambda z: change(toy.decode(z))},
        "deploy": {"deploy": lambda x: change(toy.decode(toy.encode(x)[0]))},
    }[stage]
    with pytest.raises(GenrobustError, match=words) as raised:
        genrobust.wrap(toy, **given)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    names = {"encode": "the encoder", "decode": "the decoder", "deploy": "deploy="}
    assert names[stage] in str(raised.value)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested")
def test_what_no_posterior_may_hold_is_one_sentence() -> None:
    toy = Toy()
    for change in (lambda t: torch.complex(t, t), lambda t: t.long(), lambda t: t.to_sparse()):
        for encode in (
            lambda x, c=change: (toy.encode(x)[0], c(toy.encode(x)[1])),
            lambda x, c=change: {"disc": [c(toy.encode(x)[0].softmax(1))]},
            lambda x, c=change: {"embedding": c(toy.encode(x)[0])},
        ):
            # Whole numbers beside a code are not even asked whether they are its log-variance.
            with pytest.raises(GenrobustError, match=r"the encoder (gave \w+|returned a tuple)"):
                genrobust.wrap(toy, encode=encode)


def test_what_a_model_gives_is_never_the_image_that_it_was_given() -> None:
    """A view of its input is its own copy: neither changes the other."""
    toy = Toy()
    model = genrobust.wrap(toy, encode=lambda x: x.flatten(1), decode=lambda z: z.view(-1, 1, 8, 8))
    x = torch.rand(3, 1, 8, 8)
    before, image = x.clone(), model.reconstruct(x)
    image.zero_()
    model.encode(x).mode().zero_()
    assert torch.equal(x, before)

    def in_place(x: Tensor) -> Any:
        return toy.encode(x.sub_(0.5))

    genrobust.wrap(toy, encode=in_place).reconstruct(x)
    assert torch.equal(x, before)


# Devices


@pytest.mark.parametrize("device", ["meta", "nowhere", "cuda:99", "mps:7"])
def test_a_device_that_holds_nothing_is_refused(device: str, quick: Suite) -> None:
    with pytest.raises(GenrobustError, match=f"the device '{device}' cannot be used") as raised:
        genrobust.bench("vae", quick, device=device)
    assert "\n" not in str(raised.value)


def inferred() -> nn.Module:
    with torch.inference_mode():
        return Toy()


@pytest.mark.parametrize("use", [genrobust.wrap, genrobust.bench])
@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Toy().to("meta"), "is on the device 'meta', which holds no numbers; load it"),
        (inferred, r"was made under torch.inference_mode\(\), and lets no gradient pass"),
    ],
)
def test_weights_that_cannot_be_measured_are_refused_first(
    build: Callable[[], nn.Module], words: str, use: Callable[[nn.Module], object]
) -> None:
    with pytest.raises(GenrobustError, match=f"the weight 'enc.weight' of Toy {words}"):
        use(build())


def test_a_buffer_of_inference_mode_that_is_added_is_no_obstacle() -> None:
    module = Toy()
    with torch.inference_mode():
        module.register_buffer("seen", torch.zeros(1))
    assert genrobust.wrap(module).module is module


# The caller's module


class Live(nn.Module):
    """A module in the middle of its training: parts of it frozen, parts in eval mode."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.net = initialised(NetworkSpec(gaussian=4), seed=3)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("kept", torch.ones(3))
        self.train()
        self.net.requires_grad_(True)
        self.net.encoder.requires_grad_(False)
        self.net.decoder.eval()

    def encode(self, x: Tensor) -> Any:
        return self.net.encode(self.drop(x))

    def decode(self, z: Tensor) -> Any:
        return self.net.decode(z)


def state(module: nn.Module) -> Any:
    return (
        [part.training for part in module.modules()],
        [(id(p), p.requires_grad, p.device, p.data_ptr()) for p in module.parameters()],
        [(id(b), b.device) for b in module.buffers()],
    )


@pytest.mark.parametrize("measure", [genrobust.bench, genrobust.minimum_norm])
def test_a_live_module_is_given_back_as_it_was(measure: Any, quick: Suite) -> None:
    live = Live()
    before = state(live)
    measure(live, quick)
    assert state(live) == before
    broken = quick.model_copy(update={"data_sha256": "0" * 64})
    with pytest.raises(GenrobustError):
        measure(live, broken)
    assert state(live) == before


def test_a_run_that_fails_in_the_middle_gives_the_module_back(
    quick: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any) -> None:
        assert not live.training
        raise KeyboardInterrupt

    live = Live()
    before = state(live)
    monkeypatch.setattr("genrobust.benchmarking.execute", fails)
    with pytest.raises(KeyboardInterrupt):
        genrobust.bench(live, quick)
    assert state(live) == before


@pytest.mark.slow
def test_a_wrapped_module_that_was_trained_since_is_measured_in_eval_mode(quick: Suite) -> None:
    live = Live()
    model = genrobust.wrap(live)
    expected = genrobust.bench(model, quick)
    live.train().requires_grad_(True)
    before = state(live)
    found = genrobust.bench(model, quick)
    assert found.scores == expected.scores
    assert state(live) == before


def test_a_module_that_cannot_be_wrapped_is_left_as_it_was() -> None:
    live = Live()
    before = state(live)
    for wrong in (
        {"decode": lambda z: live.decode(z) * 9 - 3},
        {"encode": lambda x: None},
        {"encode": lambda x: 1 / 0},
        {"input_shape": (3, 32, 32)},
    ):
        with pytest.raises(GenrobustError):
            genrobust.wrap(live, **wrong)  # type: ignore[arg-type]
        assert state(live) == before
    genrobust.wrap(live)
    assert not any(part.training for part in live.modules())


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_module_comes_back_from_another_device(device: str) -> None:
    from genrobust.models.wrapping import left_as_it_was

    live = Live()
    before, weights = state(live), copy.deepcopy(live.state_dict())
    with left_as_it_was(live):
        live.to(device).eval()
    assert state(live) == before
    assert all(torch.equal(value, weights[name]) for name, value in live.state_dict().items())


def test_a_module_whose_eval_returns_nothing_can_be_wrapped() -> None:
    class Silent(Toy):
        def train(self, mode: bool = True) -> Any:
            super().train(mode)

    assert genrobust.wrap(Silent()).name == "Silent"


# Causes


COLOUR = """
import torch
from torch import nn

class Colour(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Conv2d(3, 2, 4, 4), nn.Flatten(), nn.Linear(128, 3))
        self.dec = nn.Linear(3, 3072)
    def encode(self, x):
        return self.enc(x)
    def decode(self, z):
        return self.dec(z).sigmoid().view(-1, 3, 32, 32)

def silent():
    return Colour()

def says():
    model = Colour()
    model.input_shape = (3, 32, 32)
    return model

class Flat(Colour):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Flatten(), nn.Linear(3072, 3))

def flat():
    return Flat()

class Patches(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_tokens, self.encoder = nn.Linear(192, 64), nn.LayerNorm(64)
        self.decoder = nn.Linear(64, 192)

def patches():
    return Patches()
"""


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("silent", "layer 'enc.0' takes 3 channels and these images have 1; choose a data set"),
        ("says", "takes images of shape (3, 32, 32) and these are of shape (1, 32, 32)"),
        ("flat", "layer 'enc.1' takes 3072 numbers and an image of shape (1, 32, 32) has 1024"),
    ],
)
def test_a_model_for_other_images_is_told_so(function: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "colour.py").write_text(COLOUR)
    done = CliRunner().invoke(app, ["check", f"{tmp_path / 'colour.py'}:{function}"])
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_layer_that_does_not_run_is_not_blamed(tmp_path: Path) -> None:
    (tmp_path / "colour.py").write_text(COLOUR)
    done = CliRunner().invoke(app, ["check", f"{tmp_path / 'colour.py'}:patches"])
    assert done.exit_code == 2
    assert "normalized_shape=[64]" in done.stderr
    assert "to_tokens" not in done.stderr


class Wrong:
    """A data set whose pixels are not in [0, 1]."""

    classes = ("a", "b")
    image_shape = (1, 32, 32)

    def __init__(self, factor: float, shift: float = 0.0) -> None:
        self.name, self.factor, self.shift = f"wrong-pixels-{factor:g}", factor, shift

    def load(self, split: Any, root: Path | None) -> Images:
        found = genrobust.load_images("digits", split)
        raw = self.factor * found.take(range(len(found))) + self.shift
        return Images(raw, found.labels, found.size)


@pytest.fixture
def register() -> Iterator[Callable[[Wrong], None]]:
    names = []

    def put(data: Wrong) -> None:
        names.append(data.name)
        DATASETS.register(data.name)(data)

    yield put
    for name in names:
        DATASETS._registered.pop(name)


@pytest.mark.parametrize(
    ("factor", "shift", "found"),
    [(255.0, 0.0, "0 to 255"), (2.0, -1.0, "-1 to 1"), (1.01, 0.0, "0 to 1.01")],
)
def test_the_data_are_blamed_for_their_pixels(
    factor: float, shift: float, found: str, register: Callable[[Wrong], None], quick: Suite
) -> None:
    data = Wrong(factor, shift)
    register(data)
    suite = quick.model_copy(
        update={
            **{"dataset": data.name, "data_sha256": "0" * 64},
            **{"rule": "distance", "attacker_judge": None, "scoring_judges": ()},
        }
    )
    model = genrobust.load_model("vae")
    with pytest.raises(GenrobustError, match=rf"'{data.name}': .* pixels from {found}"):
        prepare(model, suite, Options())
    with pytest.raises(GenrobustError, match=rf"images .* reach from {found} where"):
        check_model(model, factor * genrobust.load_images("digits").take(range(90)) + shift)


# Weights


@pytest.fixture
def network() -> ConvVAE:
    return initialised(NetworkSpec(), seed=4)


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "vae.net.", "module._orig_mod.", "module.module."]
)
def test_one_prefix_of_all_names_is_taken_away_and_said(
    prefix: str, network: ConvVAE, tmp_path: Path
) -> None:
    path = tmp_path / "trained.pt"
    torch.save(prefixed(network.state_dict(), prefix), path)
    with pytest.warns(GenrobustWarning, match=rf"trained.pt' are loaded without '{prefix}'"):
        model = genrobust.load_model("vae", weights=path)
    x = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(model.reconstruct(x), network(x))


def test_names_of_compiled_parts_and_of_a_wrapped_module_fit(network: ConvVAE) -> None:
    state, other = network.state_dict(), initialised(NetworkSpec(), seed=5)
    compiled = {key.replace("coder.", "coder._orig_mod.", 1): v for key, v in state.items()}
    with pytest.warns(GenrobustWarning, match="without what wrappers add"):
        load_state_dict(other, compiled, "w.pt")
    wrapper = nn.ModuleDict({"net": initialised(NetworkSpec(), seed=6)})
    with pytest.warns(GenrobustWarning, match=r"with 'net\.'"):
        load_state_dict(wrapper, state, "w.pt")
    for module in (other, wrapper["net"]):
        assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize("key", ["model", "net", "ema_model", "weights"])
def test_the_one_state_dict_of_a_checkpoint_is_taken_and_said(
    key: str, network: ConvVAE, tmp_path: Path
) -> None:
    path = tmp_path / "last.pt"
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.rand(2, 1, 32, 32)).sum().backward()
    optimizer.step()
    content = {
        **{key: prefixed(network.state_dict(), "module."), "optimizer": optimizer.state_dict()},
        **{"epoch": 3, "scheduler": {"last": 3}, "rng": {"cpu": torch.get_rng_state()}},
    }
    torch.save(content, path)
    with pytest.warns(GenrobustWarning) as said:
        model = genrobust.load_model("vae", weights=path)
    words = " ".join(str(warning.message) for warning in said)
    assert f"under '{key}'" in words
    assert "without 'module.'" in words
    x = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(model.reconstruct(x), network(x))


def test_a_state_dict_inside_a_state_is_found(network: ConvVAE, tmp_path: Path) -> None:
    torch.save({"model": {"state_dict": network.state_dict(), "config": {"z": 3}}}, tmp_path / "w")
    with pytest.warns(GenrobustWarning, match="under 'model'"):
        found = read_state_dict(tmp_path / "w")
    assert found.keys() == network.state_dict().keys()


@pytest.mark.parametrize("others", [("ema",), ("discriminator",), ("state_dict",)])
def test_several_state_dicts_are_named(
    others: tuple[str, ...], network: ConvVAE, tmp_path: Path
) -> None:
    weights = network.state_dict()
    torch.save({"model": weights, **dict.fromkeys(others, weights)}, tmp_path / "w.pt")
    with pytest.raises(
        GenrobustError, match=rf"weights under 'model' and '{others[0]}'.*\['model'\], path\)"
    ):
        read_state_dict(tmp_path / "w.pt")


def _halves(network: ConvVAE, name: str, prefix: str = "") -> dict[str, Any]:
    halves = {"encoder": network.encoder, "decoder": network.decoder}
    return {name.format(key): prefixed(half.state_dict(), prefix) for key, half in halves.items()}


@pytest.mark.parametrize(
    "held",
    [
        lambda network, other: _halves(network, "{}"),
        lambda network, other: {"loss": other, **_halves(network, "{}_state_dict", "module.")},
        lambda network, other: {"discriminator": other, "vae": network.state_dict()},
        lambda network, other: {"D": other, "G": prefixed(network.state_dict(), "module.")},
        lambda network, other: {"last": {"loss": other, "net": network.state_dict()}, "epoch": 3},
    ],
)
def test_of_several_state_dicts_what_fits_the_module_is_taken_and_said(
    held: Callable[..., Any], network: ConvVAE, tmp_path: Path
) -> None:
    torch.save(held(network, nn.Linear(4, 4).state_dict()), tmp_path / "w.pt")
    module = initialised(NetworkSpec(), seed=5)
    with pytest.warns(GenrobustWarning) as said:
        load_state_dict(module, read_state_dict(tmp_path / "w.pt", module), "w.pt")
    assert re.search("what it holds under '.*' is loaded", str(said[0].message))
    state = network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


def test_of_several_state_dicts_one_that_fits_is_named(network: ConvVAE, tmp_path: Path) -> None:
    weights, other = network.state_dict(), nn.Linear(4, 4).state_dict()
    torch.save({"loss": other, "net": weights, "ema": weights}, tmp_path / "w.pt")
    with pytest.raises(GenrobustError, match=r"such as with torch\.save\(.*\['net'\], path\)"):
        read_state_dict(tmp_path / "w.pt", network)
    torch.save({"loss": other, "encoder": network.encoder.state_dict()}, tmp_path / "w.pt")
    with pytest.raises(GenrobustError, match=r"'loss' and 'encoder', and none of these are all"):
        read_state_dict(tmp_path / "w.pt", network)


def test_weights_that_are_a_part_of_what_a_file_holds_are_pointed_at(network: ConvVAE) -> None:
    state = {**prefixed(network.state_dict(), "vae."), "loss.weight": torch.ones(2)}
    with pytest.raises(GenrobustError, match=r"those under 'vae\.' fit: write them alone with"):
        load_state_dict(network, state, "w.pt")


def test_of_weights_beside_their_moving_average_both_are_named(network: ConvVAE) -> None:
    weights = network.state_dict()
    both = prefixed(weights, "model.") | prefixed(weights, "ema_model.")
    with pytest.raises(GenrobustError, match=r"under 'ema_model\.' and 'model\.' fit each") as said:
        load_state_dict(network, both, "w.pt")
    assert "torch.save({k.removeprefix('ema_model.')" in str(said.value)
    other = {f"disc.{key}": torch.zeros(3) for key in weights}
    with pytest.raises(GenrobustError, match=r"those under 'model\.' fit: write them alone"):
        load_state_dict(network, prefixed(weights, "model.") | other, "w.pt")


def test_what_fits_needs_no_words_and_what_does_not_stays_strict(network: ConvVAE) -> None:
    state = network.state_dict()
    load_state_dict(network, state, "w.pt")  # a warning is an error here
    lacking = prefixed(dict(list(state.items())[1:]), "module.")
    with pytest.raises(GenrobustError, match="do not fit ConvVAE: it lacks"):
        load_state_dict(network, lacking, "w.pt")
    key, value = next(iter(state.items()))
    with (
        pytest.warns(GenrobustWarning, match="without 'module.'"),
        pytest.raises(GenrobustError, match="where the model has"),
    ):
        load_state_dict(network, prefixed({**state, key: value[:1]}, "module."), "w.pt")
