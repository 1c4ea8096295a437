"""A plugin of genrobust: a model, a norm, a rule, an attack, and one that cannot be imported."""
