
// The page: controls, the curve, and the unrolled network with its scissors. What is pasted stays text, never markup.
(async () => {
  const data = JSON.parse(document.querySelector('script[type="application/json"]').textContent);
  const root = document.documentElement;
  const part = Object.fromEntries([...document.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

  // ---- Light and dark. ----------------------------------------------------------------------------------------------
  const wish = matchMedia("(prefers-color-scheme: dark)"); // counts until the button is used
  function theme(dark) {
    root.dataset.theme = dark ? "dark" : "light";
    part.theme.textContent = dark ? "Light page" : "Dark page";
    if (last) show(last);
  }
  const follow = () => theme(wish.matches);
  wish.addEventListener("change", follow);
  part.theme.addEventListener("click", () => {
    wish.removeEventListener("change", follow);
    theme(root.dataset.theme !== "dark");
  });
  let [trainer, last] = [null, null];
  follow();

  // ---- The models. --------------------------------------------------------------------------------------------------
  async function unpacked(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }
  function joined(code, section) {
    const whole = new Uint8Array(code.length + section.length);
    whole.set(code);
    whole.set(section, code.length);
    return whole;
  }
  try {
    const code = await unpacked(data.code);
    const [learner, writer] = await Promise.all(
      [data.learner, data.writer].map(async (section) => section && make(joined(code, await unpacked(section)))),
    );
    trainer = new Learner(learner, writer, data);
  } catch (error) {
    part.trouble.textContent = `The page cannot start: ${error.message}`;
    part.trouble.hidden = false;
    return;
  }
  globalThis.trainer = trainer; // for the console
  part.app.hidden = false;
  part.text.value = data.text;

  // ---- SVG. ---------------------------------------------------------------------------------------------------------
  function draw(name, attributes = {}, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  // ---- The unrolled network. ----------------------------------------------------------------------------------------
  const { T } = data;
  const [column, left, top, middle, bottom, radius] = [84, 62, 46, 146, 236, 21];
  const width = left + column * T + 14;
  part.strip.setAttribute("viewBox", `0 0 ${width} 276`);
  const half = ["char", "byte"].includes(data.level) ? 17 : 35; // of the box of what a step reads
  const wide = Math.max(24, half); // and of what it should say
  const x = (t) => left + column * (t + 0.5) + 12;
  const snip = (t) => x(t) - column / 2 - 7; // where scissors are: there is more room where the gradient arrives
  const columns = Array.from({ length: T }, (_, t) => {
    const flow = draw("path", { class: "whole" });
    const pulse = draw("path", { class: "pulse" });
    const rest = draw("path", { class: "rest" });
    const head = draw("path");
    const up = draw("path", { class: "up", d: `M${x(t)} ${top + 21}V${middle - radius}` });
    const upPulse = draw("path", { class: "pulse", d: `M${x(t)} ${top + 21}V${middle - radius}` });
    const note = draw("text", { class: "note", x: x(t) - column / 2, y: middle + 31 });
    const input = draw("text", { class: "letter", x: x(t), y: bottom });
    const output = draw("text", { class: "letter", x: x(t), y: top - 7 });
    const share = draw("text", { class: "note", x: x(t), y: top + 11 });
    part.strip.append(
      draw("path", { class: "plain", d: `M${x(t)} ${bottom - 17}V${middle + radius}` }), rest, flow, pulse, head, up, upPulse, note,
      draw("g", { class: "x" }, draw("rect", { x: x(t) - half, y: bottom - 17, width: 2 * half, height: 34, rx: 9 }), input),
      draw("g", { class: "h" }, draw("circle", { cx: x(t), cy: middle, r: radius }), draw("text", { x: x(t), y: middle }, "h")),
      draw("g", { class: "y" }, draw("rect", { x: x(t) - wide, y: top - 22, width: 2 * wide, height: 44, rx: 11 }), output, share),
    );
    return { flow, pulse, rest, head, up, upPulse, note, input, output, share };
  });
  for (const [k, y] of [top, middle, bottom].entries()) {
    part.strip.append(draw("text", { class: "side", x: 0, y }, trainer.sides[k]));
  }
  const slots = columns.map((_, t) => {
    const at = snip(t);
    const slot = draw(
      "g", { class: "slot", transform: `translate(${at} ${middle})` },
      draw("rect", { x: -21, y: -34, width: 42, height: 68, fill: "transparent" }),
      draw("circle", { class: "ring", r: 12 }),
      draw("path", {
        class: "blades",
        d: "M-3.5-9L3 4.2M3.5-9L-3 4.2M1.4 6.8a2.7 2.7 0 1 0 5.4 0a2.7 2.7 0 1 0-5.4 0M-6.8 6.8a2.7 2.7 0 1 0 5.4 0a2.7 2.7 0 1 0-5.4 0",
      }),
    );
    part.strip.append(slot);
    if (t === 0) {
      slot.classList.add("fixed");
      slot.append(draw("title", {}, "The window before ends here: its gradient is gone."));
      return slot;
    }
    for (const [name, value] of Object.entries({ tabindex: 0, role: "button" })) slot.setAttribute(name, value);
    let dragged = null;
    slot.addEventListener("pointerdown", (event) => {
      dragged = { from: t, to: t };
      if (trainer.keep[t] === 0) slot.setPointerCapture(event.pointerId);
    });
    slot.addEventListener("pointermove", (event) => {
      if (!dragged || trainer.keep[dragged.to] !== 0) return;
      const frame = part.strip.getBoundingClientRect();
      const place = ((event.clientX - frame.left) / frame.width) * width;
      const to = Math.min(T - 1, Math.max(1, Math.round((place - x(0) + column / 2) / column)));
      if (to !== dragged.to && trainer.keep[to] === 1) {
        [trainer.keep[dragged.to], trainer.keep[to], dragged.to] = [1, 0, to];
        refresh();
      }
    });
    slot.addEventListener("pointerup", () => {
      if (dragged && dragged.from === dragged.to) toggle(t);
      dragged = null;
    });
    slot.addEventListener("pointercancel", () => (dragged = null));
    slot.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === " " || event.key === "Enter") toggle(t);
      else if (way && t + way > 0 && t + way < T) {
        if (trainer.keep[t] === 0) [trainer.keep[t], trainer.keep[t + way]] = [1, 0];
        slots[t + way].focus();
        refresh();
      } else return;
      event.preventDefault();
    });
    return slot;
  });

  function toggle(t) {
    trainer.keep[t] = 1 - trainer.keep[t];
    refresh();
  }
  /** The scissors have moved: what comes back now, on the same window. */
  function refresh() {
    average = null;
    show(trainer.peek());
  }

  // A logarithmic scale, as in the drawings: two decades end at the largest.
  let average = null;
  function show(now) {
    if (!now) return;
    last = now;
    const mixed = (old, fresh) => Array.from(fresh, (g, k) => (old ? 0.8 * old[k] + 0.2 * g : g));
    average = { flow: mixed(average?.flow, now.flow), read: mixed(average?.read, now.read) };
    const style = getComputedStyle(root);
    const [weak, between, strong] = ["--weak", "--middle", "--strong"].map((name) => style.getPropertyValue(name).trim());
    const most = Math.max(...average.flow, ...average.read, 1e-12);
    const place = (g) => Math.min(1, Math.max(0, 1 + Math.log10(Math.max(g, 1e-30) / most) / 2));
    const colour = (p) =>
      p < 0.55 ? `color-mix(in srgb, ${weak}, ${between} ${p * 182}%)` : `color-mix(in srgb, ${between}, ${strong} ${(p - 0.55) * 222}%)`;
    for (const [t, one] of columns.entries()) {
      const cut = trainer.keep[t] === 0;
      const [from, to] = [x(t) - radius, x(t) - column + radius];
      const g = place(average.flow[t]);
      const size = 1.6 + 7 * g;
      const tip = cut ? snip(t) + 11 : to;
      const length = Math.min(5 + size * 0.9, from - tip);
      one.flow.setAttribute("d", `M${from} ${middle}H${Math.min(from, tip + length - 1)}`);
      one.flow.style.stroke = colour(g);
      one.flow.style.strokeWidth = size;
      one.head.setAttribute("d", `M${tip} ${middle}l${length}-${size / 2 + 3}v${size + 6}z`);
      one.head.style.fill = colour(g);
      one.pulse.setAttribute("d", cut ? "" : `M${from} ${middle}H${tip + length}`);
      one.pulse.style.strokeWidth = size * 0.45;
      one.rest.setAttribute("d", cut ? `M${snip(t) - 11} ${middle}H${t ? to : x(t) - column + 8}` : "");
      const r = place(average.read[t]);
      for (const [line, share] of [[one.up, 1], [one.upPulse, 0.45]]) line.style.strokeWidth = (1.6 + 7 * r) * share;
      one.up.style.stroke = colour(r);
      one.note.textContent = short(average.flow[t]);
      fitted(one.input, now.steps[t].input);
      fitted(one.output, now.steps[t].target);
      one.share.textContent = now.steps[t].said;
      slots[t].classList.toggle("cut", cut);
      if (t) {
        slots[t].setAttribute("aria-pressed", cut);
        slots[t].setAttribute("aria-label", `Cut before step ${t + 1}; gradient ${short(average.flow[t])}`);
      }
    }
  }
  /** Long words get small letters, and an end of dots. */
  function fitted(node, text) {
    const letters = Array.from(text);
    node.textContent = letters.length > 9 ? `${letters.slice(0, 8).join("")}\u2026` : text;
if (half > 17) node.style.fontSize = letters.length > 6 ? "12px" : "13.5px";
  }

  function cutEvery() {
    const every = Number(part.cuts.value);
    part.every.textContent = every;
    for (let t = 1; t < T; t++) trainer.keep[t] = t % every === 0 ? 0 : 1;
  }
  part.cuts.addEventListener("input", () => {
    cutEvery();
    refresh();
  });

  // ---- The curve. ---------------------------------------------------------------------------------------------------
  const frame = { width: 560, height: 190, left: 34, right: 8, top: 10, bottom: 26 };
  part.curve.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
  function plot() {
    const { losses, blind } = trainer;
    const most = Math.max(blind * 1.12, ...losses.slice(0, 20));
    const span = Math.max(100, losses.length);
    const px = (k) => frame.left + (k / span) * (frame.width - frame.left - frame.right);
    const py = (loss) => frame.top + (1 - loss / most) * (frame.height - frame.top - frame.bottom);
    const step = Math.max(1, Math.ceil(losses.length / 300));
    const [raw, smooth] = [[], []];
    let mean = losses[0];
    for (const [k, loss] of losses.entries()) {
      const old = Math.min(0.9, 1 - 1 / (k + 1));
      mean = old * mean + (1 - old) * loss;
      if (k % step) continue;
      raw.push(`${px(k).toFixed(1)} ${py(Math.min(loss, most)).toFixed(1)}`);
      smooth.push(`${px(k).toFixed(1)} ${py(Math.min(mean, most)).toFixed(1)}`);
    }
    const path = (points) => (points.length > 1 ? `M${points.join("L")}` : "");
    const axes = ticks(0, most).flatMap((loss) => [
      draw("line", { class: "axis", x1: frame.left, x2: frame.width - frame.right, y1: py(loss), y2: py(loss) }),
      draw("text", { x: frame.left - 8, y: py(loss) + 4, "text-anchor": "end" }, String(Number(loss.toPrecision(3)))),
    ]);
    const end = frame.width - frame.right;
    part.curve.replaceChildren(
      ...axes,
      draw("line", { class: "blind", x1: frame.left, x2: end, y1: py(blind), y2: py(blind) }),
      draw("text", { x: end, y: py(blind) - 6, "text-anchor": "end" }, trainer.knowing),
      draw("text", { x: end, y: frame.height - 6, "text-anchor": "end" }, `${span} updates`),
      draw("path", { class: "raw", d: path(raw) }),
      draw("path", { class: "smooth", d: path(smooth) }),
    );
    part.updates.textContent = count(trainer.updates);
    part.loss.textContent = losses.length ? (mean < 0.1 ? short(mean) : mean.toFixed(2)) : "–";
    part.measure.textContent = losses.length ? trainer.measure(mean) : "–";
    [part.what.textContent, part.unit.textContent] = [trainer.what, trainer.unit];
  }

  const answer = answerOf(trainer, part, draw);

  // ---- Training. ----------------------------------------------------------------------------------------------------
  const MOST = 4000; // updates after which it pauses by itself
  const FIRST = 150; // updates at one a frame: the eye can follow
  const BUDGET = 10; // milliseconds of a frame
  let [running, drawn, written] = [false, 0, 0];
  function frameOf(time) {
    if (!running) return;
    const slow = part.slow.checked;
    const end = performance.now() + BUDGET;
    let now = null;
    if (!slow || time - drawn > 450) do now = trainer.update();
    while (!slow && trainer.updates > FIRST && performance.now() < end);
    if (now && (slow || time - drawn > 180)) {
      show(now);
      plot();
      drawn = time;
    }
    if (time - written > 900) {
      answer.show();
      written = time;
    }
    if (trainer.updates >= MOST) run(false);
    else requestAnimationFrame(frameOf);
  }
  function run(on) {
    if (!on && !running) return;
    running = on;
    part.train.textContent = on ? "Pause" : "Train";
    if (on) requestAnimationFrame(frameOf);
    else {
      plot();
      answer.show();
    }
  }
  part.train.addEventListener("click", () => run(!running));
  part.one.addEventListener("click", () => {
    run(false);
    show(trainer.update());
    plot();
    answer.show();
  });
  function fresh() {
    part.about.textContent = trainer.about;
    if (trainer.learner) {
      run(false);
      average = null;
      show(trainer.peek());
      plot();
    }
    answer.fresh();
  }
  /** Take what is pasted, or say what is wrong with it. */
  function take() {
    let wrong = "";
    try {
      trainer.read(part.text.value);
      fresh();
    } catch (error) {
      run(false);
      wrong = error.message;
      part.about.textContent = `${wrong[0].toUpperCase()}${wrong.slice(1)}.`;
    }
    part.text.setAttribute("aria-invalid", Boolean(wrong));
    return !wrong;
  }
  part.again.addEventListener("click", () => {
    trainer.restart();
    fresh();
  });
  addEventListener("resize", () => answer.show());
  let typing = 0;
  part.text.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      const on = running;
      if (take() && on) run(true);
    }, 400);
  });
  if (trainer.learner) cutEvery();
  if (take() && trainer.learner && !still) run(true);
  root.dataset.ready = "true";
})();
