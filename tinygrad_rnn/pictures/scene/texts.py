"""The positions of all lines of text of a picture, and the size that a box needs for those in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .scene import Box, BoxKind, Label, Region, Row, Scale, Scene
from .style import INK, ROW_SIZE, ROW_STEP, SMALL, TITLE_SIZE, WARNING, look_of, text_colour
from .text import text_width, title_width

_PAD = 13.0
COLUMN_GAP = 10.0
_HEADER = "#7a5c05"  # of a table of parameters


@dataclass(frozen=True)
class Text:
    """One line of text: `y` is the height of its middle; `symbols`: subscripts and italics are marked in it."""

    x: float
    y: float
    text: str
    size: float
    colour: str
    anchor: Literal["start", "middle", "end"] = "middle"
    strong: bool = False
    symbols: bool = True
    italics: bool = False


def is_table(rows: tuple[Row, ...]) -> bool:
    """Return whether the rows of a box have columns."""
    return any("\t" in row.text for row in rows)


def title_size(kind: BoxKind, rows: tuple[Row, ...]) -> float:
    """Return the font size of a box's title."""
    if kind == "parameter":
        return ROW_SIZE if is_table(rows) else 12.0
    return {"cut": 9.5, "elision": 19.0, "delay": 13.0}.get(kind, TITLE_SIZE)


def row_text(row: Row) -> str:
    """Return the text of a row, with a warning sign if it warns."""
    return f"⚠ {row.text}" if row.warn else row.text


def columns_of(rows: tuple[Row, ...]) -> list[float]:
    """Return the widths of the columns of a table of rows."""
    cells = [row_text(row).split("\t") for row in rows]
    return [
        max(text_width(line[number], ROW_SIZE + (number == 0), number == 0) for line in cells if number < len(line))
        for number in range(max(map(len, cells)))
    ]


def box_size(kind: BoxKind, title: str, rows: tuple[Row, ...] = (), least: float = 0.0) -> tuple[float, float]:
    """Return the width and height that a box needs for its text, at least `least` wide."""
    size = title_size(kind, rows)
    strong = kind == "parameter"
    if is_table(rows):
        columns = columns_of(rows)
        wide = max(sum(columns) + COLUMN_GAP * (len(columns) - 1), title_width(title, size))
        return max(least, wide + 2 * _PAD), 15 + ROW_STEP * len(rows) + 14
    widths = [text_width(row_text(row), ROW_SIZE) for row in rows]
    wide = max([title_width(title, size, strong), *widths])
    return max(least, wide + 2 * _PAD), size * 1.25 + ROW_STEP * len(rows) + (13 if rows else 15)


def texts_of(box: Box, scale: Scale | None) -> list[Text]:
    """Return the lines of text of a box, with their places."""
    look, size, table = look_of(box), title_size(box.kind, box.rows), is_table(box.rows)
    strong = (box.kind == "parameter" and not table) or box.kind == "cut" or (box.kind == "loss" and box.strong)
    ink = _HEADER if table else look.stroke if box.kind == "cut" else look.ink
    texts: list[Text] = []
    if box.kind == "frame":
        left, y = box.left + _PAD, box.top + 15
        texts.append(Text(left, y, box.title, size, ink, "start", italics=True))
        left += title_width(box.title, size) + COLUMN_GAP
        return texts + [
            Text(left, y + 1, row_text(row), ROW_SIZE, SMALL, "start", symbols=False) for row in box.rows[:1]
        ]
    step = 15.0 if table else size * 1.25
    if box.kind == "cut" and box.factor == 0:
        y = box.bottom + 4
    elif box.kind == "cut":
        texts.append(Text(box.x, box.y, box.title, size, ink, strong=True))
        y = box.bottom + 4
    else:
        y = box.y - (step * bool(box.title) + ROW_STEP * len(box.rows)) / 2
    if box.title and not (box.kind == "cut" and box.factor != 0):
        left = box.left + _PAD
        where = (left, "start") if table else (box.x, "middle")
        texts.append(Text(where[0], y + step / 2, box.title, size, ink, where[1], strong, italics=not table))  # type: ignore[arg-type]
        y += step
    columns = columns_of(box.rows) if table else []
    for row in box.rows:
        texts += _row(box, row, y + ROW_STEP / 2, columns, scale)
        y += ROW_STEP
    return texts


def _row(box: Box, row: Row, y: float, columns: list[float], scale: Scale | None) -> list[Text]:
    ink = WARNING if row.warn else "#d5dbe7" if box.kind == "delay" else SMALL
    last = text_colour(row.magnitude, scale) if row.magnitude is not None and scale and not row.warn else ink
    if not columns:
        return [Text(box.x, y, row_text(row), ROW_SIZE, last, symbols=False)]
    cells = row_text(row).split("\t")
    left, right = box.left + _PAD, box.right - _PAD
    texts = []
    for number, cell in enumerate(cells):
        if number == 0:
            texts.append(Text(left, y, cell, ROW_SIZE + 1, look_of(box).ink, "start", True, symbols=False))
        elif number == len(columns) - 1:
            texts.append(Text(right, y, cell, ROW_SIZE, last, "end", symbols=False))
        else:
            texts.append(Text(left, y, cell, ROW_SIZE, ink, "start", symbols=False))
        left += columns[number] + COLUMN_GAP
    return texts


def heading(scene: Scene) -> list[Text]:
    """Return the title and the subtitle of a picture."""
    title = Text(24, 33, scene.title, 19.0, INK, "start", strong=True, symbols=False)
    return [title, *([Text(24, 54, scene.subtitle, 11.0, SMALL, "start", symbols=False)] if scene.subtitle else [])]


def headline_width(scene: Scene) -> float:
    """Return the greatest width of the title and the subtitle."""
    return max(text_width(text.text, text.size, text.strong) for text in heading(scene))


def region_text(region: Region) -> Text:
    """Return a region's label with its position: upper left in a window, lower right in other regions."""
    if region.kind == "window":
        left, top = region.left + 14, region.top + 12
        return Text(left, top, region.label, 9, SMALL, "start", symbols=False)
    right, bottom = region.right - 10, region.bottom - 11
    return Text(right, bottom, region.label, 9, SMALL, "end", symbols=False)


def label_text(label: Label) -> Text:
    """Return a label as a line of text."""
    colour = WARNING if label.warn else SMALL
    return Text(label.x, label.y, label.text, label.size, colour, label.anchor, label.strong)
