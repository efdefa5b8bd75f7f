// How well texts cover the tokens of a claim, from the states of both: `coverage.py`.

import { dot, normalized, sumOfRows } from "./numbers.js";

// A layer of a text without its special tokens, unless it has no others: rows and how many.
function inner(text, layer) {
  const values = text.layer(layer);
  const rows = text.length > 2 ? values.subarray(text.width, values.length - text.width) : values;
  return { rows, count: rows.length / text.width };
}

function unitRows(text, layer) {
  const { rows, count } = inner(text, layer);
  const units = new Float32Array(rows.length);
  for (let row = 0; row < count; row++) {
    units.set(normalized(rows.subarray(row * text.width, (row + 1) * text.width)), row * text.width);
  }
  return { units, count };
}

// The greatest cosine of each token of a claim with one of each sentence, by sentence.
export function bestMatches(claim, sentences, layer) {
  const ours = unitRows(claim, layer);
  const { width } = claim;
  return sentences.map((sentence) => {
    const theirs = unitRows(sentence, layer);
    const found = new Float32Array(ours.count).fill(-1);
    for (let token = 0; token < ours.count; token++) {
      for (let other = 0; other < theirs.count; other++) {
        let sum = 0;
        const [a, b] = [token * width, other * width];
        for (let at = 0; at < width; at++) sum += ours.units[a + at] * theirs.units[b + at];
        if (sum > found[token]) found[token] = sum;
      }
    }
    return found;
  });
}

// The maximum over sentences of values by token.
export function greatest(rows) {
  const found = rows[0].slice();
  for (const row of rows) row.forEach((value, at) => (found[at] = Math.max(found[at], value)));
  return found;
}

// Cosines of the mean states of the last layer of a claim and of passages.
export function cosines(claim, sums, passages) {
  const ours = normalized(innerSum(claim));
  return passages.map(([first, end]) => {
    const whole = sums[first].slice();
    for (const sum of sums.slice(first + 1, end)) sum.forEach((value, at) => (whole[at] += value));
    return dot(ours, normalized(whole));
  });
}

export function innerSum(text) {
  return sumOfRows(inner(text, -1).rows, text.width);
}
