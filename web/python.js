// Python's own modules for texts, run as they are: what they decide here is what they decide anywhere.
// Pyodide is CPython for WebAssembly; of the packages that it could fetch, none is.

import { TextError } from "./tokens.js";
import { loadPyodide } from "./vendor/pyodide/pyodide.mjs";

const FOLDER = "python/"; // in which modules are

export const startPython = () => loadPyodide({ indexURL: new URL("vendor/pyodide/", import.meta.url).href });

// A function that calls one of `bridge.py` by its name. `files`: bytes by path, those of modules among them.
export function withModules(runtime, files, config, tokens) {
  for (const [path, bytes] of Object.entries(files)) {
    if (!path.startsWith(FOLDER)) continue;
    runtime.FS.mkdirTree(`/${path.slice(0, path.lastIndexOf("/"))}`);
    runtime.FS.writeFile(`/${path}`, bytes);
  }
  runtime.runPython(`import sys; sys.path.insert(0, "/${FOLDER}")`);
  const bridge = runtime.pyimport("bridge");
  tokens.window = bridge.connect(tokens, JSON.stringify(config));
  return (name, ...values) => {
    const { value, error } = JSON.parse(bridge.call(name, JSON.stringify(values)));
    if (error) throw new TextError(error[0].toUpperCase() + error.slice(1));
    return value;
  };
}
