// Text to tokens, as `tokenization.py` does: "[CLS] text [SEP]", cut to the encoder's window.

import { Tokenizer } from "./vendor/tokenizers/tokenizers.min.mjs";

// What Python calls white space, for classes of regular expressions.
export const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
// What Python's \w is.
export const WORD = "\\p{L}\\p{N}_";

const BLANK = new RegExp(`^[${SPACE}]*$`, "u");
const BEYOND = 1e9; // tokenizers without a window say 1e30

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
    const positions = config.encoder_config.max_position_embeddings || BEYOND;
    this.window = Math.min(positions, settings.model_max_length || BEYOND, BEYOND);
  }

  // The ids of a text with its special tokens, as long as they are.
  ids(text) {
    const ids = this.#encode(text);
    const inside = ids.slice(1, -1);
    // Some vocabularies hold "[SEP]" as an ordinary piece.
    return inside.includes(this.separator) ? this.#encode(this.#brokenUp(text)) : ids;
  }

  // How many tokens a text has, special ones left out.
  count(text) {
    return this.ids(text).length - 2;
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
    return this.tokenizer.encode(this.lowers ? text.replaceAll("Σ", "σ") : text).ids;
  }

  #brokenUp(text) {
    for (const token of this.special) text = text.replaceAll(token, `${token[0]} ${token.slice(1)}`);
    return text;
  }
}

function lowers(normalizer) {
  if (!normalizer) return false;
  if (normalizer.type === "Sequence") return normalizer.normalizers.some(lowers);
  return normalizer.type === "Lowercase" || (normalizer.type === "BertNormalizer" && normalizer.lowercase);
}
