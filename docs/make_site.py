"""Build the site: python docs/make_site.py [FOLDER] (default: build/site). `make docs` calls it.

The pages are those of this folder, the README and the changelog; the API reference is made of the docstrings of the
public names. Zensical turns them into HTML: it is the successor of Material for MkDocs by the same authors, builds in
seconds, searches without a server, and reads plain Markdown, so that every page also reads well as a file. Nothing on
the site is loaded from elsewhere.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import tinygrad_rnn as tr

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"""(?:(?<=\]\()|(?<=\bsrc=")|(?<=srcset="))(?![a-z]+:|#)([^)#\s"]+)((?:#[^)"]*)?)(?=[)"])""")
PICTURE = re.compile(r"(?<!\[)(!\[[^\]]*\]\(([^)\s]+)\))")
OPTION = re.compile(r"<code>(?=-[\w-]+</code>)")
BUNDLE = re.compile(r'(<script src="([^"]*)assets/javascripts/bundle)')
FOREIGN = re.compile(r"<script[^>]*\bsrc=[\"']?https?:[^>]*></script>")
ROOMS = {
    "Tensors and gradients": ("engine", "ops"),
    "Cells, layers, models": ("nn",),
    "Truncation and credit": ("truncation", "credit"),
    "Compiling": ("compiler",),
    "Data": ("data",),
    "Optimizers": ("optim",),
    "Training": ("training", "config"),
    "Drawing": ("graphs", "pictures"),
    "Export and course": ("exports", "course"),
    "Errors": ("errors",),
}
MODULES = {
    "testing": "Checks of gradients",
    "handwritten": "Layers with a backward pass by hand",
    "metrics": "Metrics",
}


def public_names() -> dict[str, list[tuple[str, str]]]:
    """Return for each page of the reference its names, each with the module it is defined in."""
    pages: dict[str, list[tuple[str, str]]] = {page: [] for page in ROOMS}
    for name in sorted(tr.__all__, key=str.lower):
        module = inspect.getmodule(getattr(tr, name))
        home = getattr(getattr(tr, name), "__module__", None) or (module.__name__ if module else "")
        room = home.split(".")[1] if home.startswith("tinygrad_rnn.") else ""
        for page, rooms in ROOMS.items():
            if room in rooms:
                pages[page].append((name, home))
    return pages


def reference(folder: Path) -> Iterator[Path]:
    """Write the pages of the API reference, and yield them."""
    options = "    options:\n      show_root_heading: true\n      heading_level: 2\n"
    for page, names in public_names().items():
        lines = [f"# {page}\n", "Names of `import tinygrad_rnn as tr`.\n"]
        lines += [f"::: {home}.{name}\n{options}" for name, home in names]
        yield write(folder / f"{slug(page)}.md", "\n".join(lines))
    for module, title in MODULES.items():
        found = importlib.import_module(f"tinygrad_rnn.{module}")
        lines = [f"# {title}\n", f"Names of `tinygrad_rnn.{module}`.\n"]
        for name, part in sorted(vars(found).items(), key=lambda item: item[0].lower()):
            home = getattr(part, "__module__", None) or ""
            if not name.startswith("_") and home.startswith(f"tinygrad_rnn.{module}") and part.__doc__:
                lines.append(f"::: {home}.{name}\n{options}")
        yield write(folder / f"{slug(title)}.md", "\n".join(lines))


def slug(title: str) -> str:
    """Return the name of a page's file."""
    return re.sub(r"\W+", "-", title.lower())


def write(path: Path, text: str) -> Path:
    """Write a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


class Pages:
    """The folder that the site is made of: pages, pictures, and files of the repository that pages link to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places = {path: path.relative_to(ROOT / "docs") for path in sorted((ROOT / "docs").rglob("*.md"))}
        self.places |= {
            ROOT / "README.md": Path("index.md"),
            ROOT / "README.zh.md": Path("index.zh.md"),
            ROOT / "CHANGELOG.md": Path("changelog.md"),
            ROOT / "CONTRIBUTING.md": Path("contributing.md"),
        }
        self.waiting = list(self.places)

    def write(self) -> None:
        """Write every page, and what it links to."""
        while self.waiting:
            path = self.waiting.pop()
            target = self.folder / self.places[path]
            if path.suffix == ".md":
                text = LINK.sub(partial(self.link, path), path.read_text(encoding="utf-8"))
                write(target, PICTURE.sub(r"[\1](\2)", text))  # a picture opens at its own size
            elif target.suffix == ".md":
                write(target, self.listing(path))
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)

    def link(self, page: Path, match: re.Match[str]) -> str:
        """Return where a link of a page leads on the site."""
        path = (page.parent / match[1]).resolve()
        if not path.exists():
            raise SystemExit(f"docs/make_site.py: {page.relative_to(ROOT)} links to {match[1]}, which does not exist")
        if path not in self.places:
            shown = path.is_dir() or path.suffix in (".py", ".toml", ".h", ".c")
            place = path.relative_to(ROOT / "docs" if path.is_relative_to(ROOT / "docs") else ROOT)
            self.places[path] = Path("source", f"{place}.md") if shown else place
            self.waiting.append(path)
        start = self.places[page].parent
        return Path("/".join([".."] * len(start.parts)) or ".", self.places[path]).as_posix() + match[2]

    def listing(self, path: Path) -> str:
        """Return a page that shows a file of the repository, or the names in a folder."""
        title = f"# {path.relative_to(ROOT)}\n\n"
        if path.is_dir():
            return title + "\n".join(f"- `{part.name}`" for part in sorted(path.iterdir()) if part.name[0] not in "_.")
        return f"{title}````{path.suffix[1:]}\n{path.read_text(encoding='utf-8')}\n````\n"


CONFIG = """
[project]
site_name = "tinygrad_rnn"
site_description = "Recurrent networks on NumPy: graphs, truncation, checks, drawings, a compiler"
docs_dir = "pages"
site_dir = "site"
use_directory_urls = false
extra_css = ["assets/site.css"]
nav = [
{nav}
]

[project.theme]
language = "en"
font = false
features = ["content.code.copy", "navigation.footer", "navigation.top", "navigation.sections", "search.highlight"]

[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"
toggle.icon = "lucide/moon"
toggle.name = "Switch to a dark page"

[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
toggle.icon = "lucide/sun"
toggle.name = "Switch to a light page"

[project.plugins.search]
separator = '[\\s\\-_,:!=\\[\\]()\\\\"`/]+|\\.(?!\\d)|(?=[\\u4e00-\\u9fff])'

[project.plugins.offline]

[project.plugins.mkdocstrings.handlers.python]
paths = ["{root}"]

[project.plugins.mkdocstrings.handlers.python.options]
docstring_style = "google"
show_source = false
extensions = ["{root}/docs/griffe_examples.py"]
show_root_full_path = false
separate_signature = true
show_signature_annotations = true
line_length = 100
annotations_path = "source"
docstring_options = {{ returns_multiple_items = false }}

[project.markdown_extensions]
attr_list = {{}}
md_in_html = {{}}
tables = {{}}
toc.permalink = true
pymdownx.highlight.pygments_lang_class = true
pymdownx.superfences = {{}}
"""

GUIDE = {
    "recurrence": "Recurrence",
    "truncation": "Truncation",
    "credit": "Credit beyond truncation",
    "checking": "Checking gradients",
    "graphs": "Graphs",
    "training": "Training",
    "data": "Data",
    "jobs": "Five jobs",
    "compile": "Compile",
    "scale": "Many processes, much data",
    "export": "Export",
    "numpy": "NumPy functions",
    "architecture": "Architecture",
}


def navigation(folder: Path, references: list[Path]) -> str:
    """Return the table of contents of the site."""

    def titled(path: Path) -> str:
        title = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        return f'    {{ "{title}" = "{path.relative_to(folder).as_posix()}" }},'

    def lessons(language: str) -> list[str]:
        return [titled(path) for path in sorted((folder / "course" / language).glob("*.md"))]

    parts = ['  { "Home" = "index.md" },', '  { "Course" = [', *lessons("en"), "  ] },"]
    known = {path.stem for path in folder.glob("*.md")} - {"index", "index.zh", "changelog", "contributing"}
    guide = [f'    {{ "{title}" = "{name}.md" }},' for name, title in GUIDE.items() if name in known]
    guide += [titled(folder / f"{name}.md") for name in sorted(known - GUIDE.keys())]
    parts += ['  { "Guide" = [', *guide, "  ] },"]
    parts += ['  { "Reference" = [', *map(titled, references), "  ] },"]
    parts += ['  { "Contributing" = "contributing.md" },', '  { "Changelog" = "changelog.md" },']
    parts += ['  { "中文" = [', '    { "首页" = "index.zh.md" },', *lessons("zh"), "  ] },"]
    return "\n".join(parts)


def finish(site: Path) -> None:
    """Add the script of the site to its pages, drop what is loaded from elsewhere, and mark what is in Chinese."""
    workers = {path.name: path.read_text(encoding="utf-8") for path in site.rglob("workers/*.js")}
    script = (ROOT / "docs" / "site.js").read_text(encoding="utf-8")
    write(site / "assets" / "site.js", script.replace("workers = {}", f"workers = {json.dumps(workers)}", 1))
    for page in site.rglob("*.html"):
        text = FOREIGN.sub("", page.read_text(encoding="utf-8"))  # a shim for what the script of the site does
        text = BUNDLE.sub(r'<script src="\2assets/site.js"></script>\1', text)
        text = OPTION.sub('<code class="option">', text)  # "--" and what follows stay on one line
        if page.parent.name == "zh" or page.name == "index.zh.html":
            text = text.replace('<html lang="en"', '<html lang="zh-Hans"', 1)  # how signs are drawn and spoken
        page.write_text(text, encoding="utf-8")


def main(site: Path) -> None:
    """Build the site into a folder."""
    work = site.parent / f"{site.name}-pages"
    shutil.rmtree(work, ignore_errors=True)
    pages = work / "pages"
    Pages(pages).write()
    references = list(reference(pages / "reference"))
    write(pages / "assets" / "site.css", (ROOT / "docs" / "site.css").read_text(encoding="utf-8"))
    write(work / "zensical.toml", CONFIG.format(nav=navigation(pages, references), root=ROOT.as_posix()))
    subprocess.run([sys.executable, "-m", "zensical", "build", "--clean"], cwd=work, check=True)
    finish(work / "site")
    shutil.rmtree(site, ignore_errors=True)
    (work / "site").rename(site)
    print(f"{site / 'index.html'}: {sum(1 for _ in site.rglob('*.html'))} pages")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "build" / "site")
