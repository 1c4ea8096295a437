"""What a model keeps between calls, and what threads share, never shows in a result."""

from __future__ import annotations

import functools
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import genrobust
from genrobust import GenrobustError, files
from genrobust.attacks import probe as probes
from genrobust.attacks.bridges.base import Composed
from genrobust.errors import GenrobustWarning
from genrobust.judges import load_judge
from genrobust.objectives.universal import recorded_layers
from genrobust.seeding import generator, seeded
from genrobust.suites import Suite

pytestmark = pytest.mark.usefixtures("brief")

CPU = torch.device("cpu")


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def cheap(small_suite: Suite) -> Suite:
    """Two shards of one source, an attack of a few steps, and no judges."""
    attack = next(entry for entry in small_suite.attacks if entry.attack == "latent")
    apart = {"rule": "distance", "attacker_judge": None, "scoring_judges": ()}
    update = {"chunk_size": 1, "eps": (0.1,), "attacks": (attack,), **apart}
    return small_suite.limited(2).model_copy(update=update)


class Pools(nn.Module):
    """A mean in each of 8x8 squares, in which every digit can be read, and its log-variance."""

    def __init__(self) -> None:
        super().__init__()
        self.logvar = nn.Parameter(torch.full((1, 64), -6.0))

    def forward(self, x: Tensor) -> Tensor:
        mean = F.avg_pool2d(x, 4).flatten(1)
        return torch.cat([mean, self.logvar.expand(len(x), -1)], 1)


class Keeps(nn.Module):
    """A model that is quickly computed, with a place to keep things in."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Pools()
        self.kept: Any = None

    def gaussian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.encoder(x).chunk(2, 1)
        return mean, logvar

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.gaussian(x)

    def decode(self, z: Tensor) -> Tensor:
        image = F.interpolate(z.view(-1, 1, 8, 8), scale_factor=4)
        return (0.05 + 0.9 * image).clamp(0, 1)


class Skips(Keeps):
    """A decoder that uses what the encoder saw."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.kept = x
        return super().encode(x)

    def decode(self, z: Tensor) -> Tensor:
        return 0.9 * super().decode(z) + 0.1 * self.kept


class Clears(Keeps):
    """Nothing is left to see when encode returns."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.kept = x
        found = self.gaussian(self.kept)
        self.kept = None
        return found


class Hooked(Keeps):
    """Features by a forward hook."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, given: Any, output: Tensor) -> None:
        self.kept = output

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.gaussian(x)
        mean, logvar = self.kept.chunk(2, 1)
        return mean, logvar


BOX: list[Tensor] = []


class Global(Keeps):
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        BOX.append(x)
        found = self.gaussian(BOX[-1])
        BOX.clear()
        return found


class Reseeds(Keeps):
    """The same noise for each image, from the process's generator."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        noise = torch.rand(x.shape[1:])
        return self.gaussian(x + 0.05 * noise)


class OneSize(Keeps):
    """A cache of one entry, that is for a moment half of it another one's."""

    size = 0

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.size != len(x):
            self.size = len(x)
            self.kept = torch.ones(len(x), 1, 1, 1)
        return self.gaussian(x * self.kept)


class HalfMade(Keeps):
    """A cache whose entries can be seen before they are right."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.kept = self.kept or {}
        if len(x) not in self.kept:
            self.kept[len(x)] = torch.zeros(len(x), 1, 1, 1)
            self.kept[len(x)].fill_(1)
        return self.gaussian(x * self.kept[len(x)])


class Square(torch.autograd.Function):
    kept: Any = None

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        Square.kept = x
        return x * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * Square.kept * gradient


class Backward(Keeps):
    """State between forward and backward."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.gaussian(Square.apply(x))


class Counts(Keeps):
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.kept = 1 + (self.kept or 0)
        return self.gaussian(x)


class Caches(Keeps):
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.gaussian(x * ones(len(x)))


@functools.cache
def ones(count: int) -> Tensor:
    return torch.ones(count, 1, 1, 1)


class OfThread(Keeps):
    def __init__(self) -> None:
        super().__init__()
        self.kept = threading.local()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.kept.x = x
        return self.gaussian(self.kept.x)


class Draws(Keeps):
    """Draws to no effect, as code does that also samples."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        torch.rand(1)
        return self.gaussian(x)


SHARE_BADLY = (Skips, Clears, Hooked, Global, Reseeds, OneSize, HalfMade, Backward)
SHARE_WELL = (Keeps, Counts, Caches, OfThread, Draws)
#: One that shares badly and one that shares well are tried whenever a line changes.
QUICK = (Global, Keeps)


@pytest.mark.parametrize(
    "kind",
    [
        kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow)
        for kind in (*SHARE_BADLY, *SHARE_WELL)
    ],
)
def test_any_number_of_workers_gives_the_same_scores(
    kind: type[Keeps], cheap: Suite, switching: None
) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        alone = genrobust.bench(kind(), cheap, workers=1)
        together = genrobust.bench(kind(), cheap, workers=2)
    assert together.scores == alone.scores
    said = {str(one.message) for one in told if one.category is GenrobustWarning}
    expected = {
        "one shard at a time": kind in SHARE_BADLY,
        "decode takes more than its code": kind is Skips,
    }
    for words, is_said in expected.items():
        assert any(words in one for one in said) == is_said
    assert len(said) == sum(expected.values())


@pytest.mark.slow
def test_a_model_with_a_lock_of_its_own_is_waited_for(cheap: Suite) -> None:
    class Locked(Clears):
        lock = threading.Lock()

        def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
            with self.lock:
                return super().encode(x)

    with warnings.catch_warnings():
        warnings.simplefilter("error", GenrobustWarning)
        genrobust.bench(Locked(), cheap, workers=2)


@pytest.mark.slow
def test_a_library_has_the_generators_for_itself(small_suite: Suite) -> None:
    two = small_suite.limited(2).model_copy(update={"chunk_size": 1, "eps": (0.1,)})
    suite = two.with_attacks(["foolbox:LinfRepeatedAdditiveUniformNoiseAttack"])
    with pytest.warns(GenrobustWarning, match="random generators .* one shard at a time"):
        genrobust.bench(Draws(), suite, workers=2)


def test_a_model_that_seeds_leaves_the_librarys_stream_alone() -> None:
    model = genrobust.wrap(Reseeds())
    composed = Composed(model, load_judge("digits", "lenet"), ("deployed", 1.0), torch.float32)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    composed(torch.zeros(1, 1, 32, 32))
    assert torch.equal(torch.get_rng_state(), before)


class Remembers(Keeps):
    """The image before shines through."""

    def decode(self, z: Tensor) -> Tensor:
        before, self.kept = self.kept, super().decode(z)
        return self.kept if before is None else 0.9 * self.kept + 0.1 * before.mean()


class Reuses(Keeps):
    """All codes are one tensor."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.gaussian(x)
        if torch.is_grad_enabled():
            return mean, logvar
        if self.kept is None:
            self.kept = torch.zeros(16, mean.shape[1])
        self.kept[: len(x)] = mean
        return self.kept[: len(x)], logvar


class Overwrites(Keeps):
    """Changes its codes."""

    def decode(self, z: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            z.mul_(0.5)
        return super().decode(z)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Remembers, "another reconstruction each time|changes with what went through"),
        (Reuses, "keeps one tensor for both"),
        (Overwrites, "changes the codes that it is given"),
    ],
)
def test_results_that_depend_on_history_are_refused(kind: type[Keeps], words: str) -> None:
    with pytest.raises(GenrobustError, match=words):
        genrobust.wrap(kind())


class Crosses(nn.Module):
    """A decoder that adds what the encoder saw, to a batch of the same size alone."""

    input_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.to_code, self.from_code = nn.Linear(64, 4), nn.Linear(4, 64)

    def encode(self, x: Tensor) -> Tensor:
        self.kept = x.flatten(1)
        return self.to_code(self.kept)

    def decode(self, z: Tensor) -> Tensor:
        both = torch.stack([self.from_code(z), self.kept]).mean(0)
        return both.sigmoid().view(-1, 1, 8, 8)


class Reconstructs(Crosses):
    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class Lays(Crosses):
    """A decoder that takes no more than its pictures' shape from what the encoder saw."""

    def decode(self, z: Tensor) -> Tensor:
        return self.from_code(z).sigmoid().view(len(self.kept), 1, 8, 8)


def test_a_decoder_that_keeps_the_shape_alone_raises_no_word() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", GenrobustWarning)
        genrobust.wrap(Lays())


MENDS = {
    Crosses: "let encode return all that decode takes",
    Reconstructs: r"pass encode=torch\.nn\.Identity\(\) to read it by its forward alone",
}


@pytest.mark.parametrize("kind", MENDS)
def test_a_decoder_that_takes_more_than_its_code_is_said(kind: type[Crosses]) -> None:
    words = f"decode takes more than its code.*{MENDS[kind]}"
    with pytest.warns(GenrobustWarning, match=words):
        genrobust.wrap(kind())
    with pytest.warns(GenrobustWarning, match=words):
        genrobust.wrap(kind(), max_batch=8)  # as many as are tried
    with pytest.raises(GenrobustError, match=rf"{words[:31]}.* in pieces of 2, .*{MENDS[kind]}"):
        genrobust.wrap(kind(), max_batch=2)


def test_a_decoder_that_takes_more_is_read_by_its_forward_alone() -> None:
    model = genrobust.wrap(Reconstructs(), encode=nn.Identity(), max_batch=2)
    x = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(model.reconstruct(x), Reconstructs.forward(model.module, x))


class Tires(Keeps):
    """Another model after so many calls, as one whose weights are changed meanwhile."""

    def decode(self, z: Tensor) -> Tensor:
        self.kept = 1 + (self.kept or 0)
        return super().decode(z) * (1 if self.kept < 60 else 0.9)


def test_a_model_that_changes_in_a_run_has_no_score(cheap: Suite) -> None:
    with pytest.raises(GenrobustError, match="otherwise after it was attacked than before"):
        genrobust.bench(Tires(), cheap, workers=1)


def numpy_noise(x: Tensor) -> Tensor:
    return torch.from_numpy(np.random.rand(*x.shape)).to(x)


def python_noise(x: Tensor) -> Tensor:
    return torch.tensor([random.random() for _ in range(x.numel())]).view_as(x)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [torch.rand_like, python_noise, numpy_noise])
def test_random_deployments_repeat_whatever_they_draw_from(
    noise: Callable[[Tensor], Tensor], cheap: Suite
) -> None:
    def build() -> genrobust.GenerativeModel:
        module = Keeps()

        def deploy(x: Tensor) -> Tensor:
            seen = (x + 0.8 * (noise(x) - 0.5)).clamp(0, 1)
            return module.decode(module.encode(seen)[0])

        return genrobust.wrap(module, deploy=deploy, draws=3)

    # Libraries that are imported by now may draw.
    genrobust.bench(build(), cheap.limited(1).with_attacks(["noise"]))
    states = np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index,union-attr]
    first = genrobust.bench(build(), cheap)
    assert (np.random.get_state()[1] == states[0]).all()  # type: ignore[index]
    assert random.getstate() == states[1]
    np.random.seed(5)
    random.seed(5)
    assert genrobust.bench(build(), cheap).scores == first.scores


def test_keyed_generators_are_put_back_after_an_error_too() -> None:
    np.random.seed(1)
    random.seed(1)
    torch.manual_seed(1)
    expected = np.random.rand(), random.random(), float(torch.rand(1))
    np.random.seed(1)
    random.seed(1)
    torch.manual_seed(1)
    with pytest.raises(ZeroDivisionError), seeded(CPU, "key"):
        _ = np.random.rand(), random.random(), torch.rand(1), 1 / 0
    assert (np.random.rand(), random.random(), float(torch.rand(1))) == expected


def weights_of(module: nn.Module) -> str:
    return files.sha256_of_tensors(module.state_dict())


def test_probes_are_the_same_in_threads(switching: None) -> None:
    vectors = torch.rand(60, 3, generator=generator("vectors"))
    labels = torch.arange(60) % 3

    def train(seed: int) -> str:
        torch.manual_seed(seed)  # as any code beside it may
        return weights_of(probes.trained_probe(vectors, labels, epochs=1, hidden=4, seed=seed))

    probes._TRAINED.clear()
    alone = [train(seed) for seed in range(60)]
    probes._TRAINED.clear()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(train, range(60))) == alone


def test_a_probe_starts_from_the_weights_that_torch_gives_a_seed() -> None:
    from genrobust.seeding import seed_of

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("probe", 3))
        expected = [nn.Linear(5, 7), nn.Linear(7, 2)]
    source = generator("probe", 3)
    for layer in expected:
        found = probes._linear(layer.in_features, layer.out_features, source)
        assert torch.equal(found.weight, layer.weight)
        assert torch.equal(found.bias, layer.bias)


def test_layers_are_recorded_of_ones_own_thread_alone() -> None:
    model = genrobust.load_model("vae")
    x = torch.zeros(1, 1, 32, 32)
    with recorded_layers(model) as layers, ThreadPoolExecutor(1) as other:
        other.submit(model.encode, x).result()
        assert layers == []
        model.encode(x)
    assert layers
