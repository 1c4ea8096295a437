"""How entries rank, and how a run becomes one of them."""
