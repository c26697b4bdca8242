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
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import tinygrad_rnn as tr

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"""(?:(?<=\]\()|(?<=\bsrc=")|(?<=srcset="))(?![a-z]+:|#)([^)#\s"]+)((?:#[^)"]*)?)(?=[)"])""")
PICTURE = re.compile(r"(?<!\[)(!\[[^\]]*\]\(([^)\s]+)\))")
OPTION = re.compile(r"<code>(?=-[\w-]+</code>)")
TWO_SCHEMES = re.compile(r'(<picture>(?:(?!</picture>).)*<img [^>]*\bsrc="([^"]+)"[^>]*>\s*</picture>)', re.DOTALL)
CODE = re.compile(r"^(`{3,}).*?^\1$|^ {4}.*?$|`[^`\n]+`|\]\([^)]*\)", re.DOTALL | re.MULTILINE)
INDEX = re.compile(r"(?<![\w/`])((?:dL/)?[A-Za-z]+)_(?:\{([^}]+)\}|(t|n|tau|\d)(?![A-Za-z0-9_]))")
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


def indexed(text: str) -> str:
    """Return a page with the indices of its prose set low: h_{t-1} outside code."""

    def low(match: re.Match[str]) -> str:
        return f"{match[1]}<sub>{(match[2] or match[3]).replace('-', '−')}</sub>"

    parts, start = [], 0
    for code in CODE.finditer(text):
        parts += [INDEX.sub(low, text[start : code.start()]), code[0]]
        start = code.end()
    return "".join([*parts, INDEX.sub(low, text[start:])])


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
                text = PICTURE.sub(r"[\1](\2)", text)  # a picture opens at its own size
                write(target, indexed(TWO_SCHEMES.sub(r'<a href="\2">\1</a>', text)))
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
        title = f"# {'/<wbr>'.join(path.relative_to(ROOT).parts)}\n\n"  # on a narrow page a line ends after a folder
        if path.is_dir():
            return title + "\n".join(f"- `{part.name}`" for part in sorted(path.iterdir()) if part.name[0] not in "_.")
        return f"{title}````{path.suffix[1:]}\n{path.read_text(encoding='utf-8')}\n````\n"


CONFIG = """
[project]
site_name = "tinygrad_rnn"
site_description = "{description}"
copyright = '{copyright}'
docs_dir = "pages"
site_dir = "{folder}"
use_directory_urls = false
extra_css = ["assets/site.css"]
nav = [
{nav}
]

[project.theme]
language = "{language}"
font = false
features = ["content.code.copy", "navigation.footer", "navigation.top", "navigation.sections", "search.highlight"]

[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"
toggle.icon = "lucide/moon"
toggle.name = "{darker}"

[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
toggle.icon = "lucide/sun"
toggle.name = "{lighter}"

[project.extra]
generator = false

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
toc.permalink_title = "{permalink}"
pymdownx.highlight.pygments_lang_class = true
pymdownx.superfences = {{}}
"""

ZENSICAL = '<a href="https://zensical.org/" target="_blank" rel="noopener">Zensical</a>'
TEXTS = {
    "en": {
        "description": "Recurrent networks on NumPy: graphs, truncation, checks, drawings, a compiler",
        "copyright": f"Made with {ZENSICAL}",
        "darker": "Switch to a dark page",
        "lighter": "Switch to a light page",
        "permalink": "Link to this section",
    },
    "zh": {
        "description": "在 NumPy 上做循环神经网络：计算图、截断、检查、绘图和编译器",
        "copyright": f"本站用 {ZENSICAL} 制作",
        "darker": "切换到深色页面",
        "lighter": "切换到浅色页面",
        "permalink": "本节的链接",
    },
}

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


def navigation(folder: Path, references: list[Path], language: str) -> str:
    """Return the table of contents of the pages in a language; the guide and the reference are in English alone."""

    def entry(title: str, name: str) -> str:
        return f'{{ "{title}" = "{name}" }},'

    def titled(path: Path) -> str:
        title = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        return entry(title, path.relative_to(folder).as_posix())

    def section(title: str, entries: Iterable[str]) -> str:
        return "\n    ".join([f'  {{ "{title}" = [', *entries]) + "\n  ] },"

    known = {path.stem for path in folder.glob("*.md")} - {"index", "index.zh", "changelog", "contributing"}
    guide = [entry(title, f"{name}.md") for name, title in GUIDE.items() if name in known]
    guide += [titled(folder / f"{name}.md") for name in sorted(known - GUIDE.keys())]
    lessons = [titled(path) for path in sorted((folder / "course" / language).glob("*.md"))]
    parts = {
        "en": ("Home", "Course", "Guide", "Reference", "Contributing", "Changelog", "中文"),
        "zh": ("首页", "课程", "指南（英文）", "参考（英文）", "参与贡献（英文）", "更新日志（英文）", "English"),
    }[language]
    homes = ("index.md", "index.zh.md") if language == "en" else ("index.zh.md", "index.md")
    return "\n".join(
        [
            entry(parts[0], homes[0]),
            section(parts[1], lessons),
            section(parts[2], guide),
            section(parts[3], map(titled, references)),
            entry(parts[4], "contributing.md"),
            entry(parts[5], "changelog.md"),
            entry(parts[6], homes[1]),
        ]
    )


# What the theme says in English or oddly on a Chinese page: in the page, and in the script of the search.
PAGE_WORDS = {"跳转至": "跳到正文", "查找": "搜索"}
SCRIPT_WORDS = {
    '"Search"': '"搜索"',
    '"Search results"': '"搜索结果"',
    '"Close search"': '"关闭搜索"',
    '"Filters"': '"筛选"',
    '"No results"': '"没有结果"',
    '"result":"results"': '"个结果":"个结果"',
}


def translate(text: str, words: dict[str, str]) -> str:
    """Return a text with each of these words replaced; a word that is not there means that the theme has changed."""
    for old, new in words.items():
        if old not in text:
            raise SystemExit(f"docs/make_site.py: the theme no longer says {old!r}; say what it says instead")
        text = text.replace(old, new)
    return text


def chinese(pages: Path, references: list[Path], work: Path) -> None:
    """Build the site once more with controls in Chinese, and take the Chinese pages from there."""
    for page in references:  # the slow part, and not taken
        write(page, page.read_text(encoding="utf-8").partition("\n")[0])
    build(work, "zh", navigation(pages, references, "zh"))
    site = work / "site"
    for page in [Path("index.zh.html"), *(path.relative_to(work / "zh") for path in work.glob("zh/course/zh/*.html"))]:
        text = translate((work / "zh" / page).read_text(encoding="utf-8"), PAGE_WORDS)
        text = text.replace('<html lang="zh"', '<html lang="zh-Hans"', 1)  # how signs are drawn and spoken
        write(site / page, re.sub(r"bundle(\.\w+\.min\.js)", r"bundle.zh\1", text))
    for script in list(site.glob("assets/javascripts/bundle.*.js")):
        text = translate(script.read_text(encoding="utf-8"), SCRIPT_WORDS)
        write(script.with_name(script.name.replace("bundle", "bundle.zh", 1)), text)


def build(work: Path, language: str, contents: str) -> None:
    """Run Zensical on the pages, with the controls in a language."""
    folder = "site" if language == "en" else language
    config = CONFIG.format(nav=contents, root=ROOT.as_posix(), language=language, folder=folder, **TEXTS[language])
    name = write(work / f"{language}.toml", config).name
    subprocess.run([sys.executable, "-m", "zensical", "build", "--clean", "--config-file", name], cwd=work, check=True)


def finish(site: Path) -> None:
    """Add the script of the site to its pages, and drop what is loaded from elsewhere."""
    for name in ("404.html", "sitemap.xml"):  # these need the address of the site, and any folder may be one
        (site / name).unlink()
    workers = {path.name: path.read_text(encoding="utf-8") for path in site.rglob("workers/*.js")}
    script = (ROOT / "docs" / "site.js").read_text(encoding="utf-8")
    write(site / "assets" / "site.js", script.replace("workers = {}", f"workers = {json.dumps(workers)}", 1))
    for page in site.rglob("*.html"):
        text = FOREIGN.sub("", page.read_text(encoding="utf-8"))  # a shim for what the script of the site does
        text = BUNDLE.sub(r'<script src="\2assets/site.js"></script>\1', text)
        text = OPTION.sub('<code class="option">', text)  # "--" and what follows stay on one line
        page.write_text(text, encoding="utf-8")


def main(site: Path) -> None:
    """Build the site into a folder."""
    work = site.parent / f"{site.name}-pages"
    shutil.rmtree(work, ignore_errors=True)
    pages = work / "pages"
    Pages(pages).write()
    write(pages / "assets" / "site.css", (ROOT / "docs" / "site.css").read_text(encoding="utf-8"))
    references = list(reference(pages / "reference"))
    build(work, "en", navigation(pages, references, "en"))
    chinese(pages, references, work)
    finish(work / "site")
    shutil.rmtree(site, ignore_errors=True)
    (work / "site").rename(site)
    print(f"{site / 'index.html'}: {sum(1 for _ in site.rglob('*.html'))} pages")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "build" / "site")
