// An answer against a whole document, sentence by sentence: `documents.py`.

import constants from "./constants.js";
import { bestMatches, cosines, greatest, innerSum, uncovered } from "./coverage.js";
import { logOdds, mean, sigmoid, softmax } from "./numbers.js";
import { passagesOf, readableSentences } from "./passages.js";
import { TextError, WORD, checkText } from "./tokens.js";

const { FEATURES, RULES } = constants.documents;
const CANDIDATES = 12; // looked at for the best few that do not overlap
const TOP = 3;
const RANKS = ["contradicted", "not supported", "uncertain", "supported"];
const HAS_WORD = new RegExp(`[${WORD}]`, "u");

// Check an answer. `onProgress` gets the share that is done.
export async function check(model, answer, document, threshold, onProgress = () => {}) {
  checkText(answer, "answer");
  checkText(document, "document");
  if (!HAS_WORD.test(answer)) throw new TextError("The answer has no words.");
  const rules = { ...RULES, ...model.config.evidence };
  const limit = threshold ?? rules.abstain_from ?? model.config.abstention_threshold;
  const spans = readableSentences(model, answer).filter((span) => HAS_WORD.test(answer.slice(...span)));
  const claims = await model.read(spans.map((span) => answer.slice(...span)), "claim", false);
  const places = readableSentences(model, document);
  const texts = places.map((span) => document.slice(...span));
  const sentences = await model.read(texts, "sentence", true, (done) => onProgress(done / 3));
  const passages = passagesOf(sentences.length, rules.sizes);
  const sums = sentences.map(innerSum);
  const found = [];
  for (const [number, claim] of claims.entries()) {
    const said = await judged(model, claim, { sentences, sums, passages }, (done) =>
      onProgress((1 + (2 * (number + done)) / claims.length) / 3),
    );
    const [start, end] = spans[number];
    const text = answer.slice(start, end);
    const place = (row) => [places[passages[row][0]][0], places[passages[row][1] - 1][1]];
    found.push({ text, start, end, ...verdictOn(model, text, start, said, rules, limit, place, document) });
  }
  return { ...asWhole(found), sentences: found };
}

// A claim against every passage: probabilities, uncertainty, features, and the best match of each token.
async function judged(model, claim, { sentences, sums, passages }, onProgress) {
  const pairs = passages.map(([first, end]) => [sentences.slice(first, end), claim]);
  const outputs = await model.judge(pairs, onProgress);
  const { label2id } = model.config;
  const probs = outputs.map(({ logits }) => softmax(logits));
  const layers = [0, -1].map((layer) => bestMatches(claim, sentences, layer));
  const covered = layers.map((matches) => passages.map((span) => mean(greatest(matches.slice(...span)))));
  const alike = cosines(claim, sums, passages);
  const features = passages.map((_, row) => ({
    entailment: logOdds(probs[row][label2id.entailment]),
    contradiction: label2id.contradiction === undefined ? 0 : logOdds(probs[row][label2id.contradiction]),
    cosine: alike[row],
    coverage: covered[1][row],
    words: covered[0][row],
  }));
  const uncertainty = outputs.map((output) => output.uncertainty);
  return { probs, uncertainty, features, matches: layers.map(greatest) };
}

function weighted(features, weights) {
  return FEATURES.reduce((sum, name) => sum + features[name] * (weights[name] ?? 0), weights.bias ?? 0);
}

function verdictOn(model, text, offset, said, rules, limit, place, document) {
  const best = (weights, top) => bestPassages(said, weights, top, place);
  const support = best(rules.support, TOP);
  const against = best(rules.contradiction, 1);
  const supported = sigmoid(support[0].score);
  const contradicted = sigmoid(against[0].score);
  let [verdict, confidence, deciding] = ["supported", supported, support];
  if (supported < 0.5) {
    [verdict, confidence, deciding] =
      contradicted >= 0.5
        ? ["contradicted", contradicted, against]
        : ["not supported", Math.max(0, 1 - supported - contradicted), support];
  }
  const uncertainty = rules.abstain_from === null ? deciding[0].uncertainty : 1 - confidence;
  const abstain = uncertainty >= limit;
  const { id2label } = model.config;
  const evidence = (abstain ? support : deciding).map(({ span, score, probs }) => ({
    start: span[0],
    end: span[1],
    text: document.slice(...span),
    confidence: sigmoid(score),
    probs: Object.fromEntries(probs.map((value, index) => [id2label[index], value])),
  }));
  const unsupported =
    !abstain && verdict !== "supported"
      ? uncovered(model.tokens, text, said.matches, rules.unsupported).map((span) => ({
          ...span,
          start: span.start + offset,
          end: span.end + offset,
        }))
      : [];
  return {
    verdict: abstain ? "uncertain" : verdict,
    confidence,
    abstain,
    uncertainty,
    support: supported,
    evidence,
    unsupported,
  };
}

// The passages that say most, best first and none over another.
function bestPassages({ features, probs, uncertainty }, weights, top, place) {
  const scores = features.map((row) => weighted(row, weights));
  const order = scores.map((_, row) => row).sort((one, other) => scores[other] - scores[one]);
  const chosen = [];
  for (const row of order.slice(0, top > 1 ? CANDIDATES : 1)) {
    const span = place(row);
    const apart = chosen.every((other) => span[1] <= other.span[0] || other.span[1] <= span[0]);
    if (apart && chosen.length < top) {
      chosen.push({ span, score: scores[row], probs: probs[row], uncertainty: uncertainty[row] });
    }
  }
  return chosen;
}

// The answer as a whole is worth what its worst sentence is: supported only if every one of them is.
function asWhole(sentences) {
  const verdict = RANKS.find((rank) => sentences.some((one) => one.verdict === rank));
  const deciding = sentences.filter((one) => one.verdict === verdict);
  const pick = verdict === "supported" ? Math.min : Math.max;
  const confidence = pick(...deciding.map((one) => one.confidence));
  const one = deciding.find((sentence) => sentence.confidence === confidence);
  return {
    verdict,
    confidence,
    abstain: verdict === "uncertain",
    uncertainty: one.uncertainty,
    support: Math.min(...sentences.map((sentence) => sentence.support)),
  };
}
