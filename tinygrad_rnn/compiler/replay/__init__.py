"""Executors: they replay a plan, with NumPy or with the C library."""
