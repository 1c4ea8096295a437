"""LPIPS, with a backbone's weights at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from genrobust.errors import GenrobustError
from genrobust.metrics.perceptual import lpips

pytestmark = pytest.mark.slow  # torchmetrics comes with the extra that only slow tests have


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest of the three, with random weights."""
    from genrobust.data.torchvision_datasets import torchvision_datasets

    torchvision_datasets()  # makes torchvision importable
    from torchvision.models import squeezenet1_1

    file = tmp_path_factory.mktemp("weights") / "squeeze.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(squeezenet1_1().state_dict(), file)
    return file


def _needs_torchmetrics() -> None:
    pytest.importorskip("torchmetrics", reason="the extra 'perceptual' installs torchmetrics")


def test_it_is_torchmetrics_own_with_that_backbone(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _needs_torchmetrics()
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity as own

    x = torch.rand(3, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    y = (x + 0.1 * torch.arange(3).view(-1, 1, 1, 1)).clamp(0, 1)
    found = lpips(x, y, backbone, net="squeeze")
    assert found[0] == 0
    assert found[1] < found[2]
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth").write_bytes(backbone.read_bytes())
    expected = own(x, y, net_type="squeeze", reduction="none", normalize=True)
    assert torch.allclose(found, expected, atol=1e-6)
    grey = x[:, :1]
    assert torch.equal(lpips(grey, y[:, :1], backbone, "squeeze")[:1], torch.zeros(1))


def test_what_it_cannot_do_is_refused_with_what_to_type(backbone: Path, tmp_path: Path) -> None:
    _needs_torchmetrics()
    x = torch.rand(1, 3, 64, 64)
    with pytest.raises(GenrobustError, match=r"none\.pth"):
        lpips(x, x, tmp_path / "none.pth")
    with pytest.raises(GenrobustError, match="does not hold the backbone 'alex'"):
        lpips(x, x, backbone)
    with pytest.raises(GenrobustError, match="takes sides of 63 or more"):
        lpips(x[..., :32], x[..., :32], backbone)
    with pytest.raises(GenrobustError, match=r"\[0, 1\]"):
        lpips(2 * x, x, backbone, "squeeze")
    with pytest.raises(GenrobustError, match="network of lpips"):
        lpips(x, x, backbone, "resnet")  # type: ignore[arg-type]
