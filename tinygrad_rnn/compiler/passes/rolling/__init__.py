"""Loop rolling: calls that repeat in a recorded graph become one call of a loop."""
