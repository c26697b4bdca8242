"""Plans of graphs: memory for each value, and the order of the calls."""
