// Python's own modules for texts, run as they are: what they decide here is what they decide anywhere.
// Pyodide is CPython for WebAssembly; of the packages that it could fetch, none is.

import { loadPyodide } from "./vendor/pyodide/pyodide.mjs";

const FOLDER = "python/"; // in which modules are

export const startPython = () => loadPyodide({ indexURL: new URL("vendor/pyodide/", import.meta.url).href });

// A function that calls one of `bridge.py` by its name. `files`: bytes by path, those of modules among them.
export function withModules(python, files) {
  for (const [path, bytes] of Object.entries(files)) {
    if (!path.startsWith(FOLDER)) continue;
    python.FS.mkdirTree(`/${path.slice(0, path.lastIndexOf("/"))}`);
    python.FS.writeFile(`/${path}`, bytes);
  }
  python.runPython(`import sys; sys.path.insert(0, "/${FOLDER}")`);
  const { answer } = python.pyimport("bridge");
  return (name, ...values) => JSON.parse(answer(name, JSON.stringify(values)));
}
