// Runs a program that tinygrad_rnn has exported. It needs WebAssembly with SIMD, and nothing else.

const ARRAYS = { float32: Float32Array, float64: Float64Array, int64: BigInt64Array, bool: Uint8Array };
const NUMBERS = ["number", "bigint", "boolean"];
const OUT_OF_RANGE = "step: an id is out of range; the state is as it was before";
const SECTION = "tinygrad_rnn";
const LINE = 64; // bytes; every array begins at a multiple of it

/** A program in a memory of its own. `make` makes one of the bytes of a file. */
class Model {
  #exports;
  #table;
  #start; // address that the table counts from
  #replays; // arguments of each call of the executor

  /** @private */
  constructor(exports, table, content) {
    const end = table.records.reduce((most, { room }) => Math.max(most, exports.tinygrad_rnn_scratch(room)), LINE);
    const start = Math.ceil(exports.__heap_base.value / LINE) * LINE;
    const bases = start + table.bytes;
    const scratch = Math.ceil((bases + 4 * table.bases.length) / LINE) * LINE;
    const { memory } = exports;
    const missing = scratch + end - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / 65536));
    new Uint8Array(memory.buffer, start, content.length).set(content);
    new Uint32Array(memory.buffer, bases, table.bases.length).set(table.bases.map((at) => start + at));
    [this.#exports, this.#table, this.#start] = [exports, table, start];
    this.#replays = table.records.map(({ at, count, room }) => [start + at, count, bases, room, scratch]);
    const kept = new Set(table.carried.map(({ input }) => input));
    const made = new Set(table.carried.map(({ output }) => output));
    /** What `step` takes, and what it returns: {name, dtype, shape} of each; and the names of the state and weights. */
    this.inputs = table.inputs.filter((_, number) => !kept.has(number));
    this.outputs = table.outputs.filter((_, number) => !made.has(number));
    this.stateNames = table.carried.map(({ input }) => table.inputs[input].name);
    this.weightNames = table.weights.map(({ name }) => name);
    this.reset();
  }

  /**
   * One step, or one window of steps; the state is kept for the next.
   * @param {Object<string, number|Array|TypedArray>} given the inputs by name, each a number, an array or a nest of them
   * @returns {Object<string, TypedArray>} the results by name, in C order
   */
  step(given = {}) {
    this.#take(this.inputs, given, "step", true);
    for (const replay of this.#replays) {
      const failed = this.#exports.tinygrad_rnn_replay(...replay);
      if (failed >= 0) throw new RangeError(OUT_OF_RANGE);
    }
    for (const { input, output } of this.#table.carried) {
      const [to, from] = [this.#table.inputs[input], this.#table.outputs[output]];
      if (to.at !== from.at) this.#view(to).set(this.#view(from));
    }
    return Object.fromEntries(this.outputs.map((port) => [port.name, this.#view(port).slice()]));
  }

  /** Start anew: the state is that at the time of the export. */
  reset() {
    for (const { input, initial } of this.#table.carried) {
      const port = this.#table.inputs[input];
      this.#view(port).set(this.#view({ ...port, at: initial }));
    }
  }

  /** The state, by name: a copy. Assign one, or some of its parts, to go on from there. */
  get state() {
    return Object.fromEntries(this.#kept().map((port) => [port.name, this.#view(port).slice()]));
  }

  set state(given) {
    this.#take(this.#kept(), given, "state");
  }

  /** The weights, by name: a copy. Assign others, or some of them, of the same sizes. */
  get weights() {
    return Object.fromEntries(this.#table.weights.map((port) => [port.name, this.#view(port).slice()]));
  }

  set weights(given) {
    this.#take(this.#table.weights, given, "weights");
  }

  #kept() {
    return this.#table.carried.map(({ input }) => this.#table.inputs[input]);
  }

  #view({ dtype, shape, at }) {
    const size = shape.reduce((product, length) => product * length, 1);
    return new ARRAYS[dtype](this.#exports.memory.buffer, this.#start + at, size);
  }

  #take(ports, given, where, all = false) {
    const names = ports.map(({ name }) => name);
    const unknown = Object.keys(given).find((name) => !names.includes(name));
    if (unknown !== undefined) {
      throw new TypeError(`${where}: nothing here is called ${unknown}; there is ${names.join(", ") || "nothing"}`);
    }
    for (const port of ports) {
      const there = Object.hasOwn(given, port.name);
      if (all || there) this.#write(port, there ? given[port.name] : undefined, where);
    }
  }

  #write(port, given, where) {
    const view = this.#view(port);
    const nested = Array.isArray(given);
    let parts = nested ? given.flat(Infinity) : ArrayBuffer.isView(given) ? given : [given];
    const other = ArrayBuffer.isView(given) ? -1 : parts.findIndex((part) => !NUMBERS.includes(typeof part));
    if (given === undefined || parts.length !== view.length || other >= 0) {
      const some = parts.length === view.length ? `a ${typeof parts[other]} among them` : `${parts.length} of them`;
      const got = given === undefined ? "nothing" : some;
      throw new TypeError(
        `${where}: ${port.name} is ${port.dtype} of shape (${port.shape.join(", ")}), ${view.length} numbers; got ${got}`,
      );
    }
    if (port.dtype === "int64" && !(parts instanceof BigInt64Array)) parts = Array.from(parts, (part) => BigInt(part));
    if (port.natural && parts.some((part) => part < 0)) throw new RangeError(OUT_OF_RANGE); // it would count from the end
    view.set(parts);
  }
}

/**
 * Make a model of the bytes of a file that was exported.
 * @param {Uint8Array} bytes
 * @returns {Promise<Model>}
 */
async function make(bytes) {
  const broken = (why) => new Error(`load: ${why}; export the model anew`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 8 || view.getUint32(0) !== 0x0061736d) throw broken("this is no WebAssembly module");
  const whole = bytes.length - 4;
  if (crc32(bytes.subarray(0, whole)) !== view.getUint32(whole, true)) throw broken("the file is damaged");
  const module = await WebAssembly.compile(bytes);
  const [section] = WebAssembly.Module.customSections(module, SECTION);
  if (!section) throw broken("this module holds no model");
  const length = new DataView(section).getUint32(0, true);
  const table = JSON.parse(new TextDecoder().decode(new Uint8Array(section, 4, length)));
  if (table.version !== 1) throw broken(`the file is of version ${table.version}, and this loader reads version 1`);
  const { exports } = await WebAssembly.instantiate(module, {});
  exports._initialize?.();
  return new Model(exports, table, new Uint8Array(section, 4 + length, section.byteLength - 8 - length));
}

function crc32(bytes) {
  const table = Uint32Array.from({ length: 256 }, (_, byte) => {
    for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
    return byte;
  });
  let crc = -1;
  for (let k = 0; k < bytes.length; k++) crc = (crc >>> 8) ^ table[(crc ^ bytes[k]) & 255]; // for...of is slow
  return (crc ^ -1) >>> 0;
}
