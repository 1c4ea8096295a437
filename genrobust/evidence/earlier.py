"""The entries that were made before evidence had all its columns.

Their records are known by their hashes: no field of a submission says that it is old, as what says
so could leave out the signs that it would be flagged by. A record pins the model and every score,
so that nothing else can stand in its place. A list grows only with the entries of this repository
that are there when a column comes.
"""

from __future__ import annotations

import hashlib

#: Columns came in rounds: those of the beginning, those that flag hidden masks, those that look
#: among groups of pixels and after the attacks, and that which tells gates. For each round but the
#: last, the records that are of it.
FIRST = frozenset(
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
SECOND = frozenset(
    {
        # digits-v2
        "1740ca1097172724a016e51741670d3739e30b0a875bebdbff4aa5951b8fe81d",
        "85d1ad34d5bce92fd488e1e5d2ec17b67ac0cf6a3faa70bd037ab218928aaa6c",
        "396ee058f93e31492a953d0d4e2cfc69e7f0f4984ccdd17cbdaa4717c2bcede5",
        "67db22c4d9fae114dd8b8f36de045a02f8ce1eac07fe94d475aecc4447769e1c",
        "fdd8aa6d0cc20003c316a33cc7b55eaee35e7c4b76f49e31d246a29007615a9a",
        # mnist-v2
        "3eb00a83a5f18f7761ddfcbf4818e125feb593755dd6c0b282f097ec882f5c6e",
        "0d29f5fb6afa927e457c030d1fa73eff9dcd69ea01b8f8a9219c5ca390a962d5",
        "79b4ddcc690051cf8ffcc5b7208200ea0d890ed9ce5ac4298fa3f09b37a2805e",
        "92a44a86fc6698dedd5753be07bd8cbe5b0c04e540388a8abe87745e3d2a4431",
        "8b804077e1d9deb5fd9256900a97a6a14033b55ba1e67f7fc7edbcc06e9708f0",
        "86053e06adc3337c5c7b39edddbff878aec2674c4e26f578d36298de800f0684",
        "7d8b9649ae0e7eee3bccc986bd651f5a9da8676283a187d2bbd2705dccd6cd23",
    }
)
THIRD = frozenset(
    {
        # digits-v2
        "179a21e593ad0e5c4a31f00da0ffafae4ebcc4c3ae153d09a27e86c0492a25df",
        "8e8762851cd28c1b4199f1187d393887a87b5e060695bcec269b40500f2f602f",
        "997b1d18ca0da71a7cce97ba8c3f52a6f65b0857e332b761e089e7697c4af51b",
        "19088c20ce4024d9b87b93b869be0b90b3715527cb0c0ba1e123de6704962834",
        "666e5e12d28e7bcbcfb162143195c5080edf3a188a84c4b16529e646ef2918e5",
        "05ca5ca50cd58ff9b0d646efa94451cca4fbe7cdbdb71b9b408caacc9c4aa650",
        "01505552c3c88f56eeaa41b98e43fea1b1230d989664863ef38ca72ebc8fc66c",
        # mnist-v2
        "0316258eedf40b53004f785514869cc8c0deca17db8f8257a40d929f51fc9567",
        "0b9fc133002c7accb6079a1e2d833c7f3a4ea15d5d4cd2a3e2a42c078560c383",
        "02e48a17a9fa441cf96366eae05c22a6b25119e53e04410a2e4c735ea29b36e4",
    }
)
ROUNDS = (FIRST, SECOND, THIRD)


def round_of(record: bytes) -> int:
    """Which rounds of columns the evidence of a ``record.json`` has: up to this one, from 0 on.

    Example:
        >>> round_of(b"{}")  # all there are
        3
    """
    sha256 = hashlib.sha256(record).hexdigest()
    return next((number for number, known in enumerate(ROUNDS) if sha256 in known), len(ROUNDS))
