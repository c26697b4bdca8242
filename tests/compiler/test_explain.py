"""What a plan is said to cost."""

import numpy as np
import pytest
from replay import normal, record

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.plans.explain import Explanation, LoopCosts, Row, explain, flops_of
from tinygrad_rnn.compiler.plans.instructions import Loop
from tinygrad_rnn.compiler.plans.layout import make_plan


def model_step():
    model = tr.RNNLM(50, 3, 4, np.random.default_rng(0), cell="lstm", dropout=0.5, dtype=np.float64)

    def step(ids, rng):
        loss, state = model.loss(ids[:, :-1], ids[:, 1:], rng=rng)
        return loss, state, tr.grad(loss, model.parameters())

    return step, (np.random.default_rng(0).integers(0, 50, (2, 7)), np.random.default_rng(0))


COSTS = {
    "product": (lambda x: x @ np.ones((30, 40)), "matmul", 2 * 20 * 30 * 40, 8 * (600 + 1200 + 800)),
    "several": (lambda x: x[None] @ np.ones((2, 30, 5)), "matmul", 2 * 2 * 20 * 30 * 5, 8 * (600 + 300 + 200)),
    "vectors": (lambda x: x[0] @ np.ones(30), "matmul", 2 * 30, 8 * (30 + 30 + 1)),
    "elementwise": (lambda x: np.tanh(x), "tanh", 600, 8 * 1200),
    "reduction": (lambda x: np.sum(x, axis=0), "sum", 600, 8 * 630),
    "broadcast": (lambda x: np.broadcast_to(x[0], (20, 30)) + x, "add", 600, 8 * (30 + 1200)),
    "lookup": (lambda x: tr.take(x, np.array([1, 2, 1]), axis=0), "take", 0, 8 * (600 + 3 + 90)),
    "copy": (lambda x: tr.stack([x, x[::-1]]), "stack", 0, 8 * 2400),
    "empty": (lambda x: x[:0] + 1, "add", 0, 0),
}


@pytest.mark.parametrize(("function", "operator", "flops", "nbytes"), COSTS.values(), ids=COSTS)
def test_the_costs_of_a_call(function, operator, flops, nbytes):
    plan = make_plan(record(function, normal(20, 30)).graph)
    (row,) = (row for row in explain(plan).rows if row.operator not in ("ids", "copy"))
    assert row == Row(operator, 1, flops, nbytes, None)


def test_sums_and_memory():
    step, args = model_step()
    compiled = tr.compile(step)
    compiled(*args)
    plan = compiled.plan
    costs = plan.explain()
    assert costs == explain(plan)
    assert costs.calls == sum(loop.steps if loop else 1 for _, loop in plan.flat())
    assert costs.flops == sum(row.flops for row in costs.rows) > 0
    assert costs.seconds is None
    assert costs.passes == tuple(plan.passes)
    assert 0 < costs.alive_bytes <= costs.arena_bytes == plan.arena_bytes
    assert [*plan.flat()][costs.alive_at[0]][0].operator.name == costs.alive_at[1]
    results = sum(slot.buffer.nbytes for slot in plan.outputs)
    assert costs.result_bytes == results
    assert costs.peak_bytes == costs.arena_bytes + costs.input_bytes + costs.constant_bytes + costs.result_bytes
    assert [row.nbytes for row in costs.rows] == sorted((row.nbytes for row in costs.rows), reverse=True)


def test_loops_are_counted_with_all_their_steps():
    step, args = model_step()
    compiled = tr.compile(step)
    compiled(*args)
    plan = compiled.plan
    costs = plan.explain()
    assert costs.instructions == len([*plan.flat()]) < costs.calls
    loops = [part for part in plan.instructions if isinstance(part, Loop)]
    assert [(part.steps, part.reverse) for part in costs.loops] == [(6, False), (6, True)]
    for found, loop in zip(costs.loops, loops, strict=True):
        assert found.instructions == len(loop.instructions)
        assert found.calls == 6 * len(loop.instructions)
        assert found.flops == 6 * sum(map(flops_of, loop.instructions)) > 0
    timed = compiled.explain(*args)
    assert all(loop.seconds > 0 for loop in timed.loops)
    assert sum(loop.seconds for loop in timed.loops) < timed.seconds
    text = str(timed).splitlines()
    assert text[0].startswith(f"plan of {costs.calls} calls ({costs.instructions} instructions): ")
    assert text[2].startswith(f"loop, T = 6 steps, in reverse: {costs.loops[1].instructions} instructions, ")


def test_the_most_of_the_arena_that_is_in_use():
    def function(x):
        y = np.tanh(x * 2.0)
        return np.sum(np.exp(y - y[::-1]))

    step = tr.compile(function)
    step(normal(100))
    costs = step.plan.explain()
    assert costs.alive_bytes == 2 * 800  # a call's operand and its result; tanh and exp are computed over theirs
    assert costs.alive_at == (2, "subtract")


def test_times_are_measured_without_touching_anything():
    step, (ids, rng) = model_step()
    compiled = tr.compile(step)
    kept = compiled(ids, rng)
    copies = [np.array(part) for part in tr.engine.tree.flatten(kept)]
    before = rng.bit_generator.state
    costs = compiled.explain(ids, rng)
    assert rng.bit_generator.state == before
    assert all(np.array_equal(*pair) for pair in zip(copies, tr.engine.tree.flatten(kept), strict=True))
    assert all(row.seconds > 0 for row in costs.rows)
    assert costs.seconds == sum(row.seconds for row in costs.rows)
    assert [row.seconds for row in costs.rows] == sorted((row.seconds for row in costs.rows), reverse=True)


def test_the_text_has_units():
    rows = (
        Row("matmul", 3, 2_500_000_000, 12_000_000, 0.0125),
        Row("add", 20, 1_500_000, 3_000_000, 0.000_6),
        Row("copy", 2, 0, 512, 0.000_001),
    )
    memory = (4_000_000, 3_500_000, (7, "add"), 1000, 24, 2_000_000)
    loops = (LoopCosts(2, 10, False, 1_500_000, 3_000_000, 0.000_6), LoopCosts(1, 1, True, 0, 0, None))
    text = str(Explanation(rows, ("simplify", "fuse_loss"), *memory, loops=loops))
    assert text.splitlines() == [
        "plan of 25 calls (7 instructions): 2.5 GFLOP, 15 MB read and written, 13.1 ms (191 GFLOP/s)",
        "loop, T = 10 steps: 2 instructions, 20 calls, 1.5 MFLOP, 3 MB, 600 us (4.6%)",
        "loop, T = 1 step, in reverse: 1 instruction, 1 call, 0 FLOP, 0 B",
        "memory: 6 MB = arena 4 MB, inputs 1 kB, constants 24 B, results 2 MB",
        "arena: at most 3.5 MB in use at one time, at instruction 7 (add)",
        "passes: simplify, fuse_loss",
        "",
        "operator   calls    arithmetic  share    traffic  share       time  share",
        "matmul         3     2.5 GFLOP  99.9%      12 MB  80.0%    12.5 ms  95.4%",
        "add           20     1.5 MFLOP   0.1%       3 MB  20.0%     600 us   4.6%",
        "copy           2        0 FLOP   0.0%      512 B   0.0%       1 us   0.0%",
        "all           25     2.5 GFLOP 100.0%      15 MB 100.0%    13.1 ms 100.0%",
    ]


def test_a_plan_of_nothing():
    step = tr.compile(lambda: None)
    step()
    costs = step.plan.explain()
    assert (costs.calls, costs.flops, costs.peak_bytes) == (0, 0, 0)
    assert str(costs).startswith("plan of 0 calls: 0 FLOP, 0 B read and written\n")
