"""A function that cannot be imported."""

raise RuntimeError("nothing works")
