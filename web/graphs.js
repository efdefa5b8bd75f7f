// Tokens to states, and states to judgements: the graphs that export.py wrote, run by ONNX Runtime.
// As `onnx_backend.py` and `separate.py`: each text is encoded once and kept.

import * as ort from "./vendor/onnxruntime-web/ort.wasm.bundle.min.mjs";
import { normalized, sumOfRows } from "./numbers.js";
import { startPython, withModules } from "./python.js";
import { Tokens } from "./tokens.js";

const RUNTIME = "vendor/onnxruntime-web/ort-wasm-simd-threaded.wasm";
const KEPT_BYTES = 64 * 2 ** 20; // of states, those used last
const TOKENS_AT_ONCE = 2048; // in a batch of texts
const PAIR_TOKENS_AT_ONCE = 4096; // in a batch of pairs
const THREADS = 4; // at most, where the page is served with the headers that allow any

// A promise of the browser's next turn, so that the page stays alive between two batches.
const nextTurn = () => new Promise((resolve) => setTimeout(resolve));

// Load a model. `files`: its paths and sizes in bytes, from index.json; `onProgress` gets bytes read and all.
export async function loadModel(files, onProgress) {
  const total = Object.values(files).reduce((sum, size) => sum + size, 0);
  let read = 0;
  const found = {};
  const load = async (path) => {
    found[path] = await bytesOf(path, files[path], (size) => onProgress((read += size), total));
  };
  const [runtime] = await Promise.all([startPython(), ...Object.keys(files).map(load)]);
  const json = (name) => {
    const bytes = found[`model/${name}`];
    return bytes && JSON.parse(new TextDecoder().decode(bytes));
  };
  ort.env.wasm.wasmBinary = found[RUNTIME].buffer;
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated
    ? Math.min(THREADS, navigator.hardwareConcurrency || 1)
    : 1;
  const sessions = [];
  for (const graph of ["encoder_int8", "heads"]) {
    await nextTurn();
    sessions.push(await ort.InferenceSession.create(found[`model/onnx/${graph}.onnx`]));
  }
  const config = withGuarantee(json("config.json"), json("onnx/int8.json"));
  const tokens = new Tokens(json("tokenizer.json"), json("tokenizer_config.json"), config);
  return new Model(config, tokens, withModules(runtime, found, config, tokens), ...sessions);
}

// What int8 graphs guarantee stands in a file of its own; what float32 guarantees is not theirs.
function withGuarantee(config, guarantee) {
  const { calibration = null, abstention_threshold } = guarantee ?? {};
  return {
    ...config,
    calibration,
    abstention_threshold: abstention_threshold ?? config.abstention_threshold,
  };
}

async function bytesOf(path, size, onRead) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} could not be loaded (HTTP ${response.status}).`);
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > size) throw new Error(`${path} is longer than index.json says.`);
    bytes.set(value, at);
    at += value.length;
    onRead(value.length);
  }
  if (at < size) throw new Error(`${path} is shorter than index.json says: load the page again.`);
  return bytes;
}

// A text as the heads read it: float16 states by layer, each tokens × width.
class Text {
  constructor(layers, length, width) {
    Object.assign(this, { layers, length, width });
  }

  get bytes() {
    return this.layers.length * this.length * this.width * 2;
  }

  // A layer (negative: from the last) in float32.
  layer(number) {
    const half = this.layers.at(number);
    const values = new Float32Array(half.length);
    for (let at = 0; at < half.length; at++) values[at] = FLOATS[half[at]];
    return values;
  }

  // The mean of all tokens in the last layer that is read, of length 1.
  get vector() {
    return (this.mean ??= normalized(sumOfRows(this.layer(-1), this.width)));
  }
}

class Model {
  constructor(config, tokens, python, encoder, heads) {
    Object.assign(this, { config, tokens, python, encoder, heads });
    this.kept = new Map(); // by tokens, the one used last at the end
    this.keptBytes = 0;
  }

  // States of texts that may be cut (premises, texts) or may not (hypotheses, claims).
  async read(texts, what, cut, onProgress = () => {}) {
    const tokens = texts.map((text) => this.tokens.inWindow(text, what, cut));
    const known = new Map();
    const missing = new Map();
    for (const { ids } of tokens) {
      const key = ids.join();
      const text = this.kept.get(key);
      if (text) known.set(key, this.#keep(key, text));
      else missing.set(key, ids);
    }
    const rows = [...missing].sort((one, other) => one[1].length - other[1].length);
    for (let start = 0; start < rows.length; ) {
      let end = start + 1;
      while (end < rows.length && (end + 1 - start) * rows[end][1].length <= TOKENS_AT_ONCE) end++;
      const batch = rows.slice(start, end);
      const states = await this.#encode(batch.map(([, ids]) => ids));
      batch.forEach(([key], row) => known.set(key, this.#keep(key, states[row])));
      start = end;
      onProgress(start / rows.length);
      await nextTurn();
    }
    const found = tokens.map(({ ids }) => known.get(ids.join()));
    found.truncated = tokens.map(({ truncated }) => truncated);
    return found;
  }

  // Logits and uncertainty of pairs of a premise, given as its parts side by side, and a hypothesis, and whether
  // the encoder does not read one of the two (`unread`). Long ones meet long ones.
  async judge(pairs, onProgress = () => {}) {
    const labels = Object.keys(this.config.id2label).length;
    const found = new Array(pairs.length);
    const size = (row) => lengthOf(pairs[row][0]) + pairs[row][1].length;
    const order = pairs.map((_, row) => row).sort((one, other) => size(one) - size(other));
    for (let start = 0; start < order.length; ) {
      let end = start + 1;
      while (end < order.length && (end + 1 - start) * size(order[end]) <= PAIR_TOKENS_AT_ONCE) end++;
      const rows = order.slice(start, end);
      const inputs = {};
      ["premise", "hypothesis"].forEach((side, place) => {
        const [states, mask] = padded(rows.map((row) => [pairs[row][place]].flat()));
        inputs[`${side}_states`] = states;
        inputs[`${side}_mask`] = mask;
      });
      const { logits, uncertainty, familiarity } = await this.heads.run(inputs);
      rows.forEach((row, at) => {
        const values = Array.from(logits.data.subarray(at * labels, (at + 1) * labels));
        const sides = familiarity?.data.subarray(2 * at, 2 * at + 2) ?? [];
        const unread = sides.some((score) => score < this.config.familiarity.threshold);
        found[row] = { logits: values, uncertainty: uncertainty.data[at], unread };
      });
      start = end;
      onProgress(start / order.length);
      await nextTurn();
    }
    return found;
  }

  async #encode(rows) {
    const longest = Math.max(...rows.map((ids) => ids.length));
    const ids = new BigInt64Array(rows.length * longest).fill(BigInt(this.config.pad_token_id ?? 0));
    const mask = new BigInt64Array(ids.length);
    rows.forEach((row, at) => {
      row.forEach((id, place) => {
        ids[at * longest + place] = BigInt(id);
        mask[at * longest + place] = 1n;
      });
    });
    const shape = [rows.length, longest];
    const { states } = await this.encoder.run({
      input_ids: new ort.Tensor("int64", ids, shape),
      attention_mask: new ort.Tensor("int64", mask, shape),
    });
    const [, layers, , width] = states.dims;
    const { buffer, byteOffset, length } = states.data;
    const half = new Uint16Array(buffer, byteOffset, length);
    return rows.map((row, at) => {
      const parts = Array.from({ length: layers }, (_, layer) => {
        const begin = (at * layers + layer) * longest * width;
        return half.slice(begin, begin + row.length * width);
      });
      return new Text(parts, row.length, width);
    });
  }

  #keep(key, text) {
    if (!this.kept.delete(key)) this.keptBytes += text.bytes;
    this.kept.set(key, text);
    for (const [oldest, its] of this.kept) {
      if (this.keptBytes <= KEPT_BYTES) break;
      this.kept.delete(oldest);
      this.keptBytes -= its.bytes;
    }
    return text;
  }
}

const lengthOf = (parts) => parts.reduce((sum, text) => sum + text.length, 0);

// States of texts in parts, (texts, layers, tokens, width), and where there are any, (texts, tokens).
function padded(texts) {
  const [{ layers, width }] = texts[0];
  const lengths = texts.map(lengthOf);
  const longest = Math.max(...lengths);
  const states = new Uint16Array(texts.length * layers.length * longest * width);
  const mask = new BigInt64Array(texts.length * longest);
  texts.forEach((parts, row) => {
    let at = 0;
    for (const part of parts) {
      part.layers.forEach((layer, number) =>
        states.set(layer, ((row * layers.length + number) * longest + at) * width),
      );
      at += part.length;
    }
    mask.fill(1n, row * longest, row * longest + at);
  });
  return [
    new ort.Tensor("float16", states, [texts.length, layers.length, longest, width]),
    new ort.Tensor("int64", mask, [texts.length, longest]),
  ];
}

// Every number of float16 as float32.
const FLOATS = Float32Array.from({ length: 2 ** 16 }, (_, bits) => {
  const [sign, exponent, fraction] = [bits >> 15, (bits >> 10) & 31, bits & 1023];
  const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
  return (sign ? -1 : 1) * (exponent === 31 ? (fraction ? NaN : Infinity) : size);
});
