// An answer against a whole document. Python reads both and decides (`documents.py`); here is what lies between:
// how near each passage is to each claim, and what the heads say of the nearest.

import { bestMatches, cosines, greatest, innerSum } from "./coverage.js";
import { dot, mean, ranked, softmax } from "./numbers.js";
import { checkText } from "./tokens.js";

// Check an answer. `onProgress` gets the share that is done.
export async function check(model, answer, document, threshold = null, onProgress = () => {}) {
  checkText(answer, "answer");
  checkText(document, "document");
  const asked = model.python("compare", answer, document);
  const claims = await model.read(asked.claims, "claim", false);
  const texts = claims.length ? asked.sentences : [];
  const sentences = await model.read(texts, "sentence", false, (done) => onProgress(done / 2));
  const sums = sentences.map(innerSum);
  const said = [];
  for (const [number, claim] of claims.entries()) {
    const met = nearest(claim, number, sentences, sums, asked);
    const pairs = met.passages.map(({ row }) => [sentences.slice(...asked.passages[row]), claim]);
    const outputs = await model.judge(pairs);
    outputs.forEach(({ logits, ...known }, at) =>
      Object.assign(met.passages[at], { probs: softmax(logits), ...known }),
    );
    said.push(met);
    onProgress((1 + (number + 1) / claims.length) / 2);
  }
  return model.python("decide_answer", said, threshold);
}

// The nearest passages of each size, and the best match anywhere of each of the claim's tokens, by layer.
export function nearest(claim, number, sentences, sums, { passages, sizes, silent, shares, rules }) {
  const about = passages.map(() => true);
  for (const row of silent[number]) about[row] = false;
  const [words, coverage] = [0, -1].map((layer) => {
    const matches = bestMatches(claim, sentences, layer);
    return passages.map((span) => greatest(matches.slice(...span)));
  });
  const alike = cosines(claim, sums, passages);
  const features = passages.map((_, row) => ({
    cosine: alike[row],
    coverage: mean(coverage[row]),
    words: mean(words[row]),
    content: dot(words[row], shares[number]),
  }));
  const nearness = features.map((values, row) =>
    about[row]
      ? Object.entries(rules.nearness).reduce((sum, [name, weight]) => sum + weight * (values[name] ?? 1), 0)
      : -Infinity,
  );
  const order = ranked(nearness).filter((row) => about[row]);
  const chosen = rules.candidates.flatMap((count, size) => order.filter((row) => sizes[row] === size).slice(0, count));
  const matches = [words, coverage].map((layer) => {
    const anywhere = layer.filter((_, row) => about[row]);
    return Array.from(anywhere.length ? greatest(anywhere) : layer[0].fill(-1));
  });
  return { matches, passages: chosen.map((row) => ({ row, nearness: nearness[row], features: features[row] })) };
}
