"""The engine: tensors, the tape that records them, primitives with their rules, and the backward walk."""
