"""Finding loops in what was recorded: calls that repeat become one call of a loop."""
