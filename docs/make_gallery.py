"""Draw the pictures of docs/graphs.md with the very lines that stand in it: python docs/make_gallery.py.

A block of Python and the picture after it belong together: what the block calls `g` is saved as that picture, or, if
the block wrote a file of the picture's name, that file is taken.
"""

from __future__ import annotations

import contextlib
import linecache
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("graphs.md")
PART = re.compile(r"^```python\n(?P<code>.*?)^```$|^!\[[^\]]*\]\((?P<picture>[^)]+)\)$", re.MULTILINE | re.DOTALL)


def main() -> None:
    """Run the page from top to bottom, and write its pictures."""
    names: dict[str, Any] = {"__name__": PAGE.stem}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for part in PART.finditer(PAGE.read_text(encoding="utf-8")):
            if part["code"] is not None:
                source = f"<{PAGE.name}, character {part.start()}>"
                # So that names can be read from the lines, as they are in a file or a notebook.
                linecache.cache[source] = (len(part["code"]), None, part["code"].splitlines(keepends=True), source)
                exec(compile(part["code"], source, "exec"), names)
                continue
            path = PAGE.parent / part["picture"]
            path.parent.mkdir(parents=True, exist_ok=True)
            if Path(path.name).exists():
                shutil.copy(path.name, path)
            else:
                names["g"].save(path)
            print(f"{path.stat().st_size:>8,} bytes  {os.path.relpath(path, PAGE.parent)}")


if __name__ == "__main__":
    main()
