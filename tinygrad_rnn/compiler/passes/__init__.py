"""The passes: each is a function from a graph to a graph that computes the same."""
