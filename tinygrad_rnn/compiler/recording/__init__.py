"""Recording: from a Python function to a graph of calls."""
