"""About how often a source goes through the model: by this the time that a run takes is told."""

from __future__ import annotations

from genrobust.attacks.base import make_attack
from genrobust.posterior import Posterior
from genrobust.runner import damage, signs
from genrobust.runner.plan import ShardSpec

#: What is done before any attack.
LOOKING = "looks at gradients, for the flags"


def passes_of_attacks(spec: ShardSpec, posterior: Posterior | None = None) -> int:
    """By a shard's attacks, if the source falls to none.

    What descends is tried on it once, in the largest ball, and other attacks at each radius. A
    search leaves one radius to a suite's attacks, in which the nearest image lies.

    Args:
        spec: of the shard.
        posterior: of the model, to leave out attacks that it has nothing for; None leaves in all.
    """
    everywhere = 1 if spec.searched else len(spec.eps)
    passes = 0
    for entry in (*spec.searched, *spec.attacks):
        attack = make_attack(entry.attack, entry.settings)
        if posterior is not None and not attack.applies_to(posterior):
            continue
        passes += attack.expected_passes() * (1 if entry.descends else everywhere)
    return passes


def passes_of_looks(spec: ShardSpec) -> int:
    """By what is looked at for the flags before any attack."""
    return 2 * signs.STEPS * len(spec.eps) + signs.GLANCES


def passes_of_longer(spec: ShardSpec) -> int:
    """By the longer attack, for a flag, on what stands: where something descends, once."""
    if spec.attacker_judge is None or not spec.ensemble or spec.searched:
        return 0
    once = any(entry.descends for entry in spec.attacks)
    return signs.longer_attack(spec.attacks).expected_passes() * (1 if once else len(spec.eps))


def passes_of_damage(spec: ShardSpec) -> int:
    """By what is measured of the pictures after all attacks."""
    return (2 * damage.STEPS + damage.MEASURED) * len(spec.eps) if spec.ensemble else 1


def passes_of_all(spec: ShardSpec, posterior: Posterior) -> int:
    """By all of a shard's work."""
    found = passes_of_attacks(spec, posterior) + passes_of_longer(spec)
    return passes_of_looks(spec) + found + passes_of_damage(spec)
