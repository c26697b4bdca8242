"""The site: it builds, every link and picture is there; a browser finds no error and loads nothing from elsewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.course.lessons import LESSONS

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
    command = [sys.executable, ROOT / "docs" / "make_site.py", folder]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    for word in ("Warning", "griffe: "):  # the latter: an argument that the function does not have
        assert word not in done.stdout + done.stderr, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path: Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


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


def test_nothing_is_loaded_from_elsewhere_and_the_site_may_lie_anywhere(site, pages):
    for path, page in pages.items():
        assert [link for link in page.links if link.startswith("/")] == [], path
        for load in page.loads:
            if load.startswith("data:"):
                continue
            assert not urlsplit(load).scheme, (path, load)
            assert not load.startswith("/"), (path, load)
            assert (path.parent / unquote(urlsplit(load).path)).exists(), (path, load)


def test_every_public_name_is_in_the_reference(pages):
    anchors = {
        anchor.rpartition(".")[2]
        for path, page in pages.items()
        if "reference" in path.parts
        for anchor in page.anchors
    }
    assert set(tr.__all__) - anchors == set()


def test_examples_of_the_reference_are_code(site):
    """In Markdown ">>>" is a quotation in a quotation in a quotation."""
    for path in (site / "reference").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "<blockquote>" not in text, path
        assert "doctest:" not in text, path
    text = (site / "reference" / "data.html").read_text(encoding="utf-8")
    assert '<span class="gp">&gt;&gt;&gt; </span>' in text
    assert "&lt;unk&gt;" in text  # no tag


def test_stars_of_code_slant_nothing(site):
    """In Markdown what stands between two stars is slanted: `f(*x, *y)` belongs in backquotes."""
    for path in (site / "reference").glob("*.html"):
        slanted = re.findall("<em>(.*?)</em>", path.read_text(encoding="utf-8"), re.DOTALL)
        assert [text for text in slanted if not re.fullmatch(r"[\w ]+", text)] == [], path


def test_what_a_function_returns_is_one_row(site):
    """Each line of "Returns:" would otherwise be a result of its own."""
    for path in (site / "reference").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        for table in re.findall(r'section-title">Returns:.*?</table>', text, re.DOTALL):
            assert table.count('<tr class="doc-section-item"') == 1, (path, table)


def test_no_figure_is_left_as_text(pages):
    for path in pages:
        assert 'class="language-mermaid' not in path.read_text(encoding="utf-8"), path


def test_a_picture_opens_at_its_own_size(site, pages):
    links = pages[site / "course" / "en" / "03-unrolling.html"].links
    assert "../../pictures/course/en/unrolling.svg" in links


def test_both_languages_have_every_lesson(site):
    for language in ("en", "zh"):
        pages = {path.stem for path in (site / "course" / language).glob("*.html")}
        assert pages == {Path(lesson.page).stem for lesson in LESSONS}, language
    for path in (site / "course" / "zh").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert re.search("[\u4e00-\u9fff]", text)
        assert '<html lang="zh-Hans"' in text


def test_controls_of_a_page_are_in_its_language(site):
    """What is not the page's own text: headings of lists, buttons, and what a screen reader says."""
    english = {"Search", "Previous", "Next", "Skip to content", "On this page", "Made with", "Copy to clipboard"}
    chinese = {"搜索", "上一页", "下一页", "跳到正文", "目录", "制作", "复制"}
    for language, own, other in (("en", english, chinese), ("zh", chinese, english)):
        for path in [*(site / "course" / language).glob("*.html")]:
            page = re.sub(r"<article.*</article>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
            assert [word for word in sorted(own) if word not in page] == [], path
            assert [word for word in sorted(other) if f">{word}<" in re.sub(r"\s+(?=<)|(?<=>)\s+", "", page)] == [], (
                path
            )
    scripts = {path.name.split(".")[1]: path for path in (site / "assets" / "javascripts").glob("bundle.*.js")}
    chinese_script = scripts["zh"].read_text(encoding="utf-8")
    assert [word for word in ("关闭搜索", "个结果") if word not in chinese_script] == []


def test_indices_are_set_low_outside_code(site):
    text = (site / "course" / "en" / "02-recurrent-cell.html").read_text(encoding="utf-8")
    assert "the input x<sub>t</sub> (N, D)" in text
    assert "h_t = tanh(x_t @ Wx + h_{t-1} @ Wh + b)" in re.sub(r"<[^>]*>", "", text)


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


def test_the_results_fit_on_a_wide_page(chromium, site):
    chromium.call("Emulation.setDeviceMetricsOverride", width=1500, height=900, deviceScaleFactor=1, mobile=False)
    chromium.open(site / "results.html")
    table = "document.querySelector('.md-typeset__scrollwrap')"
    assert chromium.js(f"{table}.scrollWidth - {table}.clientWidth") == 0


def test_the_path_of_a_file_ends_its_lines_after_a_folder(chromium, site):
    chromium.call("Emulation.setDeviceMetricsOverride", width=360, height=900, deviceScaleFactor=1, mobile=False)
    chromium.open(site / "source" / "tinygrad_rnn" / "training" / "loop" / "step.py.html")
    lines = """(() => {
        const range = document.createRange();
        const parts = [...document.querySelector("h1").childNodes].filter(part => part.nodeType === Node.TEXT_NODE);
        return parts.map(part => (range.selectNode(part), range.getClientRects().length));
    })()"""
    assert chromium.js(lines) == [1] * 4


# Words whose contrast with what is behind them is below 4.5, or 3 for large ones (WCAG 2.2, 1.4.3). A canvas of one
# pixel turns any notation of a colour into numbers.
PALE = """(() => {
    const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const known = new Map();
    const numbers = colour => {
        if (known.has(colour)) return known.get(colour);
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = colour;
        context.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
        known.set(colour, [r, g, b, a / 255]);
        return known.get(colour);
    };
    const over = (front, back) => back.map((part, i) => i < 3 ? front[i] * front[3] + part * (1 - front[3]) : 1);
    const linear = part => part <= 10 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4;
    const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const pale = new Set(), texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const part = texts.currentNode.parentElement, box = part.getBoundingClientRect();
        const seen = part.checkVisibility({opacityProperty: true, visibilityProperty: true});
        if (!texts.currentNode.data.trim() || !seen || !box.width || part.closest("script, style, svg")) continue;
        let back = [255, 255, 255, 1], opacity = 1;
        const above = [];
        for (let each = part; each; each = each.parentElement) above.unshift(getComputedStyle(each));
        for (const style of above) {
            back = over(numbers(style.backgroundColor), back);
            opacity *= style.opacity;
        }
        const style = above.at(-1), front = numbers(style.color);
        const shades = [back, over([...front.slice(0, 3), front[3] * opacity], back)].map(luminance);
        const contrast = (Math.max(...shades) + 0.05) / (Math.min(...shades) + 0.05);
        const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
        if (contrast < (large ? 3 : 4.5)) pale.add(part.outerHTML.slice(0, 80));
    }
    return [matchMedia("(prefers-color-scheme: dark)").matches, [...pale]];
})()"""


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1500, "light")])
def test_words_can_be_read_on_every_page(chromium, pages, width, scheme):
    chromium.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    chromium.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    for path in sorted(pages):
        chromium.open(path)
        chromium.js(READY)
        assert chromium.js(PALE) == [scheme == "dark", []], path
    chromium.call("Emulation.setEmulatedMedia", features=[])


# What a reader can use on a page: all that is seen and takes a click. The switch of colours is a label for one with a
# mouse, and the radio button under it for one with keys; titles in the sidebar of a wide page do nothing. A stop of the
# Tab key is looked at while it has the focus, and again when the next one has it: what the reader sees must differ.
WATCH = """(() => {
    const still = {textContent: "* {transition: none !important}"};
    document.head.append(Object.assign(document.createElement("style"), still));
    const labels = "label[for]:not([for^=__palette], .md-overlay, .md-nav__title[for=__toc])";
    const usable = `a[href], button:not(.md-top), input, select, textarea, summary, [tabindex="0"], ${labels}`;
    const seen = part => {
        const box = part.getBoundingClientRect();
        return box.width && box.height && box.right > 0 && box.left < innerWidth
            && part.checkVisibility({opacityProperty: true, visibilityProperty: true});
    };
    const look = part => [part, part.nextElementSibling, ...part.querySelectorAll("*")].map(each => {
        const style = each && getComputedStyle(each);
        if (!each) return "";
        return [style.outline, style.boxShadow, style.color, style.backgroundColor, style.stroke, style.opacity];
    }).join();
    const shown = part => part.name === "__palette" ? part.nextElementSibling : part;
    const stops = [...document.querySelectorAll(usable)];
    window.left = new Set(stops.filter(part => seen(part) && getComputedStyle(part).pointerEvents !== "none"));
    window.walk = [], window.unseen = [];
    let last, focused;
    document.removeEventListener("focusin", window.watch);
    window.watch = ({target}) => {
        if (target.matches(".md-top")) return;  // back to the top: it comes and goes with scrolling
        if (last && last !== target && look(last) === focused) unseen.push(last.outerHTML.slice(0, 80));
        last = target, focused = look(target);
        if (!seen(shown(target))) unseen.push(target.outerHTML.slice(0, 80));
        left.delete(target);
        if (walk.at(-1) !== target) walk.push(target);  // a window that has the focus again says so of its element
    };
    document.addEventListener("focusin", window.watch);
    return left.size;
})()"""
LEFT = "[...left].map(part => part.outerHTML.slice(0, 80))"
ROUND = "walk.slice(1).includes(walk[0])"


def press_tab(chromium, count=1):
    """Press the Tab key; a browser moves the focus when it goes down."""
    for _ in range(count):
        chromium.call("Input.dispatchKeyEvent", type="rawKeyDown", key="Tab", windowsVirtualKeyCode=9)


def walk(chromium, width, page=None):
    """Press the Tab key on a page, or on the one that is open, until the focus is back at the first stop."""
    if page is not None:
        chromium.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        chromium.open(page)
        chromium.js(READY)
    count = chromium.js(WATCH)
    for _ in range(count // 5 + 12):
        press_tab(chromium, 10)
        if chromium.js(ROUND):
            break
    assert chromium.js(LEFT) == [], page
    assert chromium.js("unseen") == [], page
    assert chromium.js(ROUND), page  # and nothing holds the focus
    return count


# The page that trains builds itself, and buttons that copy code come when the page is there.
READY = """new Promise(resolve => {
    const wait = () => document.querySelector(".md-header, .slot") ? setTimeout(resolve, 100) : setTimeout(wait, 20);
    wait();
})"""


@pytest.mark.parametrize("width", [360, 1500])
def test_keys_reach_all_of_every_page(chromium, pages, width):
    for page in sorted(pages):
        assert walk(chromium, width, page) >= 3, page
        found = chromium.js(
            "walk.map(part => `${part.htmlFor} ${part.name} ${part.className} ${part.textContent}`).join()"
        )
        if "pages" not in page.parts:
            assert "__palette" in found, page
            assert ("__search " in found) if width == 360 else ("md-search__button" in found), page
        if "course" in page.parts:
            assert ("English" if page.parent.name == "zh" else "中文") in found, page


MENU, SECTION, CONTENTS = ".md-header [for=__drawer]", ".md-nav__link[for=__nav_3]", ".md-sidebar-button"


@pytest.mark.parametrize("page", ["course/en/07-scissors.html", "course/zh/04-bptt-by-hand.html", "index.zh.html"])
@pytest.mark.parametrize(
    ("labels", "links"),
    [
        ([MENU], ".md-nav--primary a"),
        ([MENU, SECTION], ".md-nav--primary [data-md-level='1'] a"),
        ([CONTENTS], ".md-nav--secondary a"),
    ],
)
def test_keys_open_what_a_narrow_page_folds_away(chromium, site, page, labels, links):
    reached = f"walk.filter(part => part.matches(`{links}`)).length"
    walk(chromium, 360, site / page)
    folded = chromium.js(reached)
    for label in labels:
        chromium.js(f"document.querySelector(`{label}`).focus()")
        chromium.press("Enter")
        walk(chromium, 360)
    assert chromium.js(reached) >= folded + 4
    for label in reversed(labels):
        chromium.js(f"document.querySelector(`{label}`).focus()")
        chromium.press("Enter")
    walk(chromium, 360)
    assert chromium.js(reached) == folded


@pytest.mark.parametrize(
    ("words", "page"), [("perplexity", "course/en/09-language-model.html"), ("截断", "course/zh/07-scissors.html")]
)
def test_the_search_works_from_a_file(chromium, site, words, page):
    chromium.call("Emulation.setDeviceMetricsOverride", width=360, height=900, deviceScaleFactor=1, mobile=False)
    chromium.open(site / "index.html")
    label = "document.querySelector('label[for=__search]')"
    chromium.js(f"{label}.focus()")
    chromium.press("Enter")
    chromium.call("Input.insertText", text=words)
    found = """new Promise(resolve => setInterval(() => {
        const roots = [...document.querySelectorAll("*")].map(part => part.shadowRoot).filter(root => root);
        const links = roots.flatMap(root => [...root.querySelectorAll("a")]);
        const hits = links.map(link => link.href).filter(href => href.includes("?h="));
        if (hits.length) resolve(hits);
    }, 50))"""
    assert any(page in hit for hit in chromium.js(found))


def test_keys_switch_the_colours(chromium, site):
    chromium.call("Emulation.setDeviceMetricsOverride", width=360, height=900, deviceScaleFactor=1, mobile=False)
    chromium.open(site / "index.html")
    shown = "[document.body.dataset.mdColorScheme, document.querySelector('picture img').currentSrc.split('/').pop()]"
    before = chromium.js(shown)
    chromium.js("document.querySelector('input[name=__palette]').focus()")
    chromium.press("Enter")
    chromium.js("new Promise(resolve => setTimeout(resolve, 500))")
    pictures = [["default", "light.png"], ["slate", "dark.png"]]
    assert sorted([before, chromium.js(shown)]) == pictures, "a picture for dark pages comes with the switch"
