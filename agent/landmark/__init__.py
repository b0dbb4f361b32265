"""What runs at a landmark: a place that is known, from which nodes are measured."""
