"""Fixtures that several rooms share: small models whose answers are known by hand, a browser."""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import typer
from attack_cases import Coarse
from brief_signs import brief_signs
from hypothesis import settings
from linear_problems import Plain, linear_judge
from playwright.sync_api import Browser, Page, sync_playwright
from torch import Tensor, nn

import genrobust
from genrobust.judges import Judge
from genrobust.models.networks import NetworkSpec, initialised
from genrobust.runner.execute import silent
from genrobust.suites import Suite, load_suite

if TYPE_CHECKING:
    from evidence_runs import Forger

    from genrobust.board.board import Board
    from genrobust.verify.replay import Replay

torch.set_num_threads(1)
settings.register_profile("genrobust", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("genrobust")

# What a shell starts in the background ignores interrupts, and so would what tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: A package of its own; tests install it, and a part of it cannot be imported on purpose.
collect_ignore = ["demo_plugin"]


def pytest_collection_finish() -> None:
    """What stays to the end is not looked through again and again: a twentieth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _module_draws() -> None:
    """What fixtures of a module draw does not depend on what ran before it in the same process."""
    _seed()


@pytest.fixture(autouse=True)
def _draws() -> None:
    """What a test draws is the same whatever ran before it, so that a failure can be repeated."""
    _seed()


def _seed() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _commands_put_together_once() -> Iterator[None]:
    """Typer does so for each line that is typed, in most of the time that a short one takes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("typer.testing._get_command", cache(typer.main.get_command))
        yield


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

LinearBuilder = Callable[[Tensor, Tensor], genrobust.GenerativeModel]


class LinearVAE(nn.Module):
    """x_hat = D E x + 1/2 with unit posterior variance, in the precision of the images."""

    input_shape = (1, 4, 4)

    def __init__(self, encoder: Tensor, decoder: Tensor) -> None:
        super().__init__()
        self.E, self.D = nn.Parameter(encoder), nn.Parameter(decoder)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.flatten(1) @ self.E.to(x).T
        return mean, torch.zeros_like(mean)

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.D.to(z).T + 0.5).view(-1, *self.input_shape)


@pytest.fixture
def linear_vae() -> LinearBuilder:
    """Builds x_hat = D E x + 1/2 on 4x4 images from E (latents, 16) and D (16, latents)."""

    def build(encoder: Tensor, decoder: Tensor) -> genrobust.GenerativeModel:
        return genrobust.wrap(LinearVAE(encoder, decoder), clamp=True)

    return build


@pytest.fixture(scope="session")
def _wrapped_vae() -> genrobust.GenerativeModel:
    spec = NetworkSpec(gaussian=4, categorical=(5,))
    return genrobust.wrap(initialised(spec, seed=3))


@pytest.fixture
def tiny_vae(_wrapped_vae: genrobust.GenerativeModel) -> Iterator[genrobust.GenerativeModel]:
    """The thesis' network with one categorical, untrained; checked once, and put back each time."""
    before = {name: value.clone() for name, value in _wrapped_vae.module.state_dict().items()}
    yield _wrapped_vae
    _wrapped_vae.module.load_state_dict(before)
    _wrapped_vae.module.eval()


@pytest.fixture
def plain(linear_vae: LinearBuilder) -> Plain:
    """A linear-Gaussian model of three latents with four sources and targets."""
    return Plain(linear_vae)


@pytest.fixture(scope="session")
def untrained() -> tuple[genrobust.GenerativeModel, Judge]:
    """An untrained network of a few weights and a linear judge."""
    return genrobust.wrap(Coarse()), linear_judge(1024)


@pytest.fixture(scope="module")
def shipped() -> tuple[genrobust.GenerativeModel, Judge]:
    """A model and a judge of digits that ship with genrobust."""
    return genrobust.load_model("vae"), genrobust.load_judge("digits", "lenet")


@pytest.fixture(scope="module")
def brief() -> Iterator[None]:
    """Runs take few gradients for flags and damage, in modules that ask for neither."""
    with brief_signs():
        yield


@pytest.fixture
def repository() -> Path:
    """The root of the working tree."""
    return Path(__file__).parent.parent


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The folder that holds MNIST/raw; the test is skipped where there is none."""
    found = os.environ.get("GENROBUST_DATA") or Path(__file__).parents[2] / "shared" / "data"
    if not (Path(found) / "MNIST" / "raw").is_dir():
        pytest.skip("needs MNIST: set GENROBUST_DATA to the folder that holds MNIST/raw")
    return Path(found)


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder with published checkpoints; the test is skipped where there is none."""
    found = Path(__file__).parents[2] / "shared" / "checkpoints"
    if not found.is_dir():
        pytest.skip("needs the published checkpoints, which do not ship with genrobust")
    return found


@pytest.fixture
def _homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of whom the system knows a number alone, as in many a container."""

    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("GENROBUST_DATA", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with its evidence, on a small suite that counts as frozen."""
    from evidence_runs import run

    return run(tmp_path_factory.mktemp("tiny") / "vae")


@pytest.fixture(scope="session")
def tiny_entry(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that run's entry."""
    from evidence_runs import submitted

    return submitted(tmp_path_factory.mktemp("entries"), tiny_run)


@pytest.fixture
def forger(tiny_entry: Path, tmp_path: Path) -> Forger:
    """Of the small entry, into a folder of its own."""
    from evidence_runs import Forger

    return Forger(tiny_entry, tmp_path)


@pytest.fixture(scope="session")
def replayed(tiny_entry: Path) -> Replay:
    """That entry, put to its model again."""
    from evidence_runs import registered

    from genrobust.evidence.bundle import EVIDENCE, read_evidence
    from genrobust.verify.replay import prepared_for, replay

    with registered():
        evidence = read_evidence(tiny_entry / EVIDENCE)
        prepared = prepared_for(evidence, evidence.load_model(), 1, None)
        return replay(evidence, prepared, silent)


@pytest.fixture(scope="session")
def fake_entries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaderboard's entries of every standing; their outcomes are made up."""
    from leaderboard_entries import write_entries
    from site_parts import FAKES

    return write_entries(tmp_path_factory.mktemp("fake-entries"), FAKES)


@pytest.fixture(scope="session")
def fake_board(fake_entries: Path) -> Board:
    """The board of those entries."""
    from leaderboard_entries import read_entries

    from genrobust.board.board import contender, make_board

    return make_board([contender(entry) for entry in read_entries(fake_entries)])


@pytest.fixture(scope="session")
def fake_site(fake_entries: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site that those entries give."""
    from leaderboard_entries import build

    out = tmp_path_factory.mktemp("fake-site") / "site"
    build(fake_entries, out)
    return out


@pytest.fixture(scope="session")
def small_suite() -> Suite:
    """The digits protocol cut to 4 sources in 2 shards, 2 radii, few steps and queries."""
    whole = load_suite("digits")
    few = {"steps": 6, "queries": 10}
    cheap = [
        entry.model_copy(update={"settings": {n: few.get(n, v) for n, v in entry.settings.items()}})
        for entry in whole.attacks
    ]
    update = {"chunk_size": 2, "eps": (0.05, 0.2), "attacks": tuple(cheap), "resamples": 200}
    return whole.limited(4).model_copy(update=update)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Page:
    """An ordinary page, which tests leave empty."""
    return browser.new_context().new_page()


@pytest.fixture
def visit(browser: Browser, tab: Page, site: Path) -> Iterator[Callable[..., Page]]:
    """Opens a page of a module's site; nothing may go wrong in it, and no request may leave it."""
    trouble: list[str] = []
    allowed = [site.as_uri(), "data:", "blob:"]
    opened: list[Page] = []

    def check(url: str) -> None:
        if not url.startswith(tuple(allowed)):
            trouble.append(f"requested {url}")

    def open_page(path: str, root: str | None = None, **options: Any) -> Page:
        if root is not None:
            allowed.append(root)
        takes_tab = not opened and not options
        page = tab if takes_tab else browser.new_context(**options).new_page()
        opened.append(page)
        for event, look in watched.items():
            page.on(event, look)
        page.goto(f"{root or site.as_uri()}/{path}")
        return page

    watched: dict[Any, Callable[[Any], None]] = {
        "console": lambda m: trouble.append(m.text) if m.type != "log" else None,
        "pageerror": lambda error: trouble.append(str(error)),
        "dialog": lambda dialog: trouble.append(dialog.message),
        "request": lambda request: check(request.url),
    }
    yield open_page
    for page in opened:
        if page is not tab:
            page.context.close()
            continue
        page.evaluate("localStorage.clear()")
        for event, look in watched.items():
            page.remove_listener(event, look)
        page.goto("about:blank")
    assert trouble == []
