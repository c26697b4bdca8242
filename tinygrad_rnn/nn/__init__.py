"""The parts of networks: modules, layers, cells, time, models."""
