// Text pairs to decisions: label, confidence and abstain, as `pipeline_modernbert_nli.py` makes them.

import { softmax } from "./numbers.js";

// Judge pairs of a premise and a hypothesis; `threshold`: abstain from this uncertainty upwards.
export async function judgePairs(model, pairs, threshold = model.config.abstention_threshold) {
  const premises = await model.read(pairs.map(([premise]) => premise), "premise", true);
  const hypotheses = await model.read(pairs.map(([, hypothesis]) => hypothesis), "hypothesis", false);
  const outputs = await model.judge(pairs.map((_, row) => [[premises[row]], hypotheses[row]]));
  return outputs.map((output, row) => ({
    ...decide(output, model.config, threshold),
    truncated: premises.truncated[row],
  }));
}

// Logits and uncertainty of a pair to its decision.
export function decide({ logits, uncertainty }, config, threshold) {
  const probs = softmax(logits);
  const best = probs.indexOf(Math.max(...probs));
  return {
    label: config.id2label[best],
    confidence: probs[best],
    abstain: uncertainty >= threshold,
    uncertainty,
    probs: Object.fromEntries(probs.map((value, index) => [config.id2label[index], value])),
  };
}
