// Text pairs to decisions: label, confidence and abstain, as `pipeline_modernbert_nli.py` makes them.

// Judge a pair; `threshold`: abstain from this uncertainty upwards.
export async function judgePair(model, premise, hypothesis, threshold = model.config.abstention_threshold) {
  const premises = await model.read([premise], "premise", true);
  const hypotheses = await model.read([hypothesis], "hypothesis", false);
  const [output] = await model.judge([[premises, hypotheses[0]]]);
  return { ...decide(output, model.config, threshold), truncated: premises.truncated[0] };
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

export function softmax(values) {
  const greatest = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - greatest));
  const sum = powers.reduce((total, value) => total + value, 0);
  return powers.map((value) => value / sum);
}

export function logSumExp(values) {
  const greatest = Math.max(...values);
  return greatest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - greatest), 0));
}

export const sigmoid = (value) => 1 / (1 + Math.exp(-value));
