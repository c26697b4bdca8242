// What the pages of the site lack: a search that works from a file, buttons that keys reach, columns that can be read,
// pictures that follow the switch of colours.

// A browser starts no worker from a file, but it does from a text; docs/make_site.py puts the text of the workers here.
const workers = {};
if (location.protocol === "file:") {
  const Plain = window.Worker;
  window.Worker = class extends Plain {
    constructor(url, options) {
      const text = workers[new URL(url, location.href).pathname.split("/").pop()];
      const kind = { type: "text/javascript" };
      super(text === undefined ? url : URL.createObjectURL(new Blob([text], kind)), options);
    }
  };
}

// Menu, search and contents are labels on a narrow page, which the Tab key passes by.
function reach() {
  for (const label of document.querySelectorAll("label[for]:not([for^=__palette])")) {
    const style = getComputedStyle(label);
    label.tabIndex = style.pointerEvents === "none" || label.classList.contains("md-overlay") ? -1 : 0;
    label.setAttribute("role", "button");
    const list = label.closest(".md-sidebar")?.querySelector("nav");
    if (!label.textContent.trim() && list) label.setAttribute("aria-label", list.getAttribute("aria-label"));
  }
}
document.addEventListener("DOMContentLoaded", reach);
window.addEventListener("resize", reach);
function press(event) {
  if (event.target.matches?.("label[role=button]") && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    event.stopImmediatePropagation(); // the theme clicks some of them on Enter, and two clicks are none
    event.target.click();
  }
}
window.addEventListener("keydown", press, true);

// Of a picture for light pages and one for dark ones, the system alone would choose.
document.addEventListener("DOMContentLoaded", () => {
  const dark = document.querySelectorAll("source[media*='prefers-color-scheme: dark']");
  const choose = () => {
    for (const source of dark) source.media = document.body.dataset.mdColorScheme === "slate" ? "all" : "not all";
  };
  new MutationObserver(choose).observe(document.body, { attributeFilter: ["data-md-color-scheme"] });
  choose();
});

// In a table that scrolls, words are not squeezed into a column of one or two, and a figure keeps its deviation; on a
// narrow page, what a table says of short names stands below them.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".md-typeset table")) {
    const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
    const lengths = rows.map((row) => [...row.cells].map((cell) => cell.textContent.trim().length));
    if (!lengths.some((row) => row.length > 2)) {
      const short = lengths.every(([name]) => name < 60);
      table.toggleAttribute("data-names", short && lengths.some(([, text]) => text > 30));
      continue;
    }
    for (const cell of rows.flatMap((row) => [...row.cells])) {
      const length = cell.textContent.trim().length;
      if (length < 19) cell.style.whiteSpace = "nowrap";
      else if (length > 30) cell.style.minWidth = length > 150 ? "16rem" : length > 90 ? "11rem" : "6rem";
    }
  }
});
