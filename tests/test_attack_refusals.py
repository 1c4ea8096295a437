"""What published attacks cannot do is refused in one sentence."""

from __future__ import annotations

from typing import Any

import pytest
from attack_cases import digits, given
from linear_problems import COUNT

import genrobust
from genrobust.errors import GenrobustError
from genrobust.judges import Judge


@pytest.mark.parametrize(
    ("name", "goal", "taken", "more", "words"),
    [
        *(
            (name, "untargeted", (), {}, "is targeted only; give it a target")
            for name in ("szegedy", "sabour", "tabacof", "gondim-latent", "gondim-output")
        ),
        ("kos-lvae", "untargeted", (), {}, "is targeted only"),
        *(
            (name, "targeted", (), {"norm": "l2"}, "works under linf, not l2")
            for name in ("bim", "sabour", "thesis")
        ),
        ("carlini-wagner", "targeted", (), {"norm": "linf"}, "works under l2, not linf"),
        *(
            (name, "targeted", ("judge",), {"norm": norm}, "needs a judge")
            for name, norm in (
                ("szegedy", "l2"), ("fgsm", "l2"), ("bim", "linf"), ("pgd", "l2"),
                ("carlini-wagner", "l2"),
            )
        ),
        ("fgsm", "targeted", ("target_labels",), {}, "needs the targets' labels"),
        ("pgd", "untargeted", ("labels",), {}, "needs the sources' labels"),
        *(
            (name, "targeted", ("references",), {}, "needs labelled training images")
            for name in ("kos-classifier", "kos-lvae", "kos-latent")
        ),
        ("kos-classifier", "targeted", ("target_labels",), {}, "needs the targets' labels"),
        ("kos-classifier", "untargeted", ("labels",), {}, "needs the sources' labels"),
        ("kos-latent", "targeted", ("target_labels",), {}, "needs the targets' labels"),
        ("kos-latent", "targeted", ("target",), {"aim": "image"}, "needs target images"),
        ("kos-lvae", "targeted", ("target",), {"aim": "image"}, "needs target images"),
        *(
            (name, "targeted", ("target",), {}, "needs target images")
            for name in ("sabour", "tabacof", "gondim-latent", "gondim-output", "thesis")
        ),
        *(
            (name, "untargeted", (), {}, "is targeted only; give it a target")
            for name in (
                "willetts-kl",
                "willetts-w2",
                "willetts-output",
                "kuzina-supervised",
            )
        ),
        *(
            (name, "targeted", (), {"norm": norm}, "is untargeted only; leave the target out")
            for name, norm in (
                ("camuto", "l2"), ("kuzina-linearised", "l2"), ("khan", "l2"), ("alma", "linf"),
                ("grill", "linf"),
            )
        ),
        ("camuto", "untargeted", (), {"norm": "linf"}, "works under l2, not linf"),
        *(
            (name, "untargeted", (), {"norm": "l2"}, "works under linf, not l2")
            for name in ("kuzina", "photoguard", "alma", "grill")
        ),
        *(
            (name, "targeted", ("target",), {}, "needs target images")
            for name in ("willetts-kl", "kuzina-supervised", "kuzina", "photoguard")
        ),
        *(
            ("kuzina", goal, ("references",), {"objective": "clf"}, "needs labelled training")
            for goal in ("targeted", "untargeted")
        ),
        ("kuzina", "targeted", ("target_labels",), {"objective": "clf"}, "the targets' labels"),
        ("kuzina", "untargeted", ("labels",), {"objective": "clf"}, "the sources' labels"),
    ],
)  # fmt: skip
def test_what_an_attack_cannot_do_is_refused(
    name: str,
    goal: str,
    taken: tuple[str, ...],
    more: dict[str, Any],
    words: str,
    untrained: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, judge = untrained
    arguments = {k: v for k, v in given(goal, judge).items() if k not in taken}
    with pytest.raises(GenrobustError, match=f"the attack '{name}' .*{words}"):
        genrobust.attack(name, model, digits(COUNT), **arguments, **more)
