"""The passes, in the order in which they run: functions from a graph to a graph that computes the same."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

from ...errors import ConfigError
from ..ir.editing import in_bodies
from ..ir.graph import Graph
from .checks import checks_first
from .early import hand_over_early
from .lookups import lookup_products
from .loss import fuse_loss
from .motion import hoist_invariants, move_elementwise, move_products
from .prune import prune_loops
from .rolling.roll import roll
from .rows import sparse_updates
from .simplify import merge_subexpressions, remove_dead_code, simplify_calls
from .slopes import slopes_early
from .sums import defer_sums
from .time_first import flat_products, time_first
from .weights import copy_transposed

Pass = Callable[[Graph], Graph]
"""A function of a graph that returns the graph itself if it changes nothing."""

PASSES: dict[str, tuple[Pass, ...]] = {
    "roll": (roll,),
    "simplify": (hoist_invariants,),
    "time_first": (time_first, time_first),
    "flat_products": (flat_products,),
    "hoist_products": (move_products, time_first),
    "defer_sums": (defer_sums, time_first, flat_products),
    "lookup_products": (lookup_products,),
    "fuse_loss": (fuse_loss,),
    "hoist_elementwise": (move_elementwise,),
    "slopes_early": (slopes_early,),
    "copy_transposed": (copy_transposed,),
    "sparse_updates": (sparse_updates,),
    "checks_first": (checks_first,),
    "hand_over_early": (hand_over_early,),
}
"""Functions of each pass by its name. Unless "simplify" is off, the graph is cleaned up after passes that change it."""

_CLEAN: tuple[Pass, ...] = (
    *(partial(in_bodies, function) for function in (simplify_calls, merge_subexpressions, remove_dead_code)),
    prune_loops,
)


def run(
    graph: Graph, without: Collection[str] = (), passes: Mapping[str, tuple[Pass, ...]] = PASSES
) -> Iterator[tuple[str, Graph]]:
    """Yield (name, graph after it) for each pass that is on.

    Passes modify calls in place: read a graph before asking for the next one.

    Args:
        graph: the graph, which is consumed.
        without: names of passes to switch off.
        passes: the passes, by name.

    Raises:
        ConfigError: if `without` has an unknown name.
    """
    unknown = sorted(set(without) - PASSES.keys())
    if unknown:
        raise ConfigError(f"compile: without names {unknown}, which are no passes; choose from {', '.join(PASSES)}")
    clean = () if "simplify" in without else _CLEAN
    tidied: Graph | None = None
    for name, functions in passes.items():
        if name in without:
            continue
        for function in functions:
            graph = function(graph)
        if graph is not tidied:
            for tidy in clean:
                graph = tidy(graph)
        tidied = graph
        yield name, graph
