// A text and categories to a route, or to the reason why there is none, as `routing.py` finds it:
// P(category) = P(any fits) * P(category | any fits).

import constants from "./constants.js";
import { dot, logSumExp, normalized, sigmoid, softmax } from "./numbers.js";

const { JUDGED, UNFITTED } = constants.routing; // of more categories than JUDGED, the most similar

// Route a text. `categories`: a Map of names to hypotheses.
export async function route(model, text, categories, threshold) {
  const entry = model.config.routing?.separate ?? UNFITTED;
  const names = [...categories.keys()];
  const hypotheses = await model.read([...categories.values()], "hypothesis", false);
  const texts = await model.read([text], "text", true);
  const similarity = entry.similarity
    ? await similarities(model, texts[0], names, [...categories.values()], hypotheses)
    : names.map(() => 0);
  let rows = names.map((_, row) => row);
  if (entry.similarity && names.length > JUDGED) {
    rows = rows.sort((one, other) => similarity[other] - similarity[one] || one - other);
    rows = rows.slice(0, JUDGED).sort((one, other) => one - other);
  }
  const judged = await model.judge(rows.map((row) => [texts, hypotheses[row]]));
  const scores = scoresOf(similarity, rows, judged, model.config.label2id, entry);
  return { ...decided(scores, names, entry, threshold ?? entry.threshold), truncated: texts.truncated[0] };
}

async function similarities(model, text, names, sentences, hypotheses) {
  const words = names.map((name, row) => readable(name) || sentences[row]);
  const named = await model.read(words, "category", true);
  const vectors = describe(
    hypotheses.map(({ vector }) => vector),
    named.map(({ vector }) => vector),
  );
  return vectors.map((vector) => dot(vector, text.vector));
}

// The name of a category as words: `refund_request` and `RefundRequest` are "refund request".
export function readable(name) {
  const apart = name.replace(/(?<=[a-z0-9])(?=[A-Z])/g, " ");
  return apart.replace(/[^\p{L}\p{N}]+/gu, " ").trim().toLowerCase() || name;
}

// One vector for each category. A name counts as much as names tell their hypotheses here.
function describe(hypotheses, names) {
  const count = names.length;
  const matched = names.filter((name, row) => {
    const values = hypotheses.map((hypothesis) => dot(name, hypothesis));
    return values.indexOf(Math.max(...values)) === row;
  }).length;
  const chance = 1 / count;
  const agreement = count === 1 ? 0 : Math.max(0, (matched / count - chance) / (1 - chance));
  return hypotheses.map((vector, row) =>
    normalized(vector.map((value, at) => value + agreement * names[row][at])),
  );
}

// A weighted sum of similarity, log-odds of entailment, and log-ratio of entailment to contradiction.
function scoresOf(similarity, rows, judged, label2id, entry) {
  const entailment = label2id.entailment;
  const against = label2id.contradiction;
  const found = judged.map(({ logits }) => {
    const others = logits.filter((_, index) => index !== entailment);
    const odds = logits[entailment] - logSumExp(others);
    return { odds, contrast: against === undefined ? odds : logits[entailment] - logits[against] };
  });
  // Those that were not judged count as entailed no more than the least of them.
  const least = {
    odds: Math.min(...found.map(({ odds }) => odds)),
    contrast: Math.min(...found.map(({ contrast }) => contrast)),
  };
  return similarity.map((value, row) => {
    const { odds, contrast } = found[rows.indexOf(row)] ?? least;
    return entry.similarity * value + entry.entailment * odds + entry.contrast * contrast;
  });
}

function decided(scores, names, entry, threshold) {
  const fits = scores.map((score) => sigmoid(entry.offset + entry.slope * score));
  const among = softmax(scores);
  const any = Math.max(...fits);
  const ranking = names
    .map((name, row) => ({ name, row, value: among[row] * any }))
    .sort((one, other) => other.value - one.value || one.row - other.row);
  const [best] = ranking;
  const declined = 1 - best.value >= threshold;
  const close = among[best.row] < fits[best.row]; // never of a single category
  const shown = (row) => `“${ranking[row].name}”`;
  const reason = close
    ? `too close to call: ${shown(0)} or ${shown(1)}`
    : `nothing fits: ${shown(0)} comes nearest`;
  return {
    category: declined ? null : best.name,
    confidence: declined ? null : best.value,
    uncertainty: 1 - best.value,
    reason: declined ? reason : null,
    ranking: ranking.map(({ name, value }) => [name, value]),
  };
}
