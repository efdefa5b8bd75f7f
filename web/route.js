// A text and categories to a route, or to the reason why there is none, as `routing.py` finds it:
// P(category) = P(any fits) * P(category | any fits).

import { dot, logSumExp, mean, normalized, ranked, sigmoid, softmax } from "./numbers.js";

// Route a text. `categories`: a Map of names to hypotheses.
export async function route(model, text, categories, threshold) {
  const names = [...categories.keys()];
  const known = model.python("read_categories", text, names, [...categories.values()]);
  if (!known.readable) return { ...known.declined, truncated: false };
  const entry = model.config.routing?.separate ?? known.UNFITTED;
  const hypotheses = await model.read([...categories.values()], "hypothesis", false);
  const texts = await model.read([text], "text", true);
  let [similarity, background, rows] = [names.map(() => 0), null, names.map((_, row) => row)];
  if (entry.similarity) {
    const named = await model.read(known.words.map((word, row) => word || categories.get(names[row])), "category", true);
    const vectors = describe(hypotheses.map(({ vector }) => vector), named.map(({ vector }) => vector));
    similarity = vectors.map((vector) => dot(vector, texts[0].vector));
    if (entry.background) {
      const others = (await model.read(known.ANY_TEXT, "text", true)).map(({ vector }) => vector);
      background = likeness(others, texts[0].vector, vectors, known);
    }
    if (names.length > known.JUDGED) rows = ranked(similarity).slice(0, known.JUDGED).sort((one, other) => one - other);
  }
  const judged = await model.judge(rows.map((row) => [texts, hypotheses[row]]));
  const truncated = texts.truncated[0];
  if (!known.named && judged.every(({ unread }) => unread)) return { ...known.declined, truncated };
  const scores = scoresOf(similarity, rows, judged, model.config.label2id, entry);
  const limit = threshold ?? entry.threshold;
  return { ...decided(scores, background, names, entry, limit, known), truncated };
}

// How near a text is to those that belong to no desk: `background` of `routing.py`.
function likeness(others, text, categories, { OWN, NEAREST }) {
  const alike = others.map((vector) => dot(vector, text) - OWN * Math.max(...categories.map((one) => dot(vector, one))));
  return mean(ranked(alike).slice(0, NEAREST).map((row) => alike[row]));
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

// What scores of categories come to: `decide` and `routes` of `routing.py`. `background`: null without any.
export function decided(scores, background, names, entry, threshold, { CLOSE, NO_CHOICE }) {
  const known = background === null || entry.background === undefined;
  const elsewhere = known ? 1 : sigmoid(entry.background_offset - entry.background * background);
  const fits = scores.map((score) => sigmoid(entry.offset + entry.slope * score) * elsewhere);
  const among = softmax(scores);
  const any = Math.max(...fits);
  const values = among.map((value) => value * any);
  const [best, second] = ranked(values);
  const close = second !== undefined && scores[best] - scores[second] < CLOSE;
  const uncertainty = 1 - (close ? NO_CHOICE : values[best]);
  const declined = uncertainty >= threshold;
  const reason =
    close || among[best] < fits[best] // never of a single category
      ? `too close to call: “${names[best]}” or “${names[second]}”`
      : `nothing fits: “${names[best]}” comes nearest`;
  return {
    category: declined ? null : names[best],
    confidence: declined ? null : values[best],
    uncertainty,
    reason: declined ? reason : null,
    ranking: ranked(values).map((row) => [names[row], values[row]]),
  };
}
