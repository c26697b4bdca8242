
export { Model };

/**
 * Load the model: `const model = await load(); const { y } = model.step({ x });`
 * @param {string|URL|Uint8Array|ArrayBuffer} source the file; the one that was exported with this loader, if left out
 * @returns {Promise<Model>}
 */
export async function load(source = new URL($file, import.meta.url)) {
  if (source instanceof ArrayBuffer) return make(new Uint8Array(source));
  if (ArrayBuffer.isView(source)) return make(new Uint8Array(source.buffer, source.byteOffset, source.byteLength));
  const url = new URL(source, import.meta.url);
  if (url.protocol === "file:" && globalThis.process?.versions?.node) {
    const { readFile } = await import("node:fs/promises");
    return make(new Uint8Array(await readFile(url)));
  }
  const reply = await fetch(url);
  if (!reply.ok) throw new Error(`load: ${url} cannot be read (status ${reply.status})`);
  return make(new Uint8Array(await reply.arrayBuffer()));
}
