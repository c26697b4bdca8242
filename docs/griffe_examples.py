"""Show the examples in docstrings as code: an extension of Griffe, which reads the docstrings for the site.

An example stands at the end of its docstring, where Griffe would take ">>>" for three quotations in one another.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^( *)>>> .*(?:\n\1\S.*|\n\1 +\S.*)*", re.MULTILINE)
FLAGS = re.compile(r" *# doctest: .*")


def fenced(text: str) -> str:
    """Return a docstring with its examples as blocks of code."""

    def block(match: re.Match[str]) -> str:
        return f"{match[1]}```pycon\n{FLAGS.sub('', match[0])}\n{match[1]}```"

    return EXAMPLE.sub(block, text)


class Examples(griffe.Extension):
    """Puts fences around the examples of every object."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
