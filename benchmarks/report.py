"""What the reports of the benchmarks share: the head, tables, and the files that they are written to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def head(found: dict[str, Any]) -> str:
    """Return the machine, and the versions that took part, in a paragraph."""
    text = (
        "{processor}, {cores} cores, {cpu}, threads for every peer: {threads}, OpenBLAS kernels: {kernels}, "
        "{gflops} GFLOP/s (float32, square matrices), Python {python}, NumPy {numpy}, native executor: {compiler}. "
    ).format(**found["machine"])
    return text + f"{', '.join(found['versions'])}, commit {found['commit']}."


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]) + "\n"


def brief(number: float) -> str:
    """Return a number with three digits, without an exponent: "0.0123", "1.5", "1234"."""
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"


def missing(reasons: dict[str, list[str]]) -> list[str]:
    """Return the section on what was left out: reason to the places that it holds for."""
    if not reasons:
        return []
    return ["## Left out\n", "\n".join(f"- {why} ({', '.join(where)})" for why, where in reasons.items()) + "\n"]


def save(found: dict[str, Any], text: str, out: Path) -> None:
    """Write OUT.json and OUT.md, and print the tables."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = text.rstrip() + "\n"
    out.with_suffix(".md").write_text(text, encoding="utf-8")
    print("\n" + text)
