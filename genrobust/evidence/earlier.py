"""The entries that were made before evidence had all its columns: those of version 1 of the suites.

Their records are known by their hashes: no field of a submission says that it is old, as what says
so could leave out the signs that it would be flagged by. A record pins the model and every score,
so that nothing else can stand in its place. When a column comes, the entries of this repository
that are not measured again for it are added here.
"""

from __future__ import annotations

import hashlib

EARLIER = frozenset(
    {
        # digits-v1
        "1c15f5bb3d32b2bc91f58a698e886ac306e18f593388a754f8c8067a2d2e4903",
        "b9d46fcd99ef62c4d1f0ab72fd656ccaa31ec121c68f4cc041888fd8aae1a67d",
        "961437b2dbaaf934adda4bca35c518b3c40efa53bc0abc00eec985bce93cd0fc",
        "9d119f206ee62a16ef2d3122eb8d690c017260a4ed5b2168fa2819984eee8495",
        "52bafbc925fb85326ffd926289f92380ba3c9c8102f633f5b9929cbfbf3f74d4",
        # mnist-v1
        "cbea71257a092bcaa0e29a1fac56edafdae7b9363c8c02dd9b19f00d563df162",
        "cf55fe98c8ea8ea9427b86e22b317c976f8314fd0f460fa58b0f336cbf12d722",
        "14c7b2ee383d56eb2d9260a746f3dd0e0f9c7542f71d522d7ac7151fb4c33c9b",
        "d99b6d0efeb5909ae0bf96c59960ea8410e6f13ad007e656deb62da5215c5c12",
        "749fb3e20fdf18a744152c4532913210895a67f829ff497bceb68e9e0db518c8",
        "bc92750e0aea0fe88d8bb351de17eb9319da8825b35283a5d47373281f59d1a5",
        "a4db6f1c0864406689899dc6bcb33bacd26a729fa6e92363b7bf3ca516ce100e",
        "40580eb713afa297183c7bf4308795645bedc9fcbabf7d961021347f7c6e0612",
        "6f7910d9e83173d88e2f5d18981e660a9c1438ee1c9263f9c794aa99323fd545",
        "3d91c7bbe6bc04e8ad65d6e758522fa16dde995d11cedd76dd6d2d2865524213",
    }
)


def is_earlier(record: bytes) -> bool:
    """Whether the evidence of a ``record.json`` may lack the columns that came later.

    Example:
        >>> is_earlier(b"{}")
        False
    """
    return hashlib.sha256(record).hexdigest() in EARLIER
