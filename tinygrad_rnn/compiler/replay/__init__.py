"""What carries a plan out, in NumPy or through the C library."""
