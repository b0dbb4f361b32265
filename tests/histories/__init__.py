"""Random histories of a small fleet: a plan from kept state is the one from scratch."""
