"""The native executor: plans run by a small C library that is compiled on first use."""
