
// Trains a model on windows of N streams: the same windows, and the same rule, as in Python.

function softmax(logits, temperature = 1) {
  const most = Math.max(...logits);
  const parts = Array.from(logits, (x) => Math.exp((x - most) / temperature));
  const total = parts.reduce((sum, part) => sum + part, 0);
  return parts.map((part) => part / total);
}

/**
 * What all kinds of pages share. A kind says what it reads: `read(text)` sets `length`, the places of each stream;
 * `window(place)` returns the inputs and the targets; `told(outputs, place)` describes the steps of the first stream.
 */
class Trainer {
  /**
   * @param {Model?} learner one update of the model; null: there is nothing to train
   * @param {Model} writer one step of the same model
   * @param {object} data sizes N and T, the rule's lr and betas, and what the kind needs
   */
  constructor(learner, writer, data) {
    [this.learner, this.writer, this.data] = [learner, writer, data];
    this.keep = new Float32Array(data.T).fill(1);
    this.keep[0] = 0; // the window before has been forgotten by then
    this.read(data.text);
  }

  restart() {
    this.writer.reset();
    [this.updates, this.place, this.losses] = [0, 0, []];
    if (!this.learner) return;
    this.learner.reset();
    this.initial = this.#state();
  }

  /** One update; returns the loss before it, and what came back along each edge. */
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

  /** The writer from the start of a stream, with what has been learned. */
  fresh() {
    if (this.learner) {
      const learned = this.learner.state;
      const used = this.writer.weightNames.filter((name) => Object.hasOwn(learned, `params.${name}`));
      this.writer.weights = Object.fromEntries(used.map((name) => [name, learned[`params.${name}`]]));
    }
    this.writer.reset();
    return this.writer;
  }

  /** What each step of each stream reads, time first: `of(position)` in the order of (T, N). */
  each(of) {
    const { N, T } = this.data;
    return Array.from({ length: T * N }, (_, k) => of((k % N) * this.length + this.place + Math.floor(k / N)));
  }

  #state() {
    return Object.fromEntries(Object.entries(this.learner.state).filter(([name]) => /^state(\.|$)/.test(name)));
  }

  #run(rate, correction) {
    const made = this.learner.step({ ...this.window(), keep: this.keep, "rates.0": rate, "rates.1": correction });
    return { loss: made["y.0"][0], flow: made["y.2"], read: made["y.3"], steps: this.told(made["y.1"]) };
  }
}

/** The numbers 0 to most in some even steps, or from least on. */
function ticks(least, most) {
  const rough = (most - least) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((part) => part * power >= rough);
  const first = Math.ceil(least / step - 1e-9);
  return Array.from({ length: Math.max(0, Math.floor(most / step + 1e-9) - first + 1) }, (_, k) => (first + k) * step);
}

const short = (g) => (g === 0 ? "0" : g >= 0.01 ? g.toFixed(3).replace(/^0/, "") : g.toExponential(0).replace("e-", "e\u2212"));
const count = (n) => n.toLocaleString("en");
