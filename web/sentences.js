// Text to sentences, as places of characters: the rules of `sentences.py`, one by one.

import { SPACE, WORD } from "./tokens.js";

const words = (text) => new Set(text.split(" "));

// Followed by what they belong to, such as a name or a number: never the end.
const NEVER_LAST = words(
  "adj adm adv asst bldg brig capt cf cmdr col cpl dr drs ens esp fig figs fr gen gov hon lt maj messrs mm " +
  "mme mr mrs ms msgr mt nos op pfc ph pres prof pvt rep reps rev sec sen sens sfc sgt sr st supt vs viz " +
  "approx e.g i.e al dept eq eqs ref refs ch",
);
// The end where a word follows that begins sentences more often than names.
const MAYBE_LAST = words(
  "co corp inc ltd bros jr etc llc plc est ave blvd rd hwy jan feb mar apr jun jul aug sep sept oct nov " +
  "dec mon tue wed thu fri sat sun a.m p.m ph.d b.a m.a b.sc m.sc b.c a.d no p pp vol ed eds trans",
);
const STARTERS = words(
  "a all also although an and another any are as at because before both but by can could did do does " +
  "during each even finally first for from had has have he her here his how however i if in is it its " +
  "last later let many may maybe meanwhile more moreover most my next no not now of on once one only " +
  "or other our perhaps please several she should since so some still such than that the their then " +
  "there these they this those though thus to today tomorrow under until was we were what when where " +
  "which while who whose why will with would yes yesterday yet you your",
);
// A line that ends on one of these goes on in the next.
const GOES_ON = words(
  "a an and as at be been but by for from had has have her his if in into is its nor of on or our than " +
  "that the their these this those to was were which who whose will with would your",
);
const CLOSERS = "\"'”’»›)\\]}」』）】〉》";
const WIDE = "。！？｡︒"; // no space follows
const MARKS = ".!?…‽⁇⁈⁉؟۔।॥։።፧။។᙮՜՞" + WIDE;
const BULLETS = "•⁃▪◦●‣";
const S = `[${SPACE}]`;

const pattern = (text, flags = "u") => new RegExp(text, flags);
const END = pattern(
  `(?<marks>[${MARKS}](?:[${MARKS}]|[ \\u00a0](?=[.…]))*)(?<closers>[${CLOSERS}]*)` +
    `|(?<break>[\\t\\x0b\\x0c\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]*` +
    `(?:\\r\\n|[\\n\\r\\x0b\\x0c\\x85\\u2028\\u2029])${S}*)` +
    `|(?<item>(?<=${S})(?=[${BULLETS}]|\\(?\\p{Nd}{1,2}\\.?\\)${S}+[${WORD}]))`,
  "gu",
);
const WORD_BEFORE = pattern(`[^${SPACE}"'“”‘’«»()\\[\\]{}]*$`);
const LIST_MARK = pattern(
  `^${S}*[${BULLETS}*\\-]?${S}*\\(?(?:\\p{Nd}{1,2}|[a-zA-Z]|[ivx]{1,4}|[IVX]{1,4})\\.?\\)?$`,
);
const OPENERS = pattern(`^[${SPACE}"'“”‘’«»‹›(\\[{¿¡「『（—–\\-]*`);
const ITEM_NUMBER = pattern(`(?<=${S})(?:[${BULLETS}]${S}*)?(\\p{Nd}{1,2}|[b-z])$`);
const BLANK = pattern(`^${S}$`);
const WRAPPED = 40; // characters from which a line may have been broken by its width
const LOOK = 120; // characters that are looked at on either side

const isSpace = (character) => BLANK.test(character);
const isLower = (text) => /\p{Lowercase}/u.test(text) && !/[\p{Uppercase}\p{Lt}]/u.test(text);
const isAlpha = (text) => /^\p{L}+$/u.test(text);
const isDigit = (text) => /^[\p{Nd}²³¹⁰⁴-⁹₀-₉]+$/u.test(text);
const first = (text) => text.slice(0, text.codePointAt(0) > 0xffff ? 2 : 1);
const last = (text) => first(text.slice(-2)).length === 2 ? text.slice(-2) : text.slice(-1);

// Where each sentence of a text begins and ends, without the white space around it: every other character is
// in exactly one of them, in order.
export function splitSentences(text) {
  const cased = /[A-ZÀ-ÖØ-ÞΑ-ΩА-Я]/u.test(text);
  const spans = [];
  let start = 0;
  for (const [end, following] of [...ends(text, cased), [text.length, text.length]]) {
    const span = stripped(text, start, end);
    if (span) spans.push(span);
    start = following;
  }
  return spans;
}

// Where sentences end, and where the next may begin.
function ends(text, cased) {
  const all = [];
  let line = 0; // where the current line and sentence begin
  let begin = 0;
  for (const found of text.matchAll(END)) {
    const { marks, closers, break: broken, item: listed } = found.groups;
    const match = { start: found.index, end: found.index + found[0].length, marks, closers, broken };
    let place = null;
    if (broken !== undefined) {
      const breaks = broken.split("\n").length - 1;
      if (breaks > 1 || !goesOn(text, Math.max(line, begin), match, cased)) place = [match.start, match.end];
      line = match.end;
    } else if (listed !== undefined) {
      if (match.start > begin && isNextItem(text, line, match.start)) place = [match.start, match.start];
    } else {
      const item = itemBefore(text, line, match);
      if (item) place = item > begin ? [item, item] : null;
      else if (isEnd(text, Math.max(line, begin), match, cased)) place = [match.end, match.end];
    }
    if (place) {
      all.push(place);
      begin = place[1];
    }
  }
  return all;
}

// Where the number begins of a list's item on the same line as the one before it: "1. one 2. two".
function itemBefore(text, line, { start, end, marks, closers }) {
  if (marks !== "." || closers || !isSpace(text.slice(end, end + 1))) return null;
  const number = ITEM_NUMBER.exec(text.slice(Math.max(line, start - LOOK), start));
  if (!number) return null;
  const mark = number[1];
  const previous = isDigit(mark) ? Number(decimal(mark)) - 1 : String.fromCharCode(mark.charCodeAt(0) - 1);
  const before = text.slice(Math.max(line, start - 2000), start);
  if (!pattern(`(?:^|${S}|[${BULLETS}])\\(?${previous}\\.${S}`).test(before)) return null;
  return start - number[0].length;
}

function isEnd(text, begin, match, cased) {
  const { start, end, marks, closers } = match;
  if (end === text.length) return true;
  const wide = WIDE.includes(marks.at(-1));
  const after = text.slice(end, end + LOOK);
  // "…」と" goes on after its quote; "end.The" lost its space
  if (!isSpace(after[0])) return (wide && !closers) || lostSpace(text, match, after);
  const following = after.slice(OPENERS.exec(after)[0].length);
  if (!following || wide) return true;
  if ((cased && isLower(first(following))) || ",;:.…".includes(following[0])) return false;
  if (text[start - 1] === "[" && closers.startsWith("]")) return false; // "[...]"
  if (marks !== ".") return true;
  const before = text.slice(Math.max(begin, start - LOOK), start);
  // a stop by itself, as tokenised text has it
  if (!before || isSpace(before.at(-1))) return before.split("").some((character) => !isSpace(character));
  if (LIST_MARK.test(before)) return false;
  return !isAbbreviation(WORD_BEFORE.exec(before)[0], following, cased);
}

function isAbbreviation(word, following, cased) {
  const name = word.toLowerCase();
  const nextWord = pattern(`^[${WORD}'’]*`).exec(following)[0].toLowerCase();
  const starts = STARTERS.has(nextWord.split("'")[0].split("’")[0]);
  if (NEVER_LAST.has(name)) return true;
  if (["no", "nos", "p", "pp", "vol", "fig", "ch", "art", "n°", "nº"].includes(name)) {
    return isDigit(first(following));
  }
  // "U.S", "e.g", "a.m"
  if (MAYBE_LAST.has(name) || /^(?:[\p{L}\p{Nl}\p{No}]\.)+[\p{L}\p{Nl}\p{No}]$/u.test(word)) {
    return cased ? !starts : true;
  }
  // an initial, unless it is "I" at the end or the like: "vitamin C"
  if ([...word].length === 1 && isAlpha(word)) return cased ? !starts : word !== "i";
  return false;
}

// Whether a sentence begins right after the mark: "end.The next"; but not "Node.Js" and "U.S.A".
function lostSpace(text, { start }, after) {
  const word = WORD_BEFORE.exec(text.slice(Math.max(0, start - LOOK), start))[0];
  const nextWord = pattern(`^[A-Z][a-z]*(?=[${SPACE},'’])`).exec(after);
  if (!nextWord) return false;
  const likely = STARTERS.has(nextWord[0].toLowerCase());
  const long = [...word].length > 1;
  return long && (isLower(word) || (likely && /^[\p{L}\p{N}]$/u.test(last(word))));
}

// Whether a line was broken by its width alone.
function goesOn(text, begin, { start, end, broken }, cased) {
  const before = text.slice(Math.max(begin, start - LOOK), start);
  const after = text.slice(end, end + 2);
  const mark = before.slice(-1);
  if (!mark || !after || (MARKS + CLOSERS.replace("\\", "") + ":;").includes(mark)) return false;
  const lower = isLower(first(after));
  if (",-–—(".includes(mark)) return mark !== "-" || lower;
  if (cased && lower) return before.length >= WRAPPED || " \t".includes(broken[0]);
  const word = before.split(pattern(`${S}+`)).filter(Boolean).at(-1);
  return before.length >= WRAPPED && GOES_ON.has(word.toLowerCase());
}

// Whether an item follows another on the same line: "1) one 2) two", or a bullet.
function isNextItem(text, line, place) {
  const number = /^\(?(\p{Nd}{1,2})/u.exec(text.slice(place, place + 4));
  if (!number) return true;
  const previous = Number(decimal(number[1])) - 1;
  const before = text.slice(Math.max(line, place - 2000), place);
  return pattern(`(?:^|${S})\\(?${previous}\\.?\\)${S}`).test(before);
}

// Digits of any script as 0 to 9: in Unicode they stand ten in a row.
function decimal(digits) {
  return [...digits].map((digit) => {
    let zero = digit.codePointAt(0);
    for (let steps = 0; steps < 9 && isDigit(String.fromCodePoint(zero - 1)); steps++) zero--;
    return digit.codePointAt(0) - zero;
  }).join("");
}

function stripped(text, start, end) {
  while (start < end && isSpace(text[start])) start++;
  while (end > start && isSpace(text[end - 1])) end--;
  return start < end ? [start, end] : null;
}
