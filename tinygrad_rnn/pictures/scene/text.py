"""The width of text, and its subscripts and italics, computed without a renderer.

Widths are those of DejaVu Sans, which are larger than those of Helvetica, Arial and Liberation Sans: whichever of them
a renderer uses, text stays inside its box.
"""

from __future__ import annotations

import re
from typing import NamedTuple

FAMILY = "Helvetica,Arial,Liberation Sans,DejaVu Sans,sans-serif"

# Thousandths of the font size, for groups of characters of the same width.
_WIDTHS = {
    278: "ijl",
    295: "IJ",
    318: " ,.·",
    345: "/:;\\|",
    361: "-f",
    400: "()[]tr'",
    420: '!²"ℓ₀',
    525: "zs*?_‖∂c",
    592: "vxykLF",
    640: "abdeghnopqu0123456789$EPSTYσΣ{}~",
    700: "ABCKRVXZ∇√",
    787: "DGHNOQU&w",
    838: "+=<>#×⊙−→←≈≤^",
    980: "mMW%@⋯…⚠",
}
_WIDTH_OF = {character: width for width, characters in _WIDTHS.items() for character in characters}
_SUBSCRIPT = re.compile(r"_\{([^}]*)\}")
_SYMBOLS = re.compile(r"(?<![A-Za-z_])[A-Za-zℓ](?![A-Za-z_])")


def text_width(text: str, size: float, strong: bool = False) -> float:
    """Return the greatest width of a line of text, in points.

    >>> round(text_width("tanh(x·Wx + h·Wh + b)", 9), 1)
    105.9
    """
    thousandths = sum(_WIDTH_OF.get(character, 900) for character in text)
    return thousandths * size * (1.16 if strong else 1.0) / 1000


class Run(NamedTuple):
    """A piece of a title: its text, and how it is set."""

    text: str
    italic: bool = False
    subscript: bool = False


def title_runs(title: str, italics: bool = True) -> list[Run]:
    """Return the pieces of a title: _{...} is a subscript, and with `italics` single letters are italic.

    >>> [(run.text, run.italic, run.subscript) for run in title_runs("h_{3} x")]
    [('h', True, False), ('3', False, True), (' ', False, False), ('x', True, False)]
    """
    runs: list[Run] = []
    for number, part in enumerate(_SUBSCRIPT.split(title)):
        if number % 2:
            runs.append(Run(part, subscript=True))
            continue
        at = 0
        for letter in _SYMBOLS.finditer(part) if italics else ():
            runs.append(Run(part[at : letter.start()]))
            runs.append(Run(letter.group(), italic=True))
            at = letter.end()
        runs.append(Run(part[at:]))
    return [run for run in runs if run.text]


def plain(title: str) -> str:
    """Return a title without the marks of its subscripts.

    >>> plain("h_{3}")
    'h_3'
    """
    return _SUBSCRIPT.sub(r"_\1", title)


def shortened(text: str, size: float, width: float) -> str:
    """Return a line of text, with an ellipsis in place of its end if it is wider than `width` points.

    >>> shortened("AVeryLongName", 9, 50), shortened("RNNCell", 9, 50)
    ('AVeryLo…', 'RNNCell')
    """
    short = text
    while len(short) > 1 and text_width(short if short == text else f"{short}…", size) > width:
        short = short[:-1]
    return short if short == text else f"{short}…"


def title_width(title: str, size: float, strong: bool = False) -> float:
    """Return the greatest width of a title, in points; subscripts are set at two thirds of its size."""
    return sum(text_width(run.text, size * (2 / 3 if run.subscript else 1), strong) for run in title_runs(title))
