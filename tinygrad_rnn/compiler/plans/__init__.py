"""From a graph to a plan: where each value lies, and what is done in which order."""
