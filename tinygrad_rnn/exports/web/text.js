
// Pages of language models: tokens go in, the next one is guessed, and a text comes out.

/** Small, seeded and good enough to draw tokens with (mulberry32). */
function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const WORD = /\n\s*|<unk>|[\p{L}\p{N}_]+(?:['\u2019][\p{L}\p{N}_]+)*|[^\p{L}\p{N}_\s]/gu;

/** How a text is cut into tokens, and joined again, at each level: as `tokenize` and `detokenize` do. */
const LEVELS = {
  char: { one: "character", many: "characters", cut: (text) => Array.from(text), join: (tokens) => tokens.join("") },
  byte: {
    one: "byte", many: "bytes",
    cut: (text) => Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)),
    join: (tokens) => new TextDecoder().decode(Uint8Array.from(tokens, (token) => token.charCodeAt(0) & 255)),
  },
  word: {
    one: "word or sign", many: "words and signs",
    cut: (text) => (text.trimStart().toLowerCase().match(WORD) ?? []).map((token) => (token[0] === "\n" ? "<eos>" : token)),
    join: (tokens) => spaced(tokens).replace(/ (?=[,.;:!?)\]}'\u2019])/g, "").replace(/(?<=[([{]) /g, ""),
  },
  token: {
    one: "token", many: "tokens",
    cut: (text) => text.split("\n").flatMap((line, k) => [...(k ? ["<eos>"] : []), ...(line.match(/\S+/g) ?? [])]),
    join: (tokens) => spaced(tokens),
  },
};
const spaced = (tokens) => tokens.map((token) => (token === "<eos>" ? "\n" : token)).join(" ").replace(/ ?\n ?/g, "\n");

/** Tokens by descending count, ties by first appearance. */
function commonest(tokens) {
  const counts = new Map();
  for (const token of tokens) counts.set(token, (counts.get(token) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]).map(([token]) => token);
}

class Learner extends Trainer {
  sides = ["next", "state", "reads"];
  knowing = "guessing blindly";

  /** Take a text; the vocabulary of a new text makes a new start. */
  read(text) {
    const { N, T, V, level, vocabulary } = this.data;
    const found = LEVELS[level].cut(text.replace(/\r\n?/g, "\n"));
    if (!found.length) found.push(" ");
    this.tokens = vocabulary ?? ["<unk>", ...commonest(found.filter((token) => token !== "<unk>")).slice(0, V - 1)];
    const numbers = new Map(this.tokens.map((token, id) => [token, id]));
    const unknown = numbers.get("<unk>") ?? 0;
    this.ids = found.map((token) => numbers.get(token) ?? unknown);
    for (let k = 0; this.ids.length < N * T + 1; k++) this.ids.push(this.ids[k]); // a short text is read again and again
    this.length = Math.floor((this.ids.length - 1) / N);
    this.unit = `loss, nats per ${LEVELS[level].one}`;
    this.what = `${LEVELS[level].many} it hesitates between (perplexity)`;
    this.restart();
  }

  /** The loss of one who knows nothing. */
  get blind() {
    return Math.log(Math.max(2, this.tokens.length - 1));
  }

  get about() {
    const { N, T, level } = this.data;
    const different = this.tokens.length - (this.tokens[0] === "<unk>" ? 1 : 0);
    return (
      `${count(this.ids.length)} ${LEVELS[level].many}, ${count(different)} different ones. ` +
      `It reads in ${N} places at once, ${T} steps at a time.`
    );
  }

  measure(loss) {
    return Math.exp(loss).toFixed(1);
  }

  window() {
    return { inputs: this.each((at) => this.ids[at]), targets: this.each((at) => this.ids[at + 1]) };
  }

  told(logits) {
    const V = this.data.V;
    return Array.from({ length: this.data.T }, (_, t) => {
      const shares = softmax(logits.slice(t * V, t * V + V));
      const [input, target] = [this.ids[this.place + t], this.ids[this.place + t + 1]];
      return { input: seen(this.#token(input)), target: seen(this.#token(target)), said: `${Math.round(100 * shares[target])}%` };
    });
  }

  /** What the model writes after the start of the text. */
  sample(most, temperature, seed = 1) {
    const [draw, writer, unknown] = [generator(seed), this.fresh(), this.tokens.indexOf("<unk>")];
    const ids = [this.ids[0]];
    while (ids.length < most) {
      const logits = writer.step({ x: [ids.at(-1)] }).y.slice(0, this.tokens.length);
      if (unknown >= 0) logits[unknown] = -1e9;
      let left = draw();
      ids.push(Math.max(0, softmax(logits, temperature).findIndex((part) => (left -= part) < 0)));
    }
    return LEVELS[this.data.level].join(ids.map((id) => this.#token(id)));
  }

  #token(id) {
    const token = this.tokens[id];
    return token === undefined || token === "<unk>" ? "\u25a1" : token;
  }
}

const seen = (token) => ({ " ": "\u2423", "\n": "\u21b5", "<eos>": "\u21b5", "\t": "\u21e5" })[token] ?? token;

/** The fourth part of the page: what it writes. */
function answerOf(trainer, part) {
  let [seed, marks] = [1, new Map()];
  function show() {
    const most = trainer.data.level === "char" || trainer.data.level === "byte" ? 260 : 60;
    part.sample.textContent = trainer.sample(most, Number(part.temperature.value), seed);
    const mark = [0, 50, 200, 1000].findLast((updates) => trainer.updates >= updates);
    if (!marks.has(mark)) {
      marks.set(mark, part.sample.textContent);
      const [item, when, what] = ["li", "span", "span"].map((name) => document.createElement(name));
      when.textContent = `${count(trainer.updates)} updates`;
      what.textContent = part.sample.textContent.replace(/\s+/g, " ");
      item.append(when, what);
      part.past.append(item);
    }
  }
  part.write.addEventListener("click", () => {
    seed += 1;
    show();
  });
  part.temperature.addEventListener("input", () => {
    part.degrees.textContent = Number(part.temperature.value).toFixed(1);
    show();
  });
  return {
    show,
    fresh() {
      marks = new Map();
      part.past.replaceChildren();
      show();
    },
  };
}
