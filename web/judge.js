// Text pairs to decisions: label, confidence and abstain, as `pipeline_modernbert_nli.py` makes them.

import { softmax } from "./numbers.js";

// Judge pairs of a premise and a hypothesis; `threshold`: abstain from this uncertainty upwards.
export async function judgePairs(model, pairs, threshold = model.config.abstention_threshold) {
  const premises = await model.read(pairs.map(([premise]) => premise), "premise", true);
  const hypotheses = await model.read(pairs.map(([, hypothesis]) => hypothesis), "hypothesis", false);
  const outputs = await model.judge(pairs.map((_, row) => [[premises[row]], hypotheses[row]]));
  return outputs.map(({ logits, ...known }, row) => {
    const said = { probs: softmax(logits), ...known, truncated: premises.truncated[row] };
    return model.python("decide_pair", ...pairs[row], said, threshold);
  });
}
