"""Runs: the Trainer, with epochs, evaluation, early stopping, records, and resuming."""
