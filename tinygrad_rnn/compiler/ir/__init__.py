"""What is compiled: calls, values, loops, and what a primitive is told by."""
