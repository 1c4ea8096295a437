"""What a module holds is put back after foreign code, as far as there is room for a copy."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genrobust.models.reading import kept
from genrobust.models.reading.kept import Held


def test_weights_and_buffers_are_put_back_and_named() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with kept.kept(module) as written:
        module(torch.rand(4, 2))
        module[0].weight.data.add_(1)
        module[1].running_var = torch.zeros(2)  # another tensor in its place
    assert set(written) == {
        *("0.weight", "1.running_mean", "1.running_var", "1.num_batches_tracked"),
    }
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("fits", [True, False])
def test_weights_are_copied_up_to_a_size_and_buffers_always(
    fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))  # 12 weights
    monkeypatch.setattr(kept, "MOST", 12 if fits else 11)
    weight = module[0].weight.detach().clone()
    held = Held(module)
    with torch.no_grad():
        module[0].weight += 1
        module[1].running_mean += 1
    assert held.put_back() == ["1.running_mean", *(["0.weight"] if fits else [])]
    assert torch.equal(module[0].weight, weight) is fits
    assert not module[1].running_mean.any()
