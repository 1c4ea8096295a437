"""The conformance suite on what genrobust ships, and on things that are wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch

import genrobust
from genrobust.attacks import Attack, make_attack
from genrobust.batch import Batch, Context
from genrobust.models.networks import NetworkSpec, initialised
from genrobust.models.wrapping import adapt
from genrobust.optimizers import Minimum, Problem
from genrobust.testing import AttackConformance, ModelConformance
from genrobust.threat import ThreatModel

OURS: dict[str, dict[str, Any]] = {
    "noise": {},
    "latent": {"steps": 4},
    "output": {"steps": 4},
    "classifier": {"steps": 4},
    "thesis": {"steps": 4},
    "code-switch": {"steps": 4, "categories": 2},
    "multi-target": {"steps": 3, "classes": 2},
    "nearest": {"steps": 3, "classes": 2},
    "square": {"queries": 8},
}

BRIDGED: dict[str, dict[str, Any]] = {
    "foolbox:LinfPGD": {"steps": 3},
    "foolbox:L2CarliniWagnerAttack": {"steps": 3, "binary_search_steps": 2},
    "foolbox:HopSkipJumpAttack": {"steps": 1, "max_gradient_eval_steps": 10},
    "art:ProjectedGradientDescent": {"max_iter": 3},
    "art:DeepFool": {"max_iter": 2},
    "art:SquareAttack": {"max_iter": 3},
}


class TestOurAttacks(AttackConformance):
    @pytest.fixture(params=OURS)
    def attack(self, request: pytest.FixtureRequest) -> Attack:
        return make_attack(request.param, OURS[request.param])


@pytest.mark.filterwarnings("ignore")
class TestBridges(AttackConformance):
    couples_samples = True

    @pytest.fixture(params=BRIDGED)
    def attack(self, request: pytest.FixtureRequest) -> Attack:
        return make_attack(request.param, BRIDGED[request.param])


class TestShippedModels(ModelConformance):
    @pytest.fixture(params=["vae", "vae-wd", "betavae", "betavae-capacity", "jointvae"])
    def build(self, request: pytest.FixtureRequest) -> Callable[[], genrobust.GenerativeModel]:
        return lambda: genrobust.load_model(request.param)
