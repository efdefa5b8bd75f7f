// Text to tokens, as `tokenization.py` does: "[CLS] text [SEP]", cut to the encoder's window.

import { SPACES } from "./constants.js";
import { Tokenizer } from "./vendor/tokenizers/tokenizers.min.mjs";

const BLANK = new RegExp(`^[${SPACES}]*$`, "u");
// No token reaches from one of these into another.
const APART = new RegExp(`[^${SPACES}\\p{P}$+<=>^\`|~]+|[^${SPACES}]`, "gu");

// Something that cannot be judged; the message says what is wrong and what to do.
export class TextError extends Error {}

export function checkText(text, what) {
  if (BLANK.test(text)) throw new TextError(`The ${what} is empty: write something into it.`);
  if (/\p{Surrogate}/u.test(text)) throw new TextError(`The ${what} is not valid Unicode.`);
}

export class Tokens {
  // `tokenizer` and `settings`: what tokenizer.json and tokenizer_config.json hold; `config`: config.json.
  constructor(tokenizer, settings, config) {
    // Special tokens typed in a text are text: none is looked for there, only the template adds them.
    this.special = tokenizer.added_tokens.filter((token) => token.special).map((token) => token.content);
    this.tokenizer = new Tokenizer({ ...tokenizer, added_tokens: [] }, settings);
    this.lowers = lowers(tokenizer.normalizer);
    this.separator = config.sep_token_id;
    this.words = tokenizer.model.vocab;
    this.unknown = this.words[tokenizer.model.unk_token] ?? null;
    this.most = settings.model_max_length ?? 1e30;
    this.window = null; // in tokens; `python.js` asks Python
  }

  // The ids of a text with its special tokens, as long as they are.
  ids(text) {
    return this.#encode(text).ids;
  }

  // Ids without special tokens and where each stands, for `bridge.py`. In a word that is several tokens their
  // letters are counted, as near as the vocabulary tells them.
  read(text) {
    const { ids, tokens } = this.#encode(text);
    const places = [];
    const most = ids.length - 2;
    for (const { index, 0: part } of text.matchAll(APART)) {
      const end = index + part.length;
      const until = Math.min(most, this.ids(text.slice(0, end)).length - 2);
      const signs = [...part];
      const single = until - places.length >= signs.length; // as Chinese ones are
      for (let start = index; places.length < until; ) {
        const last = places.length === until - 1;
        const size = single ? (signs.shift()?.length ?? 0) : tokens[places.length + 1].replace(/^(?:##|[Ġ▁])/u, "").length;
        const stop = last ? end : whole(text, Math.min(end, start + size));
        places.push([start, stop]);
        start = stop;
      }
    }
    while (places.length < most) places.push([text.length, text.length]);
    return JSON.stringify({ ids: ids.slice(1, -1), places });
  }

  decode(ids) {
    return this.tokenizer.decode(JSON.parse(ids));
  }

  vocabulary() {
    return JSON.stringify(this.words);
  }

  // The ids of a text in the window. What exceeds it is cut from a premise (`cut`), and refused otherwise.
  inWindow(text, what, cut) {
    checkText(text, what);
    const ids = this.ids(text);
    if (ids.length <= this.window) return { ids, truncated: false };
    if (!cut) {
      throw new TextError(
        `The ${what} has ${ids.length} tokens, but the encoder reads ${this.window} at once and a ` +
          `${what} is never cut. Split it into shorter claims.`,
      );
    }
    return { ids: [...ids.slice(0, this.window - 1), ids.at(-1)], truncated: true };
  }

  #encode(text) {
    // JavaScript has another small sigma for the ends of words, which no vocabulary was made with.
    const shown = this.lowers ? text.replaceAll("Σ", "σ") : text;
    const found = this.tokenizer.encode(shown);
    // Some vocabularies hold "[SEP]" as an ordinary piece.
    return found.ids.slice(1, -1).includes(this.separator) ? this.tokenizer.encode(this.#brokenUp(shown)) : found;
  }

  #brokenUp(text) {
    for (const token of this.special) text = text.replaceAll(token, `${token[0]} ${token.slice(1)}`);
    return text;
  }
}

// A place that is not inside of a character of two units.
function whole(text, place) {
  return /[\uDC00-\uDFFF]/.test(text[place] ?? "") ? place + 1 : place;
}

function lowers(normalizer) {
  if (!normalizer) return false;
  if (normalizer.type === "Sequence") return normalizer.normalizers.some(lowers);
  return normalizer.type === "Lowercase" || (normalizer.type === "BertNormalizer" && normalizer.lowercase);
}
