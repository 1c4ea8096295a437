"""What every attack must do, whatever it searches for."""

from __future__ import annotations

import copy
import dataclasses
import random
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from genrobust.attacks.base import Attack, uncounted
from genrobust.attacks.given import unchanged
from genrobust.batch import Batch, Context, Goal
from genrobust.data.base import load_images
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.judges import Judge, load_judge
from genrobust.models.model import GenerativeModel
from genrobust.models.networks import NetworkSpec, initialised
from genrobust.models.passes import counted
from genrobust.models.wrapping import adapt
from genrobust.norms import ANY, NORMS, load_norm
from genrobust.seeding import seeded
from genrobust.testing.closeness import assert_close
from genrobust.threat import TOLERANCE, ThreatModel, allowed

GOALS: tuple[Goal, ...] = ("targeted", "untargeted")
COUNT = 4
EPS = 0.1


class AttackConformance:
    """Tests of an attack on four digits and a small untrained model. Subclass it in a test file.

    The subclass gives the fixture ``attack``, with a small budget: every test runs it a few times.
    It may override ``model``, ``judge`` and ``batch`` as well.

    Example:
        >>> from genrobust.attacks import make_attack
        >>> class TestLatent(AttackConformance):
        ...     @pytest.fixture
        ...     def attack(self):
        ...         return make_attack("latent", {"steps": 5})
    """

    #: Set it where a sample's result depends on the others in its batch, such as an attack that
    #: draws from one stream for all of them.
    couples_samples: ClassVar[bool] = False

    @pytest.fixture
    def attack(self) -> Attack:
        """The attack under test."""
        raise NotImplementedError(
            f"{type(self).__name__} must give a fixture 'attack' that returns the attack to test"
        )

    @pytest.fixture
    def model(self) -> GenerativeModel:
        """Four Gaussian latents and a categorical, untrained, in double precision."""
        return adapt(initialised(NetworkSpec(gaussian=4, categorical=(5,)), seed=3).double())

    @pytest.fixture
    def judge(self) -> Judge:
        """The attacker's judge of digits, in double precision."""
        judge = load_judge("digits", "lenet")
        return Judge(judge.name, copy.deepcopy(judge.module).double(), judge.sha256)

    @pytest.fixture
    def batch(self, judge: Judge) -> Batch:
        """Four digits with a target each, and everything an attack may need."""
        test, train = load_images("digits"), load_images("digits", "train")
        x, labels = test.take(range(COUNT)).double(), test.labels_of(range(COUNT))
        references = train.take(range(60)).double(), train.labels_of(range(60))
        return Batch(x, (4, 8, 15, 16), 0, labels, x.flip(0), (labels + 1) % 10, judge, references)

    def test_it_says_what_it_is(self, attack: Attack) -> None:
        kind = type(attack).__name__
        assert isinstance(attack.name, str), f"{kind}.name must be a string"
        assert isinstance(attack.paper, str), f"{kind}.paper must be a string"
        assert attack.goals, f"{kind}.goals must name at least one of {GOALS}"
        assert set(attack.goals) <= set(GOALS), f"{kind}.goals must be among {GOALS}"
        norms = (*NORMS.names(), ANY)
        assert attack.norms, f"{kind}.norms must name at least one of {norms}"
        assert set(attack.norms) <= set(norms), f"{kind}.norms must be among {norms}"

    def test_its_settings_make_it_again_and_cannot_be_changed(self, attack: Attack) -> None:
        again = type(attack)(**attack.settings())
        assert again == attack, "an attack made from settings() must be equal to the attack"
        for field in dataclasses.fields(attack):
            try:
                setattr(attack, field.name, None)
            except dataclasses.FrozenInstanceError:
                continue
            raise AssertionError(f"{type(attack).__name__} must be @dataclass(frozen=True)")

    def test_it_stays_in_the_ball_and_the_box(
        self, attack: Attack, model: GenerativeModel, batch: Batch
    ) -> None:
        for part, threat in self._runs(attack, batch):
            found = attack(model, part, threat)
            assert found.x_adv.shape == batch.x.shape, "x_adv must have the sources' shape"
            assert found.x_adv.isfinite().all(), "x_adv must have no NaN or infinite pixels"
            farthest = float(threat.distance(found.x_adv, batch.x).max())
            assert farthest <= allowed(threat.eps), (
                f"x_adv must lie within eps {threat.eps} in {threat.norm.name}, not at {farthest}"
            )
            low, high = float(found.x_adv.min()), float(found.x_adv.max())
            assert low >= -TOLERANCE, f"x_adv must lie in [0, 1]; its lowest pixel is {low}"
            assert high <= 1 + TOLERANCE, f"x_adv must lie in [0, 1]; its highest pixel is {high}"

    def test_eps_0_gives_the_sources_back(
        self, attack: Attack, model: GenerativeModel, batch: Batch
    ) -> None:
        for part, threat in self._runs(attack, batch):
            found = attack(model, part, replace(threat, eps=0.0))
            assert_close(
                found.x_adv,
                batch.x,
                1e-6,
                "with eps 0 x_adv must be the sources",
            )

    def test_every_field_of_the_result_has_an_entry_a_source(
        self, attack: Attack, model: GenerativeModel, batch: Batch
    ) -> None:
        for part, threat in self._runs(attack, batch):
            found = attack(model, part, threat)
            for name in ("loss", "success", "forwards", "backwards"):
                entries = getattr(found, name)
                assert entries is None or entries.shape == (COUNT,), f"{name} must be (B,)"
            assert not found.loss.isnan().any(), "loss must not be NaN"
            assert found.success is None or found.success.dtype == torch.bool, (
                "success must be bool, or None"
            )
            for tensor in (found.x_adv, found.loss):
                assert not tensor.requires_grad, "x_adv and loss must be detached"

    def test_one_image_is_a_batch(
        self, attack: Attack, model: GenerativeModel, batch: Batch
    ) -> None:
        for part, threat in self._runs(attack, batch[torch.tensor([0])]):
            found = attack(model, part, threat)
            assert len(found.x_adv) == 1, "a batch of one image must give one image"

    def test_the_same_seed_gives_the_same_result(
        self, attack: Attack, model: GenerativeModel, batch: Batch
    ) -> None:
        for part, threat in self._runs(attack, batch):
            torch.manual_seed(1)
            first = attack(model, part, threat)
            torch.manual_seed(2)
            np.random.seed(2)
            random.seed(2)
            again = attack(model, part, threat)
            assert torch.equal(first.x_adv, again.x_adv), (
                "the same batch and seed must give the same images, whatever the global "
                "generators do: draw with genrobust.seeding.per_sample"
            )

    def test_the_global_generators_are_left_alone(
        self, attack: Attack, model: GenerativeModel, batch: Batch
    ) -> None:
        part, threat = next(self._runs(attack, batch))
        # Where no attack seeds them to: one that seeds would leave what it left before.
        with seeded(batch.x.device, "conformance"):
            before, numpy_before = torch.get_rng_state(), _numpy_state()
            python_before = random.getstate()
            attack(model, part, threat)
            message = "must be left as it was: draw from a torch.Generator of your own"
            assert torch.equal(torch.get_rng_state(), before), f"torch's global generator {message}"
            assert _numpy_state() == numpy_before, f"numpy's global generator {message}"
            assert random.getstate() == python_before, f"Python's global generator {message}"

    def test_a_sample_gets_the_same_result_in_any_batch(
        self, attack: Attack, model: GenerativeModel, batch: Batch
    ) -> None:
        if self.couples_samples:
            pytest.skip("the attack couples the samples of a batch")
        for part, threat in self._runs(attack, batch):
            whole = attack(model, part, threat)
            for chosen in ([3, 0], [2]):
                index = torch.tensor(chosen)
                found = attack(model, part[index], threat)
                assert_close(
                    found.x_adv,
                    whole.x_adv[index],
                    1e-6,
                    "a sample's image must not depend on the batch it is in: key random draws "
                    "by sample id, and take no mean over samples (or set couples_samples)",
                )

    def test_passes_through_the_model_are_counted(
        self, attack: Attack, model: GenerativeModel, batch: Batch
    ) -> None:
        for part, threat in self._runs(attack, batch):
            with counted() as seen, warnings.catch_warnings():
                warnings.simplefilter("ignore", GenrobustWarning)  # is an assertion here
                found = attack(model, part, threat)
            for name, counts in (("forwards", found.forwards), ("backwards", found.backwards)):
                assert counts.dtype == torch.int64, f"{name} must be int64"
                assert (counts >= 0).all(), f"{name} must not be negative"
            told = int(found.forwards.sum())
            assert seen.images <= told + uncounted(Context(model, part)), (
                f"{seen.images} images went through the model and forwards counts {told}; take "
                "losses and gradients from one Problem, which counts"
            )

    def test_goals_and_norms_that_it_does_not_declare_are_refused(
        self, attack: Attack, model: GenerativeModel, batch: Batch
    ) -> None:
        threats = [ThreatModel(name, EPS) for name in NORMS.names()]
        for threat in threats:
            for goal in set(GOALS) - set(attack.goals):
                with pytest.raises(GenrobustError, match="only"):
                    attack(model, batch.aimed(goal), threat)
            if not attack.supports(threat.norm):
                with pytest.raises(GenrobustError, match="works under"):
                    attack(model, batch.aimed(attack.goals[0]), threat)

    def test_it_asks_for_what_it_needs(
        self, attack: Attack, model: GenerativeModel, batch: Batch
    ) -> None:
        for part, threat in self._runs(attack, batch):
            for field in attack.needs(part.goal):
                without: dict[str, Any] = {field: None}
                with pytest.raises(GenrobustError, match=r"needs|give"):
                    attack(model, replace(part, **without), threat)

    def test_model_judge_and_sources_are_left_as_they_were(
        self, attack: Attack, model: GenerativeModel, judge: Judge, batch: Batch
    ) -> None:
        modules = (model.module, judge.module)
        for module in modules:
            module.requires_grad_(True)
        part, threat = next(self._runs(attack, batch))
        with unchanged(f"the attack '{attack.name}'", Context(model, part)):
            attack(model, part, threat)
        for module in modules:
            for name, parameter in module.named_parameters():
                assert parameter.grad is None, (
                    f"no gradient must be kept on weights ({name}): differentiate with "
                    "torch.autograd.grad with respect to the image"
                )
                assert parameter.requires_grad, f"requires_grad of {name} must be left as it was"
        assert not batch.x.requires_grad, "the sources must not be made to require gradients"

    def _runs(self, attack: Attack, batch: Batch) -> Iterator[tuple[Batch, ThreatModel]]:
        """Every declared goal under every declared norm, in balls that hold one in L-inf."""
        pixels = batch.x[0].numel()
        for goal in attack.goals:
            for norm in filter(attack.supports, map(load_norm, NORMS.names())):
                yield batch.aimed(goal), ThreatModel(norm, EPS * norm.reach(pixels))


def _numpy_state() -> tuple[bytes, int]:
    state = np.random.get_state(legacy=False)["state"]
    return state["key"].tobytes(), state["pos"]
