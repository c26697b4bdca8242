"""The unrolled view: time from left to right, one column for each step."""
