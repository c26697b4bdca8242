"""Reachability and connected components of small graphs, without recursion."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

_K = TypeVar("_K", bound=Hashable)


def reached(starts: Iterable[_K], near: Callable[[_K], Iterable[_K]]) -> list[_K]:
    """Return some items, followed by those that can be reached from them, each once.

    >>> reached("a", {"a": "bc", "b": "a", "c": "d", "d": ""}.__getitem__)
    ['a', 'b', 'c', 'd']
    """
    found = dict.fromkeys(starts)
    waiting = list(found)
    while waiting:
        new = [item for item in near(waiting.pop()) if item not in found]
        found.update(dict.fromkeys(new))
        waiting += new
    return list(found)


def components(items: Iterable[_K], pairs: Iterable[tuple[_K, _K]]) -> list[list[_K]]:
    """Return the groups of items that the pairs connect, ordered by their first items.

    >>> components("abcd", [("a", "c"), ("d", "d")])
    [['a', 'c'], ['b'], ['d']]
    """
    place = {item: number for number, item in enumerate(items)}
    near: dict[_K, list[_K]] = {item: [] for item in place}
    for a, b in pairs:
        near[a].append(b)
        near[b].append(a)
    return [sorted(group, key=place.__getitem__) for group in cycles(near)]


def cycles(depends: Mapping[_K, Iterable[_K]]) -> list[list[_K]]:
    """Return the groups of items that depend on each other in a cycle; a group comes after those it depends on.

    Source: Tarjan 1972, Depth-first search and linear graph algorithms (strongly connected components).

    >>> cycles({"h": ["c", "h"], "c": ["h"], "top": ["h", "top"]})
    [['h', 'c'], ['top']]
    """
    number: dict[_K, int] = {}
    low: dict[_K, int] = {}
    stack: list[_K] = []
    waiting: set[_K] = set()
    found: list[list[_K]] = []
    for start in depends:
        if start in number:
            continue
        work = [(start, iter(depends[start]))]
        number[start] = low[start] = len(number)
        stack.append(start)
        waiting.add(start)
        while work:
            item, rest = work[-1]
            for other in rest:
                if other not in number:
                    number[other] = low[other] = len(number)
                    stack.append(other)
                    waiting.add(other)
                    work.append((other, iter(depends[other])))
                    break
                if other in waiting:
                    low[item] = min(low[item], number[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[item])
                if low[item] == number[item]:
                    at = stack.index(item)
                    found.append(stack[at:])
                    waiting.difference_update(stack[at:])
                    del stack[at:]
    return found
