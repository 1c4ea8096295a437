"""A plugin of genrobust: a model, a rule, an attack, and one that cannot be imported."""
