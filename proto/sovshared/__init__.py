"""Hand-written code the three programs share, because they may not import one another."""
