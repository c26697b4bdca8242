
// Pages of what reads numbers: rows go in, one a step, and what comes out is drawn against time.

/** Rows of numbers, with commas, semicolons, tabs or spaces between them; a first line without numbers names them. */
function rowsOf(text, columns) {
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  const cut = (line) => line.split(/\s*[,;\t]\s*|\s+/);
  let [names, rows] = [null, []];
  for (const [k, line] of lines.entries()) {
    if (!line) continue;
    const row = cut(line).map((cell) => (cell === "" ? NaN : Number(cell)));
    if (!names && !rows.length && row.every(Number.isNaN)) {
      names = cut(line);
      continue;
    }
    const wrong = row.findIndex((value) => !Number.isFinite(value));
    if (wrong >= 0) throw new Error(`line ${k + 1}: \u201c${cut(line)[wrong]}\u201d is no number`);
    if (rows.length && row.length !== rows[0].length) {
      throw new Error(`line ${k + 1} has ${row.length} numbers, and the lines before have ${rows[0].length}`);
    }
    rows.push(row);
  }
  if (!rows.length) throw new Error("there are no numbers yet");
  if (columns.includes(1) && rows.length === 1 && !columns.includes(rows[0].length)) rows = rows[0].map((value) => [value]);
  if (!columns.includes(rows[0].length)) {
    throw new Error(`a line has ${rows[0].length} numbers; ${columns.join(" or ")} are wanted`);
  }
  return { names, rows };
}

class Learner extends Trainer {
  sides = ["wanted", "state", "reads"];

  /** Take rows; numbers of another kind make a new start. */
  read(text) {
    const { kind, loss, D, K, N, T } = this.data;
    const size = this.writer.inputs.reduce((sum, port) => sum + port.shape.reduce((a, b) => a * b, 1), 0);
    this.classes = kind === "series" && loss === "cross_entropy";
    const columns = kind === "run" ? [size] : this.classes ? [D + 1] : D === K ? [D, D + K] : [D + K];
    const { names, rows } = rowsOf(text, columns);
    this.ahead = kind === "series" && rows[0].length === D ? 1 : 0;
    const reads = kind === "run" ? size : D;
    const targets = this.ahead ? rows : rows.map((row) => row.slice(reads));
    if (this.classes) {
      const wrong = targets.findIndex(([value]) => !(Number.isInteger(value) && value >= 0 && value < K));
      if (wrong >= 0) throw new Error(`row ${wrong + 1}: a class is a whole number from 0 to ${K - 1}, not ${targets[wrong][0]}`);
    }
    [this.rows, this.targets, this.names] = [rows.map((row) => row.slice(0, reads)), targets, names];
    this.count = rows.length;
    if (this.learner) {
      [this.inputs, this.wanted] = [[...this.rows], [...this.targets]];
      for (let k = 0; this.inputs.length < N * T + this.ahead; k++) { // a short series is read again and again
        this.inputs.push(this.inputs[k]);
        this.wanted.push(this.wanted[k]);
      }
      this.length = Math.floor((this.inputs.length - this.ahead) / N);
    }
    this.what = this.classes ? "classes it hesitates between (perplexity)" : "off, as a rule (root of the mean square)";
    this.knowing = this.classes ? "guessing blindly" : "saying the mean";
    this.unit = this.classes ? "loss, nats per row" : "loss, mean square";
    this.restart();
  }

  /** The loss of one who says the mean of what is wanted, or any class. */
  get blind() {
    if (this.classes) return Math.log(this.data.K);
    const spread = (values) => {
      const mean = values.reduce((a, b) => a + b, 0) / values.length;
      return values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
    };
    const columns = this.targets[0].map((_, k) => spread(this.targets.map((row) => row[k])));
    return columns.reduce((a, b) => a + b, 0) / columns.length || 1;
  }

  get about() {
    const { kind, N, T } = this.data;
    const several = (size, what) => `${count(size)} ${what}${size === 1 ? "" : "s"}`;
    const size = `${several(this.count, "row")} of ${several(this.rows[0].length, "number")}`;
    if (kind === "run") return `${size}; each row is one step.`;
    const wanted = this.ahead ? "the next row" : this.classes ? "the class after them" : this.data.K === 1 ? "the number after them" : `the ${this.data.K} numbers after them`;
    return `${size}; it learns to say ${wanted}. It reads in ${N} places at once, ${T} steps at a time.`;
  }

  measure(loss) {
    return this.classes ? Math.exp(loss).toFixed(2) : short(Math.sqrt(loss));
  }

  window() {
    const [inputs, targets] = [this.each((at) => this.inputs[at]), this.each((at) => this.wanted[at + this.ahead])];
    return { inputs: inputs.flat(), targets: targets.flat() };
  }

  told(outputs) {
    const K = this.data.K;
    return Array.from({ length: this.data.T }, (_, t) => {
      const said = outputs.slice(t * K, t * K + K);
      const target = this.wanted[this.place + t + this.ahead][0];
      const text = this.classes ? `${Math.round(100 * softmax(said)[target])}%` : brief(said[0]);
      return { input: brief(this.inputs[this.place + t][0]), target: brief(target), said: text };
    });
  }

  /** What it says to each row; if the next row is wanted, it goes on by itself, from what it said. */
  answer() {
    const writer = this.fresh();
    const ports = writer.inputs.map((port) => [port.name, port.shape.reduce((a, b) => a * b, 1)]);
    const step = (row) => {
      let at = 0;
      const given = Object.fromEntries(ports.map(([name, size]) => [name, row.slice(at, (at += size))]));
      const made = Object.values(writer.step(given)).flatMap((part) => Array.from(part, Number));
      return this.classes ? softmax(made) : made;
    };
    const said = this.rows.map(step);
    const alone = [];
    if (this.ahead) {
      const most = Math.max(8, Math.min(60, Math.round(this.rows.length / 4)));
      for (let row = said.at(-1); alone.length < most; row = alone.at(-1)) alone.push(step(row));
    }
    return { said, alone };
  }
}

const brief = (value) => (value === 0 ? "0" : Math.abs(value) >= 1e4 || Math.abs(value) < 1e-3 ? value.toExponential(0) : String(Number(value.toPrecision(3)))).replace("-", "\u2212");

const MOST = 6; // lines

/** The last part of the page: what it says, against time. */
function answerOf(trainer, part, draw) {
  const frame = { width: 1100, height: 300, left: 52, right: 10, top: 12, bottom: 28 };
  function show() {
    frame.width = Math.max(300, part.answer.clientWidth || 1100); // letters keep their size on a telephone
    part.answer.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
    const { said, alone } = trainer.answer();
    const { ahead, classes, targets } = trainer;
    const trained = trainer.learner !== null;
    const wanted = trained ? (classes ? [] : targets) : [];
    const K = Math.min(MOST, said[0].length);
    const outputs = [...said, ...alone];
    const from = Math.max(0, trainer.count - 2000); // rows that are drawn
    const span = Math.max(1, outputs.length - 1 + ahead - from);
    const drawn = classes ? [0, 1] : [...wanted.slice(from), ...outputs.slice(from)].flatMap((row) => row.slice(0, K)).filter(Number.isFinite);
    let [least, most] = drawn.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
    if (!(most > least)) [least, most] = [(Number.isFinite(least) ? least : 0) - 1, (Number.isFinite(most) ? most : 0) + 1];
    const px = (t) => frame.left + ((t - from) / span) * (frame.width - frame.left - frame.right);
    const py = (value) => frame.top + ((most - value) / (most - least)) * (frame.height - frame.top - frame.bottom);
    const line = (rows, k, shift) => {
      const points = rows.map((row, t) => [t + shift, row[k]]).filter(([t, value]) => t >= from && Number.isFinite(value));
      return points.length > 1 ? `M${points.map(([t, value]) => `${px(t).toFixed(1)} ${py(value).toFixed(1)}`).join("L")}` : "";
    };
    const paths = Array.from({ length: K }, (_, k) => [
      draw("path", { class: `wanted line${k}`, d: line(wanted, k, 0) }),
      draw("path", { class: `said line${k}`, d: line(said, k, ahead) }),
      draw("path", { class: `alone line${k}`, d: line(alone.length ? [said.at(-1), ...alone] : [], k, said.length - 1 + ahead) }),
    ]).flat();
    const axes = ticks(least, most).flatMap((value) => [
      draw("line", { class: "axis", x1: frame.left, x2: frame.width - frame.right, y1: py(value), y2: py(value) }),
      draw("text", { x: frame.left - 8, y: py(value) + 4, "text-anchor": "end" }, brief(Number(value.toPrecision(6)))),
    ]);
    const end = draw("text", { x: frame.width - frame.right, y: frame.height - 6, "text-anchor": "end" }, `row ${count(outputs.length + ahead)}`);
    const marks = classes ? classesAt(targets, from, px, frame, draw) : [];
    part.answer.replaceChildren(...marks, ...axes, ...paths, end);
    part.answer.setAttribute("aria-label", `${K} outputs against ${count(outputs.length)} rows, from ${brief(least)} to ${brief(most)}`);
    part.values.value = outputs.map((row) => row.map((value) => String(Math.fround(value) === value ? Number(value.toPrecision(9)) : value)).join(",")).join("\n");
    part.keys.replaceChildren(...keys(K, said[0].length - K, wanted.length > 0, classes, alone.length > 0));
  }
  function keys(K, more, isWanted, classes, goesOn) {
    const key = (kind, text) => {
      const span = document.createElement("span");
      span.append(draw("svg", { viewBox: "0 0 26 8", "aria-hidden": "true" }, draw("path", { class: kind, d: "M1 4H25" })), text);
      return span;
    };
    const name = (k) => (classes ? `class ${k}` : K === 1 ? "what it says" : `output ${k + 1}`);
    return [
      ...Array.from({ length: K }, (_, k) => key(`said line${k}`, name(k))),
      ...(more ? [`and ${more} more, which are not drawn`] : []),
      ...(isWanted ? [key("wanted line0", "what is wanted")] : []),
      ...(classes ? [key("right", "the right class")] : []),
      ...(goesOn ? [key("alone line0", "alone, from what it said")] : []),
    ];
  }
  return { show, fresh: show };
}

/** The right class of each row, as a stripe above the lines. */
function classesAt(targets, from, px, frame, draw) {
  const found = [];
  for (let t = from, start = from; t < targets.length; t++) {
    if (t + 1 < targets.length && targets[t + 1][0] === targets[start][0]) continue;
    const kind = targets[start][0] < MOST ? `right line${targets[start][0]}` : "right";
    found.push(draw("rect", { class: kind, x: px(start), width: Math.max(1, px(t + 1) - px(start)), y: 0, height: 7 }));
    start = t + 1;
  }
  return found;
}
