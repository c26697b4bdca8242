"""The compiler: it records a function and its backward pass, optimizes the graph, and replays it as a plan."""
