"""Oracles: slopes of a function along a line, without any derivative rule."""
