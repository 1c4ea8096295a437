"""A plugin of genrobust: one model, one attack, and one attack that cannot be imported."""
