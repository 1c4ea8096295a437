"""A plugin of genrobust: a model, an attack, a norm, and an attack that cannot be imported."""
