"""The loop: a task's loss function, one update, one pass over the batches."""
