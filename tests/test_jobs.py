"""The five jobs of docs/jobs.md are as short as the page says; `test_docs.py` runs them."""

import ast
import re
from pathlib import Path

import pytest
from test_docs import blocks

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "jobs.md"
COUNTS = [int(count) for count in re.findall(r"^\|[^|]+\| (\d+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)]
JOBS = [code for language, code in blocks(PAGE) if language == "python"][1:]  # the first one writes files


def lines(code):
    """The lines that are not empty and not a comment alone."""
    return [line for line in code.splitlines() if line.strip() and not line.lstrip().startswith("#")]


@pytest.mark.parametrize(("code", "count"), list(zip(JOBS, COUNTS, strict=True)), ids=lambda value: str(value)[:10])
def test_a_job_is_as_short_as_the_page_says(code, count):
    assert len(lines(code)) == count < 20
    assert max(map(len, lines(code))) <= 120
    assert all(count == 1 for count in _statements_by_line(ast.parse(code)).values())


def _statements_by_line(tree):
    counts = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            counts[node.lineno] = counts.get(node.lineno, 0) + 1
    return counts


@pytest.mark.parametrize("name", ["Forecasting", "Classification"])
def test_a_csv_becomes_a_task_in_five_lines(name):
    text = (DOCS / "data.md").read_text(encoding="utf-8")
    code = text.split(f"**{name}**")[1].split("```python\n")[1].split("```")[0]
    statements = ast.parse(code).body[:5]  # what follows prints the result
    assert "loadtxt" in ast.unparse(statements[0])
    assert ".fit()" in ast.unparse(statements[4])
    assert all(node.end_lineno - node.lineno <= 2 for node in statements)
