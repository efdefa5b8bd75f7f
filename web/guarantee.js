// What the checkpoint guarantees of its risk, in words: as `modernbert_nli/page/guarantee.py` says it of `calibration`.

import { NOT_COVERED, NOT_COVERED_BY_DOMAINS } from "./constants.js";

export const percent = (value) => `${Number((100 * value).toFixed(1))}%`;

// The risks from which a reader may choose: each with its threshold and what is said of it.
export function choices(config) {
  const entry = config.calibration?.separate;
  if (!entry) return [];
  const kept = (guarantee) => guarantee.table.filter((row) => row.threshold !== null);
  const isNew = entry.domains !== undefined && entry.domains !== null && kept(entry.domains).length > 0;
  const guarantee = isNew ? entry.domains : entry;
  const sure = percent(1 - guarantee.delta);
  const by = isNew
    ? `for ${sure} of kinds of text, by ${guarantee.n} of them, each judged by heads that had not seen it`
    : `with ${sure} certainty, by ${guarantee.n.toLocaleString("en")} held-out pairs`;
  return kept(guarantee).map(({ target_risk, threshold, coverage }) => ({
    risk: target_risk,
    threshold,
    guarantee:
      `At most ${percent(target_risk)} of the answers given are wrong` +
      `${isNew ? ", also in a kind of text that the model has never seen" : ""}, and about ` +
      `${Math.round(100 * coverage)}% of pairs get one.`,
    detail:
      `This holds ${by}: the model abstains from an uncertainty of ${threshold.toFixed(2)} upwards. ` +
      `${isNew ? NOT_COVERED_BY_DOMAINS : NOT_COVERED}`,
  }));
}

// What is said where nothing is guaranteed.
export function nothing(config) {
  return {
    threshold: config.abstention_threshold,
    guarantee: "These int8 graphs are not calibrated: they guarantee nothing of their answers.",
    detail: `The model abstains from an uncertainty of ${config.abstention_threshold.toFixed(2)} upwards.`,
  };
}
