"""The peers of the training-step benchmarks: one module each, and the process that each runs in.

A peer is a module with `VERSION` and `start(config, weights) -> step`; `step(ids, targets)` does one whole training
step, forward, backward and the SGD update of every parameter, carries the recurrent state on to the next, and returns
the loss when all of it is done.
"""
