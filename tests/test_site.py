"""The site: it builds, every link and picture is there; a browser finds no error and loads nothing from elsewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import tinygrad_rnn as tr

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.nightly


class Links(HTMLParser):
    """Collects what a page links to, what it loads, and its anchors."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in ("img", "script", "iframe") and given.get("src"):
            self.loads.append(given["src"])
        if tag == "link" and given.get("href") and given.get("rel") in ("stylesheet", "icon"):
            self.loads.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("zensical")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("site") / "site"
    subprocess.run([sys.executable, ROOT / "docs" / "make_site.py", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path: Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}


def test_no_link_is_dead(site, pages):
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("//"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (
                parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors
            ):
                dead.append((path.name, link))
    assert dead == []


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for path, page in pages.items():
        for load in page.loads:
            if load.startswith("data:"):
                continue
            assert not urlsplit(load).scheme, (path, load)
            assert not load.startswith("//"), (path, load)
            assert (path.parent / unquote(urlsplit(load).path)).exists(), (path, load)


def test_every_public_name_is_in_the_reference(pages):
    anchors = {
        anchor.rpartition(".")[2]
        for path, page in pages.items()
        if "reference" in path.parts
        for anchor in page.anchors
    }
    assert set(tr.__all__) - anchors == set()


def test_both_languages_have_every_lesson(site):
    lessons = [{path.name for path in (site / "course" / language).glob("*.html")} for language in ("en", "zh")]
    assert lessons[0] == lessons[1]
    assert len(lessons[0]) == 10
    for path in (site / "course" / "zh").glob("*.html"):
        assert re.search("[\u4e00-\u9fff]", path.read_text(encoding="utf-8"))


FITS = """(() => {
    const width = document.documentElement.clientWidth;
    const broken = [...document.images].filter(image => image.complete && !image.naturalWidth).map(image => image.src);
    return [document.documentElement.scrollWidth - width, broken];
})()"""
ERRORS = ("Runtime.exceptionThrown", "Log.entryAdded")


@pytest.mark.parametrize("width", [360, 1500])
def test_every_page_in_a_browser(chromium, pages, width):
    chromium.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    for path in sorted(pages):
        chromium.open(path)
        wide, broken = chromium.js(FITS)
        assert (wide <= 0, broken) == (True, []), path
        assert [p for name, p in chromium.events if name in ERRORS] == [], path
        requests = [p["request"]["url"] for name, p in chromium.events if name == "Network.requestWillBeSent"]
        asked = {url.partition(":")[0] for url in requests}
        assert asked <= {"file", "blob", "data"}, path


def test_keys_reach_search_and_a_lesson(chromium, site):
    chromium.call("Emulation.setDeviceMetricsOverride", width=1500, height=900, deviceScaleFactor=1, mobile=False)
    chromium.open(site / "index.html")
    seen = set()
    for _ in range(40):
        chromium.press("Tab")
        seen.add(chromium.js("document.activeElement.getAttribute('href') || document.activeElement.tagName"))
    assert "./course/en/04-bptt-by-hand.html" in seen
    assert any("BUTTON" in part for part in seen)
