"""Write the lessons as notebooks: python docs/make_notebooks.py [FOLDER] (default: build/notebooks).

A notebook is made of the lesson's page: its Python blocks are cells, what they print is left to whoever runs them, and
pictures are in the notebook itself. Each exercise becomes a cell to write in, and one that grades it.
"""

from __future__ import annotations

import base64
import inspect
import os
import re
import sys
from pathlib import Path

import jupytext

from tinygrad_rnn.course.exercises.exercise import Lesson
from tinygrad_rnn.course.exercises.text import LANGUAGES
from tinygrad_rnn.course.lessons import LESSONS

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w*)\n.*?^```$", re.MULTILINE | re.DOTALL)


LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(?=[)#])")


def markdown(lesson: Lesson, language: str, folder: Path) -> str:
    """Return the page of a lesson as Markdown that jupytext reads as a notebook, whose links lead from a folder."""
    page = ROOT / "docs" / "course" / language / lesson.page
    text = page.read_text(encoding="utf-8")
    text = BLOCK.sub(lambda match: match[0] if match[1] else "", text)  # not what the cell above prints
    text = re.sub(r"!\[([^\]]*)\]\(([^)]+)\)", lambda match: _inlined(page, match), text)
    text = LINK.sub(lambda match: _led(page, match[1], folder), text)
    for exercise in lesson.exercises:
        task = inspect.cleandoc(exercise.task[language])
        body = "\n".join(f"    {line}".rstrip() for line in task.splitlines())
        cells = f'{exercise.stub}\n    """\n{body}\n    """\n    raise NotImplementedError\n'
        grade = f'tr.grade({lesson.number}, {exercise.name}, language="{language}")'
        heading = re.compile(rf"(^### [^\n]*`{exercise.name}`\n\n.*?)(?=\n### |\Z)", re.MULTILINE | re.DOTALL)
        cells = f"import numpy as np\nimport tinygrad_rnn as tr\n\n\n{cells}"
        found = f"\n\n```python\n{cells}```\n\n```python\n{grade}\n```\n"
        text = heading.sub(lambda match, found=found: match[1].rstrip() + found, text)
    return text


def _led(page: Path, link: str, folder: Path) -> str:
    """Return where a link of a page leads from a notebook: another lesson is a notebook, too."""
    target = (page.parent / link).resolve()
    if target.is_relative_to(ROOT / "docs" / "course"):
        return Path(link).with_suffix(".ipynb").as_posix()
    return Path(os.path.relpath(target, folder)).as_posix()


def _inlined(page: Path, match: re.Match[str]) -> str:
    """Return a picture with its content in the link."""
    content = base64.b64encode((page.parent / match[2]).read_bytes()).decode()
    return f'<img alt="{match[1]}" src="data:image/svg+xml;base64,{content}">'


def main(folder: Path) -> list[Path]:
    """Write every lesson in both languages; return the files."""
    written = []
    for language in LANGUAGES:
        (folder / language).mkdir(parents=True, exist_ok=True)
        for lesson in LESSONS:
            notebook = jupytext.reads(markdown(lesson, language, folder.resolve() / language), fmt="md")
            notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
            path = folder / language / Path(lesson.page).with_suffix(".ipynb").name
            jupytext.write(notebook, path)
            written.append(path)
    return written


if __name__ == "__main__":
    files = main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "notebooks")
    print(f"{len(files)} notebooks in {files[0].parents[1]}")
