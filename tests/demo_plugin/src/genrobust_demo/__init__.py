"""A plugin of genrobust: one of each kind, and an attack that cannot be imported."""
