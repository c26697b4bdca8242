"""The peers of the training-step benchmarks: one module each, and the process that each runs in.

A peer is a module with `VERSION` and `start(config, weights) -> step`; `step(ids, targets)` does one whole training
step, forward, backward and the SGD update of every parameter, carries the recurrent state on to the next, and returns
the loss when all of it is done. Some take `carry=False` too: each batch starts from a state of zeros, has a T of its
own, and a target of -1 is padding. `warm_up()`, where there is one, loads what is loaded only when it is needed, and
lets a peer that compiles compile something tiny, so that a first call measured after it is no more than that. A peer
that trains something else names, as `TASK`, a module with a `Config`, `make_weights` and `make_windows` of its own.
"""
