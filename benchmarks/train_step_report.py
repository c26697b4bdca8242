"""Markdown tables of `train_step.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Record = dict[str, Any]


def tables(found: Record) -> str:
    """Return the tables of a run."""
    names = list(dict.fromkeys(name for config in found["configs"].values() for name in config["peers"]))
    peers = [name for name in names if any("losses" in config["peers"][name] for config in found["configs"].values())]
    machine = found["machine"]
    rate = machine["gflops"]
    versions = {
        record["version"]: None
        for config in found["configs"].values()
        for record in config["peers"].values()
        if "version" in record
    }

    def limit(config: Record) -> str:
        return _ms(1e3 * config["gflop"] / rate)

    parts = [
        "# One training step: forward, backward, SGD update\n",
        "{processor}, {cores} cores, {cpu}, threads for every peer: {threads}, OpenBLAS kernels: {kernels}, "
        "{gflops} GFLOP/s (float32, square matrices), Python {python}, native executor: {compiler}. ".format(**machine)
        + f"{', '.join(versions)}. {found['rounds']} pairs of bursts for each peer. "
        "Written by `benchmarks/train_step.py`, which says what is measured and how.\n",
        _sizes(found),
        "## Time: ratio to ours (ms), minima\n",
        "Above 1: slower than ours. The limit is the matrix arithmetic of the step at the speed of the first line.\n",
        _table(found, peers, _least, {"limit": limit}),
        "## Time: ratio to ours (ms), medians\n",
        "The median over the pairs of the ratio of a burst's median to that of ours beside it; the median of all.\n",
        _table(found, peers, _middle),
        "## Memory: MiB over the idle process\n",
        "The peak of steps in the long run / of the start up to the end of the first step.\n",
        _table(found, peers, lambda record: f"{record['peak_mib']:.0f} / {record['first_mib']:.0f}"),
        "## Cold start: seconds from `import` to the end of the first step\n",
        "Best; in brackets those of the import.\n",
        _table(found, peers, lambda record: f"{min(record['cold_s']):.2f} ({record['import_s']:.2f})"),
    ]
    reasons: dict[tuple[str, str], list[str]] = {}
    for name, config in found["configs"].items():
        for peer, record in config["peers"].items():
            if "missing" in record:
                reasons.setdefault((peer, record["missing"]), []).append(name)
    if reasons:
        parts += ["## Left out\n", *(f"- {peer}: {why} ({', '.join(where)})" for (peer, why), where in reasons.items())]
    return "\n".join(parts).rstrip() + "\n"


def _sizes(found: Record) -> str:
    columns = ("cell", "V", "D", "H", "N", "T", "layers")
    lines = ["| configuration | " + " | ".join(columns) + " | GFLOP |", "| --- |" + " --- |" * (len(columns) + 1)]
    for name, config in found["configs"].items():
        sizes = " | ".join(str(config["sizes"][column]) for column in columns)
        lines.append(f"| {name} | {sizes} | {config['gflop']:.3g} |")
    return "\n".join(lines) + "\n"


def _table(
    found: Record,
    peers: list[str],
    cell: Callable[[Record], str],
    extra: dict[str, Callable[[Record], str]] | None = None,
) -> str:
    extra = extra or {}
    lines = ["| configuration | " + " | ".join([*peers, *extra]) + " |", "| --- |" + " --- |" * len([*peers, *extra])]
    for name, config in found["configs"].items():
        cells = [cell(config["peers"][peer]) if "losses" in config["peers"][peer] else "-" for peer in peers]
        lines.append(f"| {name} | " + " | ".join(cells + [column(config) for column in extra.values()]) + " |")
    return "\n".join(lines) + "\n"


def _least(record: Record) -> str:
    return f"{record.get('ratio_of_minima', 1):.2f} ({_ms(record['min_ms'])})" if "min_ms" in record else "-"


def _middle(record: Record) -> str:
    return f"{record.get('median_of_ratios', 1):.2f} ({_ms(record['median_ms'])})" if "min_ms" in record else "-"


def _ms(ms: float) -> str:
    return f"{ms:.3g}" if ms < 100 else f"{ms:.0f}"
