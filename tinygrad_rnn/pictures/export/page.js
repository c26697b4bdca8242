// Pan, zoom, search, and light what a loss teaches. Every word of the scene goes in as text, never as markup.
"use strict";
(() => {
  const data = JSON.parse(document.querySelector('script[type="application/json"]').textContent);
  const root = document.documentElement;
  const part = Object.fromEntries(
    [...document.querySelectorAll("[data-part]")].filter((e) => !e.closest("svg")).map((e) => [e.dataset.part, e]),
  );
  const svg = part.stage.querySelector("svg");
  const saved = new XMLSerializer().serializeToString(svg); // before anything below changes it

  // ---- The parts of the picture. -----------------------------------------------------------------------------------
  const parts = new Map();
  for (const group of svg.querySelectorAll(":scope > :is(.box, .edge, .dot)")) parts.set(group.id, group);
  const boxes = [...parts.values()].filter((group) => group.matches(".box"));
  const tips = new Map(); // a <title> would show a second, slower tooltip over ours
  for (const title of svg.querySelectorAll("g > title")) {
    tips.set(title.parentNode, title.textContent.trim());
    title.remove();
  }
  const losses = new Map(Object.entries(data.losses).filter(([id]) => parts.has(id)));
  const names = new Map(data.names.map((name, place) => [data.ids[place], name]));
  const plain = (text) => text.replace(/_\{([^}]*)\}/g, " $1");
  const tipOf = (group) => tips.get(group) || names.get(group.id) || "";

  for (const [id, loss] of losses) {
    const group = parts.get(id);
    group.setAttribute("tabindex", "0");
    group.setAttribute("role", "button");
    group.setAttribute("aria-pressed", "false");
    group.setAttribute("aria-label", plain(loss.says));
  }
  const view = document.createElement("div");
  view.className = "view";
  svg.replaceWith(view);
  view.append(svg);
  svg.setAttribute("role", "group");
  svg.setAttribute("aria-label", document.title);
  svg.classList.toggle("smooth", parts.size < 600); // thousands of fades at once would stutter
  root.classList.add("live");
  part.tools.hidden = part.foot.hidden = false;

  // ---- Pan and zoom: the picture's point (0, 0) is at (x, y) of the view, in pixels; k is 1 at full size. --------
  const size = { width: svg.width.baseVal.value, height: svg.height.baseVal.value };
  let [x, y, k, fitted] = [0, 0, 1, true];
  let ringed = 0;

  function place() {
    const [w, h, edge] = [view.clientWidth, view.clientHeight, 60]; // so much of the picture always stays in view
    x = Math.min(w - edge, Math.max(edge - size.width * k, x));
    y = Math.min(h - edge, Math.max(edge - size.height * k, y));
    svg.style.transform = `translate(${x}px, ${y}px) scale(${k})`;
    part.zoom.textContent = `${Math.round(k * 100)} %`;
    if (k !== ringed) for (const group of svg.querySelectorAll(".here, .pinned, .found, :focus")) scaleRing(group);
    ringed = k;
    if (!part.panel.hidden) showPanel();
  }
  const scaleRing = (group) => group.style.setProperty("--zoom", k);

  function pan(dx, dy) {
    [x, y, fitted] = [x + dx, y + dy, false];
    place();
  }
  function zoom(factor, atX = view.clientWidth / 2, atY = view.clientHeight / 2) {
    const next = Math.min(12, Math.max(0.02, k * factor));
    x = atX - ((atX - x) * next) / k;
    y = atY - ((atY - y) * next) / k;
    [k, fitted] = [next, false];
    place();
  }
  function fit() {
    const [w, h, margin] = [view.clientWidth, view.clientHeight, 12];
    k = Math.min(1.5, Math.max(0.02, Math.min((w - 2 * margin) / size.width, (h - 2 * margin) / size.height)));
    [x, y, fitted] = [(w - size.width * k) / 2, (h - size.height * k) / 2, true];
    place();
  }
  addEventListener("resize", () => (fitted ? fit() : place()));

  function at(event) {
    const frame = view.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }
  view.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode ? 16 : 1;
    zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0015)), ...at(event));
  }, { passive: false });

  // ---- What is lit: the pinned loss, else the one under the pointer, else the one that the keyboard is at. -----------
  let [hovered, here, pinned, lit] = [null, null, null, null];
  let [marked, ends, kept] = [[], [], false];

  function light(id) {
    if (id === lit && kept === (id !== null && id === pinned)) return;
    [lit, kept] = [id, id !== null && id === pinned];
    for (const group of marked) group.classList.remove("on");
    for (const group of ends) group.classList.remove("stop");
    [marked, ends] = [[], []];
    svg.classList.toggle("lit", id !== null);
    if (id === null) return part.says.replaceChildren();
    const loss = losses.get(id);
    for (let i = 0; i < loss.lit.length; i += 2) {
      for (let n = 0; n < loss.lit[i + 1]; n++) marked.push(parts.get(data.ids[loss.lit[i] + n]));
    }
    marked = marked.filter(Boolean);
    ends = loss.stops.map((n) => parts.get(data.ids[n])).filter(Boolean);
    for (const group of marked) group.classList.add("on");
    for (const group of ends) group.classList.add("stop");
    write(part.says, kept ? `Pinned: ${loss.says}` : loss.says);
  }
  function update() {
    const isLoss = (group) => group && losses.has(group.id);
    light(pinned ?? (isLoss(hovered) ? hovered.id : isLoss(here) ? here.id : null));
    showPanel();
  }
  function pin(id) {
    if (pinned) mark(pinned, false);
    pinned = pinned === id ? null : id;
    if (pinned) mark(pinned, true);
    update();
  }
  function mark(id, on) {
    const group = parts.get(id);
    group.classList.toggle("pinned", on);
    group.setAttribute("aria-pressed", on);
    scaleRing(group);
  }
  function clear() {
    if (pinned) mark(pinned, false);
    hovered?.classList.remove("over");
    here?.classList.remove("here");
    [hovered, here, pinned] = [null, null, null];
    update();
  }

  // ---- Words. --------------------------------------------------------------------------------------------------------
  // "h_{3}" and "h_3" get a subscript; "a.weight_3" does not.
  function write(element, text) {
    const line = document.createElement("span");
    const marked = text.replace(/(?<![\w.])([A-Za-zℓ])_(\d+)(?!\w)/g, "$1_{$2}");
    marked.split(/_\{([^}]*)\}/).forEach((piece, n) => {
      if (n % 2) line.append(Object.assign(document.createElement("sub"), { textContent: piece }));
      else line.append(piece);
    });
    element.replaceChildren(line);
  }
  function showPanel() {
    const group = hovered ?? here;
    const tip = group ? tipOf(group) : "";
    part.panel.hidden = !tip;
    if (!tip) return;
    if (part.panel.dataset.tip !== tip) fillPanel(tip);
    part.panel.dataset.tip = tip;
    const frame = view.getBoundingClientRect();
    const spot = group.getBoundingClientRect();
    let [left, right, top, bottom] = [spot.left - frame.left, spot.right - frame.left, spot.top - frame.top, spot.bottom - frame.top];
    const onLine = pointer && group === hovered && group.classList.contains("edge"); // which may be long
    if (onLine) [left, right, top, bottom] = [pointer[0], pointer[0], pointer[1], pointer[1]];
    const [w, h, gap, margin] = [part.panel.offsetWidth, part.panel.offsetHeight, onLine ? 16 : 10, 4];
    const across = (value) => Math.max(margin, Math.min(frame.width - w - margin, value));
    const down = (value) => Math.max(margin, Math.min(frame.height - h - margin, value));
    const [middleX, middleY] = [(left + right - w) / 2, (top + bottom - h) / 2];
    const places = [
      [right + gap, middleY], [left - w - gap, middleY], [middleX, bottom + gap], [middleX, top - h - gap],
      [frame.width, 0], [frame.width, frame.height], [0, 0], [0, frame.height],
    ].map(([x, y]) => [across(x), down(y)]);
    // Right, left, below, above or in a corner: where it is near, hides little, and least of all a loss or what is lit.
    const weight = (box) => (box === group || losses.has(box.id) ? 4 : box.matches(".on") ? 2 : 1);
    const others = boxes
      .map((box) => [box, weight(box)])
      .filter(([, weight]) => weight > 1 || boxes.length < 500)
      .map(([box, weight]) => [box.getBoundingClientRect(), weight]);
    const shared = (from, size, low, high) => Math.max(0, Math.min(from + size, high) - Math.max(from, low));
    const hides = (x, y, spot) => shared(x + frame.left, w, spot.left, spot.right) * shared(y + frame.top, h, spot.top, spot.bottom);
    const away = (x, y) => Math.hypot(Math.max(left - x - w, x - right, 0), Math.max(top - y - h, y - bottom, 0));
    const cost = ([x, y]) => others.reduce((sum, [spot, weight]) => sum + weight * hides(x, y, spot), 10 * away(x, y));
    const [x, y] = places.reduce((best, place) => (cost(place) < cost(best) ? place : best));
    part.panel.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
  }
  // The first line is a heading, "key: value" stands in two columns.
  function fillPanel(tip) {
    const [first, ...rest] = tip.split("\n");
    const head = document.createElement("strong");
    write(head, first);
    const facts = document.createElement("dl");
    for (const line of rest) {
      const [, key, value] = /^([^:]{1,40}): (.*)$/.exec(line) ?? [null, null, line];
      const fact = document.createElement("dd");
      write(fact, value);
      if (key === null) fact.className = "wide";
      else facts.append(Object.assign(document.createElement("dt"), { textContent: key }));
      facts.append(fact);
    }
    part.panel.replaceChildren(head, ...(rest.length ? [facts] : []));
  }

  // ---- Pointer: hover, drag, pinch, click. ---------------------------------------------------------------------------
  const held = new Map(); // pointers that are down
  let [pointer, dragged, leaving] = [null, false, 0];

  // Lines are thin: what lies within a few pixels counts as hit.
  function pick(event) {
    for (const [dx, dy] of [[0, 0], [0, -4], [0, 4], [-4, 0], [4, 0]]) {
      const group = document.elementFromPoint(event.clientX + dx, event.clientY + dy)?.closest?.("g.box, g.edge, g.bar");
      if (group && svg.contains(group)) return group;
    }
    return null;
  }
  let last = null;
  function hover(group) {
    if (group === last) return;
    last = group;
    clearTimeout(leaving);
    // Leaving waits a moment, so that the pointer can go over to the panel.
    leaving = setTimeout(() => {
      hovered?.classList.remove("over");
      hovered = group;
      hovered?.classList.add("over");
      update();
    }, group ? 0 : 160);
  }
  view.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    held.set(event.pointerId, at(event));
    dragged = held.size > 1;
    pointer = at(event);
    if (event.pointerType === "touch") hover(pick(event));
  });
  view.addEventListener("pointermove", (event) => {
    pointer = at(event);
    const before = held.get(event.pointerId);
    if (!before) return hover(pick(event));
    const [dx, dy] = [pointer[0] - before[0], pointer[1] - before[1]];
    if (!dragged && Math.hypot(dx, dy) < 4) return;
    if (!dragged) view.setPointerCapture(event.pointerId);
    dragged = true;
    view.classList.add("dragged");
    held.set(event.pointerId, pointer);
    pan(dx / held.size, dy / held.size);
    if (held.size === 2) {
      const [other] = [...held].find(([id]) => id !== event.pointerId).slice(1);
      const apart = (from) => Math.hypot(from[0] - other[0], from[1] - other[1]);
      zoom(apart(pointer) / Math.max(1, apart(before)), (pointer[0] + other[0]) / 2, (pointer[1] + other[1]) / 2);
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    view.addEventListener(name, (event) => {
      held.delete(event.pointerId);
      view.classList.remove("dragged");
      setTimeout(() => (dragged &&= held.size > 0)); // after the click that ends a drag
    });
  }
  view.addEventListener("pointerleave", () => hover(null));
  part.panel.addEventListener("pointerenter", () => {
    clearTimeout(leaving);
    last = hovered;
  });
  part.panel.addEventListener("pointerleave", () => hover(null));
  view.addEventListener("click", (event) => {
    if (dragged) return;
    const group = event.target.closest("g.box");
    if (group && losses.has(group.id)) pin(group.id);
    else if (!group) clear();
  });

  // ---- Keyboard: losses are tab stops, Shift and an arrow goes to the nearest part that way. -------------------------
  function visit(group) {
    if (!group.hasAttribute("tabindex")) {
      group.setAttribute("tabindex", "-1");
      group.setAttribute("role", "img");
      group.setAttribute("aria-label", plain(tipOf(group)));
    }
    group.focus({ preventScroll: true });
  }
  function reveal(group) {
    const [frame, spot] = [view.getBoundingClientRect(), group.getBoundingClientRect()];
    const hidden = (from, to, low, high) => (from < low || to > high ? (low + high - from - to) / 2 : 0);
    const dx = hidden(spot.left, spot.right, frame.left, frame.right);
    const dy = hidden(spot.top, spot.bottom, frame.top, frame.bottom);
    if (dx || dy) pan(dx, dy);
  }
  view.addEventListener("focusin", (event) => {
    const group = event.target.closest("g.box, g.edge");
    if (!group) return;
    scaleRing(group);
    if (!group.matches(":focus-visible")) return; // a click gives focus too; the pointer has already said what it wants
    here?.classList.remove("here");
    here = group;
    here.classList.add("here");
    hovered?.classList.remove("over");
    [hovered, last] = [null, null];
    reveal(group);
    update();
  });
  view.addEventListener("focusout", (event) => {
    if (parts.has(event.relatedTarget?.id)) return;
    here?.classList.remove("here");
    here = null;
    update();
  });
  function step(dx, dy) {
    const middle = (rect) => [(rect.left + rect.right) / 2, (rect.top + rect.bottom) / 2];
    const from = middle((here ?? view).getBoundingClientRect());
    let [best, least] = [null, Infinity];
    for (const group of parts.values()) {
      if (group === here || !tipOf(group)) continue;
      const to = middle(group.getBoundingClientRect());
      const along = (to[0] - from[0]) * dx + (to[1] - from[1]) * dy;
      const aside = Math.abs((to[0] - from[0]) * dy) + Math.abs((to[1] - from[1]) * dx);
      const far = along + 3 * aside;
      if (here ? along > 1 && aside < 2 * along && far < least : Math.hypot(along, aside) < least) {
        [best, least] = [group, here ? far : Math.hypot(along, aside)];
      }
    }
    if (best) visit(best);
  }
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  document.addEventListener("keydown", (event) => {
    const typing = event.target === part.find;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      if (typing) search("");
      clear();
    } else if (typing) {
      if (event.key !== "Enter" || !found.length) return;
      next(0);
    } else if (event.key in arrows) {
      const [dx, dy] = arrows[event.key];
      if (event.shiftKey) step(dx, dy);
      else pan(-60 * dx, -60 * dy);
    } else if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else if (event.key === "0") fit();
    else if (event.key === "/") part.find.select();
    else if (event.key === "n" || event.key === "N") next(event.shiftKey ? -1 : 1);
    else if ((event.key === "Enter" || event.key === " ") && losses.has(event.target.id)) pin(event.target.id);
    else return;
    event.preventDefault();
  });

  // ---- Search by name: h_3, h3 and H 3 are the same. -----------------------------------------------------------------
  const simple = (text) => text.toLowerCase().replace(/[\s_{}]/g, "");
  let [found, current] = [[], 0];

  function search(text) {
    part.find.value = text;
    for (const group of found) group.classList.remove("found");
    const wanted = simple(text);
    const match = (word) => (word === wanted ? 0 : word.startsWith(wanted) ? 1 : word.includes(wanted) ? 2 : 3);
    const rank = (name) => Math.min(match(simple(name)), ...name.split(" ").map((word) => match(simple(word))));
    found = [...names]
      .map(([id, name]) => [parts.get(id), wanted ? rank(name) : 3])
      .filter(([group, place]) => group && place < 3)
      .sort((a, b) => a[1] - b[1])
      .map(([group]) => group);
    for (const group of found) {
      group.classList.add("found");
      scaleRing(group);
    }
    current = 0;
    part.count.textContent = wanted ? `${found.length || "nothing"} found` : "";
  }
  function next(way) {
    if (!found.length) return;
    current = (current + way + found.length) % found.length;
    if (k < 0.6) zoom(1 / k);
    visit(found[current]);
    part.count.textContent = `${current + 1} of ${found.length} found`;
  }
  part.find.addEventListener("input", () => search(part.find.value));

  // ---- Buttons. ------------------------------------------------------------------------------------------------------
  part.in.addEventListener("click", () => zoom(1.25));
  part.out.addEventListener("click", () => zoom(0.8));
  part.fit.addEventListener("click", fit);
  part.save.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([saved], { type: "image/svg+xml" }));
    link.download = data.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  const wish = matchMedia("(prefers-color-scheme: dark)"); // counts until the button is used
  function theme(dark) {
    root.dataset.theme = dark ? "dark" : "light";
    part.dark.setAttribute("aria-pressed", dark);
  }
  const follow = () => theme(wish.matches);
  wish.addEventListener("change", follow);
  part.dark.addEventListener("click", () => {
    wish.removeEventListener("change", follow);
    theme(root.dataset.theme !== "dark");
  });
  follow();
  fit();
})();
