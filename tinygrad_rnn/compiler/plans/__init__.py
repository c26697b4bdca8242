"""From a graph to a plan: memory for each value, and the order of the calls."""
