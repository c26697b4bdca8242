"""The views of single operations: one step, and its backward pass beside it."""
