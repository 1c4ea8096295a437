"""What every model must do, however it was trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genrobust.models.checks.batches import BATCH_TOLERANCE, REPEAT_TOLERANCE
from genrobust.models.checks.check import check_model
from genrobust.models.inputs import probe_images
from genrobust.models.model import GenerativeModel
from genrobust.seeding import generator, seeded
from genrobust.testing.closeness import assert_close


class ModelConformance:
    """Tests of a wrapped model. Subclass it in a test file.

    The subclass gives the fixture ``build``: a function without arguments that makes the model,
    the same one each time. It may override ``images``.

    Example:
        >>> import genrobust
        >>> class TestMine(ModelConformance):
        ...     @pytest.fixture
        ...     def build(self):
        ...         return lambda: genrobust.load_model("vae")
    """

    @pytest.fixture
    def build(self) -> Callable[[], GenerativeModel]:
        """Makes the model under test."""
        raise NotImplementedError(
            f"{type(self).__name__} must give a fixture 'build' that returns a function which "
            "makes the model to test"
        )

    @pytest.fixture
    def model(self, build: Callable[[], GenerativeModel]) -> GenerativeModel:
        """The model under test."""
        return build()

    @pytest.fixture
    def images(self, model: GenerativeModel) -> Tensor:
        """Four images in [0, 1] of the model's shape."""
        return probe_images(model.input_shape).to(model.device)

    def test_it_passes_the_checks_of_wrap(self, model: GenerativeModel, images: Tensor) -> None:
        check_model(model, images)

    def test_its_posterior_keeps_its_contract(self, model: GenerativeModel, images: Tensor) -> None:
        posterior = model.encode(images)
        count = len(images)
        assert len(posterior) == count, "encode must give one posterior an image"
        code = posterior.mode()
        assert code[0].numel() == posterior.size, "mode() must hold posterior.size numbers an image"
        for name, stand_in in (
            ("relaxed", posterior.relaxed()),
            ("straight_through", posterior.straight_through()),
        ):
            assert stand_in.shape == code.shape, f"{name}() must have the shape of mode()"
        assert_close(
            posterior.straight_through(),
            code,
            REPEAT_TOLERANCE,
            "straight_through() must be mode() forward",
        )
        noise = posterior.draw_noise(generator("conformance"))
        assert posterior.sample(noise).shape == code.shape, "samples must be shaped like mode()"
        assert posterior.vector().shape[0] == count, "vector() must be (B, n)"
        alone = posterior[torch.tensor([1])].mode()
        assert torch.equal(alone, code[1:2]), "indexing must give the posterior of that image"

    def test_divergences_of_its_posterior_are_none_from_itself(
        self, model: GenerativeModel, images: Tensor
    ) -> None:
        posterior = model.encode(images)
        zero = torch.zeros(len(images)).to(images)
        assert_close(
            posterior.wasserstein2(posterior),
            zero,
            1e-4,
            "the posterior must be at distance 0 from itself",
        )
        if not posterior.has_density:
            return
        assert_close(
            posterior.kl(posterior),
            zero,
            1e-3,
            "the KL divergence of the posterior from itself must be 0",
        )
        assert (posterior.kl_to_prior() > -1e-3).all(), "KL to the prior must not be negative"

    def test_a_reconstruction_is_the_decoded_mode(
        self, model: GenerativeModel, images: Tensor
    ) -> None:
        if model.deploy is not None or model.draws > 1:
            pytest.skip("the deployed path is one of its own, or random")
        image = model.decode(model.encode(images).mode())
        expected = image.clamp(0, 1) if model.clamp else image
        assert_close(
            model.reconstruct(images),
            expected,
            REPEAT_TOLERANCE,
            "reconstruct must be decode(encode(x).mode()), clipped where clamp is set",
        )

    def test_it_draws_nothing(self, model: GenerativeModel, images: Tensor) -> None:
        if model.draws > 1:
            pytest.skip("it declares draws")
        torch.manual_seed(1)
        state = torch.get_rng_state()
        first = model.reconstruct(images)
        assert torch.equal(torch.get_rng_state(), state), (
            "encode, decode and deploy must draw no random numbers: give the posterior, not a "
            "sample, or declare draws="
        )
        assert_close(
            model.reconstruct(images),
            first,
            REPEAT_TOLERANCE,
            "the same image must always have the same reconstruction",
        )

    def test_a_random_one_draws_from_torchs_generators(
        self, model: GenerativeModel, images: Tensor
    ) -> None:
        if model.draws == 1:
            pytest.skip("it declares no draws")
        with seeded(model.device, "conformance"):
            first = model.reconstruct(images)
            assert not torch.equal(model.reconstruct(images), first), (
                "a model with draws= must give another reconstruction each time: leave draws= out"
            )
        with seeded(model.device, "conformance"):
            assert_close(
                model.reconstruct(images),
                first,
                REPEAT_TOLERANCE,
                "what it draws must come from torch's own generators, so that it can be repeated",
            )

    def test_images_do_not_depend_on_each_other(
        self, model: GenerativeModel, images: Tensor
    ) -> None:
        if model.draws > 1:
            pytest.skip("its draws depend on the batch")
        whole = model.reconstruct(images)
        message = "an image's reconstruction must not depend on the others in its batch"
        for chosen in ([3, 0], [2]):
            assert_close(
                model.reconstruct(images[chosen]),
                whole[chosen],
                BATCH_TOLERANCE,
                message,
            )

    def test_it_is_frozen_and_stays_as_it_is(self, model: GenerativeModel, images: Tensor) -> None:
        assert not model.module.training, "the module must be in eval mode"
        for name, parameter in model.module.named_parameters():
            assert not parameter.requires_grad, f"{name} must be frozen: requires_grad_(False)"
        before = model.fingerprint()
        model.reconstruct(images)
        assert model.fingerprint() == before, "a reconstruction must not change weights or buffers"

    def test_its_fingerprint_is_that_of_its_weights(
        self, build: Callable[[], GenerativeModel]
    ) -> None:
        model, again = build(), build()
        assert model.fingerprint() == again.fingerprint(), (
            "a model made twice must have one fingerprint: load fixed weights, or seed their draw"
        )
        parameter = next(model.module.parameters(), None)
        if parameter is None:
            return
        first, old = parameter.view(-1)[0], float(parameter.view(-1)[0])
        with torch.no_grad():
            first.fill_(old + 1)
            changed = model.fingerprint()
            first.fill_(old)
        assert changed != again.fingerprint(), "another weight must give another fingerprint"

    def test_it_moves_to_another_device(
        self, build: Callable[[], GenerativeModel], images: Tensor
    ) -> None:
        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")
        if build().draws > 1:
            pytest.skip("a GPU draws other numbers")
        expected = build().reconstruct(images)
        model = build()
        model.module.to("cuda")
        found = model.reconstruct(images.to("cuda"))
        assert found.device.type == "cuda", "reconstructions must be where the module is"
        assert_close(
            found.cpu(),
            expected.cpu(),
            1e-2,
            "a model must give the same reconstruction on a GPU, but for rounding",
        )
