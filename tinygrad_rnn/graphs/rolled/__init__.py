"""The rolled view: one step, and its states carried back over the top."""
