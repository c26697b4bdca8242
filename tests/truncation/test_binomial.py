"""Which states to keep: the formula against its recurrence, and a sequence that grows."""

import functools

from tinygrad_rnn.truncation.binomial import advances, next_state, thinned


@functools.cache
def fewest(n, states):
    """t(n, s) from its definition: move forward to m, keep the state there, do the later part, then the earlier one."""
    if n == 1:
        return 0
    if states == 1:
        return n * (n - 1) // 2
    return min(m + fewest(n - m, states - 1) + fewest(m, states) for m in range(1, n))


def test_the_formula_is_the_solution_of_the_recurrence():
    for states in range(1, 7):
        for n in range(1, 70):
            assert advances(n, states) == fewest(n, states), (n, states)
            if n > 1 and states > 1:
                m = next_state(n, states)
                assert m + fewest(n - m, states - 1) + fewest(m, states) == fewest(n, states), (n, states, m)
    assert [next_state(n, 1) for n in range(2, 9)] == [*range(1, 8)]
    assert advances(100_000, 20) == 534_220  # each segment moved forward at most 6 times


def test_thinning_never_drops_the_first_state_and_keeps_to_the_limit():
    for states in (1, 2, 5):
        kept = []
        for index in range(200):
            kept = thinned([*kept, index], index + 1, states)
            assert kept[0] == 0
            assert len(kept) <= states
            assert kept == sorted(set(kept))
