"""Tables of text, for terminals and for notebooks; standard library only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape
from unicodedata import east_asian_width

_CELL = "padding:2px 10px;text-align:left;border-bottom:1px solid rgba(128,128,128,.35)"


def text_table(rows: Sequence[Sequence[str]], *, right: bool = False) -> list[str]:
    """Return the lines of a table in plain text, its columns aligned to the left, or to the right.

    A Chinese sign is as wide as two letters.

    >>> text_table([("leaf", "verdict"), ("Wh", "ok")])
    ['leaf  verdict', 'Wh    ok']
    """
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        gaps = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [gap + cell if right else cell + gap for cell, gap in zip(row, gaps, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _width(text: str) -> int:
    return sum(2 if east_asian_width(sign) in "FW" else 1 for sign in text)


def html_table(rows: Sequence[Sequence[str]], bold: Collection[int] = ()) -> str:
    """Return a table as HTML, its first row the head; `bold` are the numbers of the rows below it in bold print.

    No colour is set: text and background are the notebook's, light or dark.

    >>> html_table([["a"], ["1 < 2"]]).count("1 &lt; 2")
    1
    """
    head, *body = rows
    lines = ['<tr style="font-weight:bold">' if number in bold else "<tr>" for number in range(len(body))]
    lines = [line + _cells(row, "td") for line, row in zip(lines, body, strict=True)]
    return (
        f'<table style="border-collapse:collapse"><thead><tr>{_cells(head, "th")}</tr></thead>'
        f"<tbody>{''.join(f'{line}</tr>' for line in lines)}</tbody></table>"
    )


def _cells(texts: Sequence[str], tag: str) -> str:
    return "".join(f'<{tag} style="{_CELL}">{escape(text)}</{tag}>' for text in texts)
