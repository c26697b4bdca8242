"""The rolled view: one step, with its states carried back above it."""
