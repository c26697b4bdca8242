"""Targets of checks: a number that depends on named leaves, and its gradient as users get it."""
