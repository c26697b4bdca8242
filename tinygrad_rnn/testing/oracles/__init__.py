"""Oracles: slopes of a function along a line, computed without derivative rules."""
