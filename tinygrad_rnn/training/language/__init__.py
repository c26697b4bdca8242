"""Language models: from a configuration to a model, its Trainer, its files and its baselines."""
