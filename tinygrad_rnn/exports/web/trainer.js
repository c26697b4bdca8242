
// Trains a language model on a text: the same windows, and the same rule, as in Python.

/** Small, seeded and good enough to draw characters with (mulberry32). */
function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function softmax(logits, temperature = 1) {
  const most = Math.max(...logits);
  const parts = Array.from(logits, (x) => Math.exp((x - most) / temperature));
  const total = parts.reduce((sum, part) => sum + part, 0);
  return parts.map((part) => part / total);
}

class Trainer {
  /**
   * @param {Model} learner one update of the model
   * @param {Model} writer one step of the same model
   * @param {object} data sizes N, T, V, the rule's lr and betas, and the vocabulary, or null: that of each text
   */
  constructor(learner, writer, data) {
    [this.learner, this.writer, this.data] = [learner, writer, data];
    this.keep = new Float32Array(data.T).fill(1);
    this.keep[0] = 0; // the window before has been forgotten by then
    this.read(data.text);
  }

  /** Take a text; the vocabulary of a new text makes a new start. */
  read(text) {
    const { N, T, V, vocabulary } = this.data;
    const letters = Array.from(text.replace(/\r\n?/g, "\n"));
    if (!letters.length) letters.push(" ");
    this.tokens = vocabulary ?? ["<unk>", ...commonest(letters).slice(0, V - 1)];
    const numbers = new Map(this.tokens.map((token, id) => [token, id]));
    const unknown = numbers.get("<unk>") ?? 0;
    this.ids = letters.map((letter) => numbers.get(letter) ?? unknown);
    const least = N * T + 1;
    for (let k = 0; this.ids.length < least; k++) this.ids.push(this.ids[k]); // a short text is read again and again
    this.length = Math.floor((this.ids.length - 1) / N);
    this.restart();
  }

  restart() {
    this.learner.reset();
    this.writer.reset();
    this.initial = this.#state();
    [this.updates, this.place, this.losses] = [0, 0, []];
  }

  /** One update; returns the loss before it (nats per character), and what came back along each edge. */
  update() {
    const { T, lr, betas } = this.data;
    if (this.place + T > this.length) {
      this.place = 0;
      this.learner.state = this.initial;
    }
    const now = this.#run(lr / (1 - betas[0] ** (this.updates + 1)), 1 / (1 - betas[1] ** (this.updates + 1)));
    this.place += T;
    this.updates += 1;
    this.losses.push(now.loss);
    return now;
  }

  /** What an update would find; nothing changes. */
  peek() {
    const kept = this.learner.state;
    const place = this.place;
    if (this.place + this.data.T > this.length) this.place = 0;
    const now = this.#run(0, 1);
    this.place = place;
    this.learner.state = kept;
    return now;
  }

  /** Characters that the model writes after the start of the text. */
  sample(count, temperature, seed = 1) {
    const draw = generator(seed);
    const params = this.learner.state;
    const known = Object.entries(params).filter(([name]) => name.startsWith("params."));
    this.writer.weights = Object.fromEntries(known.map(([name, array]) => [name.slice(7), array]));
    this.writer.reset();
    let id = this.ids[0];
    let text = this.#letter(id);
    for (let k = 1; k < count; k++) {
      const logits = this.writer.step({ x: [id] }).y.slice(0, this.tokens.length);
      const unknown = this.tokens.indexOf("<unk>");
      if (unknown >= 0) logits[unknown] = -1e9;
      let left = draw();
      id = softmax(logits, temperature).findIndex((part) => (left -= part) < 0);
      if (id < 0) id = 0;
      text += this.#letter(id);
    }
    return text;
  }

  #letter(id) {
    const token = this.tokens[id];
    return token === undefined || token === "<unk>" ? "\u25a1" : token;
  }

  #state() {
    return Object.fromEntries(Object.entries(this.learner.state).filter(([name]) => /^state(\.|$)/.test(name)));
  }

  #run(rate, correction) {
    const { N, T, V } = this.data;
    const at = (t, n, ahead) => this.ids[n * this.length + this.place + t + ahead];
    const window = (ahead) => Array.from({ length: T * N }, (_, k) => at(Math.floor(k / N), k % N, ahead));
    const made = this.learner.step({
      ids: window(0), targets: window(1), keep: this.keep, "rates.0": rate, "rates.1": correction,
    });
    const steps = Array.from({ length: T }, (_, t) => {
      const shares = softmax(made["y.1"].slice(t * V, t * V + V));
      const target = at(t, 0, 1);
      return { input: this.#letter(at(t, 0, 0)), target: this.#letter(target), share: shares[target] };
    });
    return { loss: made["y.0"][0], flow: made["y.2"], read: made["y.3"], steps };
  }
}

/** Characters by descending count, ties by first appearance. */
function commonest(letters) {
  const counts = new Map();
  for (const letter of letters) counts.set(letter, (counts.get(letter) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]).map(([letter]) => letter);
}
