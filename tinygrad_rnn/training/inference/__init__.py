"""Inference: evaluation, generation, decoding, one step at a time; all of it compiled where that is possible."""
