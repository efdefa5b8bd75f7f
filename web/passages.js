// A document to sentences with their states, and to passages of some of them: `passages.py`.

import { SPACE } from "./tokens.js";

const BLANK = new RegExp(`[${SPACE}]`, "u");
const utf8 = new TextEncoder();

// Places of the sentences of a text; those that the encoder cannot read at once in parts.
export function readableSentences({ python, tokens }, text) {
  return python("sentences", text).flatMap(([start, end]) => fitting(tokens, text, start, end));
}

function fitting(tokens, text, start, end) {
  const window = tokens.window - 2;
  const spans = [];
  while (utf8.encode(text.slice(start, Math.min(end, start + window + 1))).length > window) {
    const part = text.slice(start, whole(text, Math.min(end, start + 16 * window)));
    let size = part.length; // a token has a byte at least
    while (size > 1 && tokens.count(part.slice(0, size)) > window) size = broken(part, size >> 1);
    spans.push([start, start + part.slice(0, size).replace(new RegExp(`[${SPACE}]+$`, "u"), "").length]);
    start += size;
    while (start < end && BLANK.test(text[start])) start++;
  }
  if (start < end) spans.push([start, end]);
  return spans;
}

// Where to break a text of this size: after the last white space of its second half, if there is one.
function broken(text, size) {
  const half = text.slice(size >> 1, size);
  const space = Math.max(half.lastIndexOf(" "), half.lastIndexOf("\n"));
  return space >= 0 && (size >> 1) + space > 0 ? (size >> 1) + space + 1 : Math.max(1, whole(text, size));
}

// A place that is not inside of a character of two units.
function whole(text, place) {
  return /[\uDC00-\uDFFF]/.test(text[place] ?? "") && place > 1 ? place - 1 : place;
}

// Passages as their first sentence and the one after their last. `sizes`: sentences in each, ascending; of a
// text with fewer there is one with all of them.
export function passagesOf(count, sizes) {
  const found = [];
  let less = 0;
  for (const size of sizes) {
    for (let at = 0; at + size <= count; at++) found.push([at, at + size]);
    if (less < count && count < size) found.push([0, count]);
    less = size;
  }
  return found;
}
