"""Show docstrings as they are meant: an extension of Griffe, which reads them for the site.

An example stands at the end of its docstring, where Griffe would take ">>>" for three quotations in one another.
Arguments that share a line, "rtol, atol: ...", would be one argument without a type, and "<unk>" a tag of HTML.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^( *)>>> .*(?:\n\1\S.*|\n\1 +\S.*)*", re.MULTILINE)
TAG = re.compile(rf"{EXAMPLE.pattern}|`[^`]*`|<(?=\w+>)", re.MULTILINE)  # what stands in code is none
FLAGS = re.compile(r" *# doctest: .*")
ARGUMENTS = re.compile(r"^( *)Args:\n(?:\1 +.*\n)+", re.MULTILINE)
SHARED = re.compile(r"^( *)(\w+(?:, \w+)+)(: .*\n(?:\1 +.*\n)*)", re.MULTILINE)


def fenced(text: str) -> str:
    """Return a docstring with its examples as blocks of code."""

    def block(match: re.Match[str]) -> str:
        return f"{match[1]}```pycon\n{FLAGS.sub('', match[0])}\n{match[1]}```"

    return EXAMPLE.sub(block, text)


def apart(text: str) -> str:
    """Return a docstring with a line for each argument."""

    def lines(match: re.Match[str]) -> str:
        return "".join(f"{match[1]}{name}{match[3]}" for name in match[2].split(", "))

    return ARGUMENTS.sub(lambda match: SHARED.sub(lines, match[0]), text)


def escaped(text: str) -> str:
    """Return a docstring without tags of HTML."""
    return TAG.sub(lambda match: "&lt;" if match[0] == "<" else match[0], text)


class Examples(griffe.Extension):
    """Puts fences around the examples of every object, and its arguments on lines of their own."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(escaped(apart(obj.docstring.value)))
