"""How fast the target is, and what the settings should make of it."""
