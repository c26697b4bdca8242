"""The stages of our first call in a process of its own: `python -m peers.stages CONFIG`; see `process.once`.

Goes through what `compile` does at a first call by itself, with the parts that it is made of: records, runs the
passes, lays out the plan, and binds it, encoding for C included. These parts are internal, and taken by the names that
`compile` itself has for them; a checkout in which one has another name fails here, and only here.
"""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import pairwise
from typing import Any

import numpy as np

import tinygrad_rnn as tr
from tinygrad_rnn.compiler import api
from tinygrad_rnn.engine.collector import collector_paused
from tinygrad_rnn.engine.tree import flatten

from .ours_compiled import make_train, warm_up
from .ours_eager import make_model
from .task import Config, make_weights, make_windows


def measure(config: Config) -> dict[str, Any]:
    """Return the seconds of each stage and of each pass, and the sizes of what was made."""
    model = make_model(config, make_weights(config))
    arguments = (model.parameters(), *make_windows(config, 1)[0], model.initial_state(config.N))
    warm_up()
    passes: dict[str, float] = {}
    with collector_paused():
        marks = [time.perf_counter()]
        recorded = api.trace(make_train(model), (arguments, {}))
        marks.append(time.perf_counter())
        graph, last = recorded.graph, marks[-1]
        calls = len(graph.calls)
        for name, rewritten in api.run_passes(graph):
            graph = rewritten
            now = time.perf_counter()
            passes[name], last = passes.get(name, 0.0) + now - last, now
        marks.append(time.perf_counter())
        plan = api.make_plan(graph)
        marks.append(time.perf_counter())
        executor = api.Executor(plan, int(os.environ["OMP_NUM_THREADS"]), native=True)
        inputs = [leaf for leaf in flatten(arguments) if isinstance(leaf, tr.Tensor | np.ndarray)]
        arrays = [leaf.data if isinstance(leaf, tr.Tensor) else leaf for leaf in inputs + recorded.captured]
        executor.run(arrays)
        marks.append(time.perf_counter())
    executor.run(arrays)  # the first one binds
    replay = time.perf_counter() - marks[-1]
    trace_s, passes_s, plan_s, bind_s = (after - mark for mark, after in pairwise(marks))
    return {
        "trace_s": trace_s,
        "passes_s": passes_s,
        "plan_s": plan_s,
        "bind_s": max(0.0, bind_s - replay),
        "each_pass_s": passes,
        "recorded_calls": calls,
        "calls": len(graph.calls),
        "instructions": len(plan.instructions),
    }


if __name__ == "__main__":
    print(json.dumps(measure(Config(*json.loads(sys.argv[1])))))
