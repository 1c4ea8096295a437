"""What is scored is what a module gives, or the difference is said with what mends it."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import styles
import torch
import torch.nn.functional as F
from principal import principal
from torch import Tensor, nn

import genrobust
from genrobust.errors import GenrobustWarning
from genrobust.models.checks.fidelity import Fidelity, fidelity
from genrobust.models.checks.unlikely import _moves_alike, _rises
from genrobust.models.inputs import probe_images
from genrobust.records.curve_record import MinimumNormRecord
from genrobust.records.load import read_record
from genrobust.report.terminal import curve_table, score_table
from genrobust.suites import Suite

pytestmark = pytest.mark.usefixtures("brief")

OWN = {case.name: case for case in styles.own_cases()}
HONEST = [name for name, case in OWN.items() if not case.mend and "(conv)" not in name]
#: A body of some honest forms is enough here; the table has all.
TRIED = [
    *[name for name in HONEST if "(transformer)" not in name][1::3],
    *[name for name in HONEST if "(transformer)" in name][::13],
]


@pytest.mark.parametrize("name", [name for name, case in OWN.items() if case.mend])
def test_a_style_that_is_misread_is_said_to_be_and_mended_by_a_line(name: str) -> None:
    row = styles.measured(OWN[name])
    assert row.read in ("warned", "refused")
    assert "pass " in row.said
    assert row.mended < 1e-4
    assert "again" not in row.lines


@pytest.mark.parametrize("name", TRIED)
def test_an_honest_style_is_read_right_without_a_word(name: str) -> None:
    row = styles.measured(OWN[name])
    assert (row.read, row.lines) == ("as is", "")
    assert "may be misread" not in row.said


#: How the cases of a library are called where not by its name.
NAMES = {"vector_quantize_pytorch": "lucidrains"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "library", ["pythae", "monai", "diffusers", "compressai", "vector_quantize_pytorch"]
)
def test_models_of_libraries_are_read_right_or_said_not_to_be(library: str) -> None:
    pytest.importorskip(library, exc_type=(ImportError, RuntimeError))
    cases = [
        case for case in styles.library_cases() if case.name.startswith(NAMES.get(library, library))
    ]
    few = [case for case in cases if case.mend] + [case for case in cases if not case.mend][:4]
    rows = [styles.measured(case) for case in few]
    assert {row.name for row in rows if row.read in ("MISREAD", "false alarm")} == set()
    assert max(row.mended for row in rows if row.mended is not None) < 1e-4


@pytest.mark.parametrize(
    "name", ["VQ by the angle", "(mu, std)", "a flow in forward", "(logvar, mu)"]
)
def test_what_is_to_be_typed_mends_it(name: str) -> None:
    module = OWN[name].build()
    with pytest.warns(GenrobustWarning, match="may be misread") as caught:
        genrobust.wrap(module)
    words = next(str(w.message) for w in caught if "may be misread" in str(w.message))
    typed = re.split(r", or do in| if they are|, the code that", words.split("; pass ")[1])[0]
    model = genrobust.wrap(module, **eval(f"dict({typed})", {"module": module, "torch": torch}))
    assert fidelity(model, probe_images(model.input_shape)).status == "equal"


class Ranged(nn.Module):
    """A trained model that takes pixels in other units than it is said to."""

    input_shape = (1, 32, 32)

    def __init__(self, mean: float, std: float, centred: bool = False) -> None:
        super().__init__()
        self.inner: Any = principal().module
        self.mean, self.std, self.centred = mean, std, centred

    def encode(self, x: Tensor) -> Any:
        return self.inner.encode(x * self.std + self.mean)

    def decode(self, z: Tensor) -> Tensor:
        image: Tensor = self.inner.decode(z).clamp(0, 1)
        return (image - self.mean) / self.std if self.centred else image

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return genrobust.load_images("digits", "test").take(range(8))


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Ranged(0.5, 0.5), r"value_range=\(-1, 1\) and gives them in \[0, 1\]"),
        (Ranged(0.5, 0.5, centred=True), r"pass value_range=\(-1, 1\)"),
        (Ranged(0, 1 / 255, centred=True), r"pass value_range=\(0, 255\)"),
        (Ranged(0.1307, 0.3081), r"\(x - 0\.1307\) / 0\.3081"),
    ],
)
def test_another_range_of_pixels_shows_in_the_squared_error(
    module: nn.Module, words: str, digits: Tensor
) -> None:
    model = genrobust.wrap(module, clamp=True)
    found = fidelity(model, digits)
    assert found.status == "differs"
    assert re.search(words, str(found))


class ToTanh(Ranged):
    """It takes pixels in its own units, and gives them from -1 to 1."""

    def decode(self, z: Tensor) -> Tensor:
        return 2 * super().decode(z) - 1


@pytest.mark.parametrize("declared", [(0, 1), (-1, 1)])
@pytest.mark.parametrize(
    ("module", "units"),
    [
        (ToTanh(0, 1), r"value_range=\(0, 1\)"),
        (ToTanh(0.1307, 0.3081), r"\(x - 0\.1307\) / 0\.3081"),
    ],
)
def test_pixels_that_go_in_from_0_to_1_and_come_out_from_minus_1_are_told(
    module: nn.Module, units: str, declared: tuple[int, int], digits: Tensor
) -> None:
    """No one range is right for both: the one that is out of range without, stretches the input."""
    model = genrobust.wrap(module, value_range=declared, clamp=True)
    found = fidelity(model, digits)
    assert re.search(rf"{units} and gives them in \[-1, 1\]; pass encode= and", str(found))


def test_the_right_range_raises_no_alarm(digits: Tensor) -> None:
    assert fidelity(genrobust.wrap(Ranged(0, 1)), digits).status == "equal"
    right = genrobust.wrap(Ranged(0.5, 0.5, centred=True), value_range=(-1, 1))
    assert fidelity(right, digits).status == "equal"


@pytest.mark.parametrize("share", [1.0, 0.8])
def test_what_passes_on_images_that_it_finds_odd_is_in_no_other_range(
    share: float, digits: Tensor
) -> None:
    class Abstains(Ranged):
        def forward(self, x: Tensor) -> Tensor:
            image = super().forward(x)
            odd = (image - x).flatten(1).square().sum(1) > 40  # of these digits none
            passed = share * x + (1 - share) * image
            return torch.where(odd.view(-1, 1, 1, 1), passed, image)

    model = genrobust.wrap(Abstains(0, 1), encode=nn.Identity())
    assert fidelity(model, digits).status == "equal"


def test_numbers_that_are_drawn_elsewhere_are_compared_by_their_means() -> None:
    """No torch generator: numpy's cannot be held still."""
    import numpy as np

    def noise(like: Tensor) -> Tensor:
        return torch.from_numpy(np.random.standard_normal(like.shape)).to(like)

    members = dict(OWN["(mu, logvar) (mlp)"].build.args[0])
    forward = lambda s, x: s.image(s.mean(x) + s.std(x) * noise(s.mean(x)))  # noqa: E731
    honest = type("VAE", (styles.Net,), {**members, "forward": forward})()
    assert fidelity(genrobust.wrap(honest), probe_images((1, 16, 16))).status == "equal"
    forward = lambda s, x: s.image(-s.mean(x) + s.std(x) * noise(s.mean(x)))  # noqa: E731
    other = type("VAE", (styles.Net,), {**members, "forward": forward})()
    with pytest.warns(GenrobustWarning, match="forward gives other pictures"):
        genrobust.wrap(other)


def test_nothing_that_is_drawn_here_is_the_users_loss() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    genrobust.wrap(OWN["(mu, logvar) (mlp)"].build())
    torch.manual_seed(3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_deploy_says_is_no_misreading() -> None:
    module = OWN["(mu, logvar) (mlp)"].build()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = genrobust.wrap(module, deploy=lambda x: 1 - module.decode(module.encode(x)[0]))
    assert fidelity(model, probe_images((1, 16, 16))).status == "declared"


class Quantised(Ranged):
    """Its forward rounds the code."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x).round())


@pytest.mark.parametrize(("louder", "status"), [(1.0, "equal"), (3.0, "differs")])
def test_noise_that_cannot_be_held_at_0_is_drawn(louder: float, status: str) -> None:
    """Such as one that is put to a length of its own: pictures of draws are compared by means."""

    class OnASphere(nn.Module):
        input_shape = (1, 8, 8)

        def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.flatten(1)[:, :8], torch.full((len(x), 8), -6.0)

        def decode(self, z: Tensor) -> Tensor:
            return z.sigmoid().repeat(1, 8).view(-1, 1, 8, 8)

        def forward(self, x: Tensor) -> Tensor:
            mean, logvar = self.encode(x)
            noise = torch.randn_like(mean)
            noise = 8**0.5 * noise / noise.norm(dim=1, keepdim=True)
            return self.decode(louder * mean + (0.5 * logvar).exp() * noise)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GenrobustWarning)
        model = genrobust.wrap(OnASphere())
    assert fidelity(model, probe_images(model.input_shape, 8)).status == status


def test_a_misreading_stands_in_the_record_the_report_and_the_terminal(
    small_suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = small_suite.with_eps([0.05]).with_attacks(["noise"])
    with pytest.warns(GenrobustWarning, match=r"deploy=lambda x: module\(x\)"):
        record = genrobust.bench(Quantised(), few, out=tmp_path, limit=2)
    assert record.fidelity is not None
    assert record.fidelity.status == "differs"
    assert "may be misread" in (tmp_path / "report.html").read_text()
    from rich import print as show

    show(score_table([record]))
    assert "may be misread" in capsys.readouterr().out
    assert read_record((tmp_path / "record.json").read_bytes()) == record


@pytest.mark.slow
def test_a_misreading_stands_in_what_a_curve_leaves(
    small_suite: Suite,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("genrobust.runner.curve.SEARCHES", ())
    few = small_suite.with_eps([0.05]).with_attacks(["latent"])
    with pytest.warns(GenrobustWarning, match="may be misread"):
        curve = genrobust.minimum_norm(Quantised(), few, out=tmp_path, limit=2)
    assert repr(curve).endswith("may be misread")
    assert "may be misread" in (tmp_path / "curve.html").read_text()
    from rich import print as show

    show(curve_table(curve))
    assert "may be misread" in capsys.readouterr().out
    assert MinimumNormRecord.load(tmp_path) == curve
    old = json.loads(curve.model_dump_json())
    del old["fidelity"]
    assert json.loads(MinimumNormRecord.model_validate(old).model_dump_json()) == old


def test_older_records_keep_their_bytes(small_suite: Suite) -> None:
    """They have no such field, and get none."""
    few = small_suite.with_eps([0.05]).with_attacks(["noise"])
    record = genrobust.bench("vae", few, limit=2)
    assert record.fidelity == Fidelity("equal", record.fidelity.difference)  # type: ignore[union-attr]
    old = json.loads(record.model_dump_json())
    del old["fidelity"]
    assert json.loads(read_record(json.dumps(old)).model_dump_json()) == old


class Whole(nn.Module):
    """A forward, and nothing else to call."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.inner = genrobust.load_model("vae").module

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"x_hat": self.inner(x), "bits": x.mean((1, 2, 3))}


@pytest.mark.slow
def test_a_forward_alone_is_benched_and_the_record_says_so(small_suite: Suite) -> None:
    few = small_suite.with_eps([0.1])
    with pytest.warns(GenrobustWarning, match="its part 'inner' gives the same pictures"):
        whole = genrobust.bench(Whole(), few, attacks=["output"], limit=3)
    full = genrobust.bench("vae", few, attacks=["output"], limit=3)
    assert whole.model.latents.startswith("none, as only its forward is known")
    assert whole.scores.clean_accuracy == full.scores.clean_accuracy
    assert whole.scores.per_eps[0].robust_accuracy == full.scores.per_eps[0].robust_accuracy


def test_a_conditional_model_is_benched_with_its_labels(digits: Tensor) -> None:
    case = OWN["conditional on a label"]
    module = case.build()
    labels = lambda x: (x[:, 0, 8, 8] * 50).long() % 10  # noqa: E731
    model = genrobust.wrap(module, labels=labels)
    x = probe_images((1, 16, 16), 6)
    wanted = module.decode(module.encode(x, labels(x))[0], labels(x))
    torch.testing.assert_close(model.reconstruct(x), wanted)
    assert len(set(labels(x).tolist())) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["AutoencoderTiny", "AutoencoderDC", "FactorizedPrior"])
def test_tokenizers_and_codecs_bench_end_to_end(name: str, small_suite: Suite) -> None:
    pytest.importorskip("diffusers", exc_type=(ImportError, RuntimeError))
    pytest.importorskip("compressai", exc_type=(ImportError, RuntimeError))
    case = next(c for c in styles.library_cases() if c.name.endswith(name))
    module = case.build().eval()
    three = lambda x: x.expand(-1, 3, -1, -1)  # noqa: E731
    if name == "FactorizedPrior":
        encode, decode = lambda x: module.g_a(three(x)), module.g_s
        whole = lambda x: module(three(x))["x_hat"]  # noqa: E731
    else:
        encode, decode = lambda x: module.encode(three(x)), lambda z: module.decode(z).sample
        whole = lambda x: module(three(x)).sample  # noqa: E731
    model = genrobust.wrap(
        module,
        encode=encode,
        decode=lambda z: decode(z).mean(1, keepdim=True),
        deploy=lambda x: whole(x).mean(1, keepdim=True),
        input_shape=(1, 32, 32),
        clamp=True,
    )
    few = small_suite.with_eps([0.05]).with_attacks(["latent", "output"])
    assert genrobust.bench(model, few, limit=2).scores.sources == 2


@pytest.mark.parametrize(("share", "doubted"), [(0.0009, False), (0.0011, True)])
def test_a_nearly_perfect_reading_is_not_doubted(share: float, doubted: bool) -> None:
    """Of a model that takes 0 to 255, and whose error in [0, 1] is a thousandth of that of one
    picture for all, or little more."""
    flat = torch.linspace(0, 1, 8).view(8, 1, 1, 1).expand(8, 1, 8, 8)
    off = (share * flat[:, 0, 0, 0].var(correction=0)).sqrt()

    class Nearly(nn.Module):
        input_shape = (1, 8, 8)

        def encode(self, x: Tensor) -> Tensor:
            level = x.mean((1, 2, 3))
            return (level + off * (level <= 1))[:, None]

        def decode(self, z: Tensor) -> Tensor:
            return z[:, :, None, None].expand(-1, 1, 8, 8)

    assert (fidelity(genrobust.wrap(Nearly()), flat).status == "differs") == doubted


class Coarse(nn.Module):
    """Means of 2 x 2 pixels, and too bright by a constant in units of its own."""

    input_shape = (1, 8, 8)

    def __init__(self, off: float) -> None:
        super().__init__()
        self.off = off

    def encode(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x.clamp(-1, 1), 2)

    def decode(self, z: Tensor) -> Tensor:
        return F.interpolate(z, scale_factor=2) + self.off


@pytest.mark.parametrize(("least", "told"), [(0.89, True), (0.91, False)])
def test_units_in_which_every_picture_is_better_are_told(least: float, told: bool) -> None:
    """In [-1, 1] the constant is half of what it is in [0, 1]; of one picture the rest is more."""
    flat = torch.linspace(0.2, 0.8, 8).view(8, 1, 1, 1).expand(8, 1, 8, 8)
    checks = ((torch.arange(8)[:, None] + torch.arange(8)) % 2 - 0.5).expand_as(flat)
    # The other's error is (rough^2 + off^2 / 4) / (rough^2 + off^2) of this one's.
    off, of_most = 0.04, 0.7
    rough = torch.full((8, 1, 1, 1), ((of_most - 0.25) / (1 - of_most)) ** 0.5)
    rough[3] = ((least - 0.25) / (1 - least)) ** 0.5
    x = flat + 2 * off * rough * checks
    found = fidelity(genrobust.wrap(Coarse(off), clamp=True), x)
    assert (found.status == "differs") == told
    assert not told or found.mend == "pass value_range=(-1, 1)"


@pytest.mark.parametrize(
    ("numbers", "cosine", "alike"),
    [(8, 0.91, True), (8, 0.89, False), (7, 0.99, False), (8, -0.99, False)],
)
def test_codes_move_alike_where_many_do_in_nearly_the_same_direction(
    numbers: int, cosine: float, alike: bool
) -> None:
    random = torch.Generator().manual_seed(0)
    one, other = torch.linalg.qr(torch.randn(6 * numbers, 3, generator=random, dtype=torch.double))[
        0
    ].T[:2]
    one, other = (t.view(6, numbers) - t.view(6, numbers).mean(0) for t in (one, other))
    other = other - (one * other).sum() / one.square().sum() * one
    one, other = one / one.norm(), other / other.norm()
    turned = cosine * one + (1 - cosine**2) ** 0.5 * other + 5
    assert _moves_alike(one, turned) == alike


@pytest.mark.parametrize(("moving", "rise"), [(4, True), (3, False)])
def test_a_code_rises_with_what_it_is_made_from_where_several_numbers_move(
    moving: int, rise: bool
) -> None:
    logits = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    logits[:, moving:] = 0.3
    code = logits.sigmoid()
    assert _rises(code, logits, 1e-4) == rise
    assert _rises(code.round(), logits, 1e-4) == rise
    assert not _rises(-code, logits, 1e-4)
    order = logits[:, :moving].flatten().argsort()
    for off, still in ((0.9e-4, rise), (1.2e-4, False)):  # the one before it, by so much above it
        bent = code.clone()
        rows, columns = order // moving, order % moving
        bent[rows[9], columns[9]] = bent[rows[10], columns[10]] + off
        assert _rises(bent, logits, 1e-4) == still


class DecodeClips(nn.Module):
    """Its decode cuts off what its forward gives beyond [0, 1]."""

    input_shape = (1, 8, 8)

    def __init__(self, gain: float, shift: float) -> None:
        super().__init__()
        self.gain, self.shift = gain, shift
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.to_mean, self.to_logvar = nn.Linear(64, 4), nn.Linear(64, 4)
            self.from_code = nn.Linear(4, 64)

    def encode(self, x: Tensor) -> Any:
        return 3 * self.to_mean(x.flatten(1)), self.to_logvar(x.flatten(1)) + self.shift

    def show(self, z: Tensor) -> Tensor:
        return (0.5 + self.gain * self.from_code(z)).view(-1, 1, 8, 8)

    def decode(self, z: Tensor) -> Tensor:
        return self.show(z).clamp(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean, logvar = self.encode(x)
        return self.show(mean + (0.5 * logvar).exp() * torch.randn_like(mean))


@pytest.mark.parametrize(
    ("gain", "shift"), [(0.8, -1.0), (0.3, 1.0)], ids=["pictures", "pictures of drawn codes"]
)
def test_of_a_decode_that_clips_what_forward_does_not_that_is_said(
    gain: float, shift: float
) -> None:
    module = DecodeClips(gain, shift)
    with pytest.warns(GenrobustWarning, match="misread: decode clips pictures that forward gives"):
        genrobust.wrap(module)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is to be typed
        genrobust.wrap(module, decode=module.show, clamp=True)


def test_a_clip_in_decode_hides_no_other_spread() -> None:
    class Std(DecodeClips):
        def encode(self, x: Tensor) -> Any:
            mean, logvar = super().encode(x)
            return mean, (0.5 * logvar).exp()

        def forward(self, x: Tensor) -> Tensor:
            mean, std = self.encode(x)
            return self.show(mean + std * torch.randn_like(mean))

    with pytest.warns(GenrobustWarning, match="is a standard deviation, as its forward draws"):
        genrobust.wrap(Std(0.3, 1.0))
