"""A report in a notebook: a title, a table, and lines of text below it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_CELL = "padding:2px 10px;text-align:left;border-bottom:1px solid rgba(128,128,128,.35)"


def html(title: str, head: Sequence[str], rows: Iterable[tuple[Sequence[str], bool]], lines: Iterable[str] = ()) -> str:
    """Return a table as HTML. No colour is set: text and background are the notebook's, light or dark.

    Args:
        title: above the table.
        head: names of the columns.
        rows: cells, and whether the row is printed in bold.
        lines: paragraphs below the table.

    >>> html("t", ["a"], [(["1 < 2"], True)]).count("1 &lt; 2")
    1
    """
    parts = [f"<p><b>{escape(title)}</b></p>", '<table style="border-collapse:collapse"><thead><tr>']
    parts += [f'<th style="{_CELL}">{escape(name)}</th>' for name in head]
    parts.append("</tr></thead><tbody>")
    for cells, bold in rows:
        style = f"{_CELL};font-weight:bold" if bold else _CELL
        parts.append("<tr>" + "".join(f'<td style="{style}">{escape(cell)}</td>' for cell in cells) + "</tr>")
    parts.append("</tbody></table>")
    parts += [f"<p>{escape(line).replace(chr(10), '<br>')}</p>" for line in lines]
    return "".join(parts)
