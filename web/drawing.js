// Pieces of the page, as elements: whatever was typed becomes text in them, never markup.
// They look as those of `modernbert_nli/page/drawing.py` and `modernbert_nli/page/documents.py`.

import { QUOTED, SHOWN, TONES } from "./constants.js";

// An element with attributes and children (elements or texts).
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.flat());
  return made;
}

// The beginning of a text on one line.
export function quote(text, length = QUOTED) {
  const line = text.slice(0, 4 * length).trim().split(/\s+/u).join(" ");
  return line.length <= length ? line : `${line.slice(0, length - 1).trimEnd()}…`;
}

// A probability as it is read: never "100%" or "0%" for what is not quite.
export function share(value) {
  const rounded = `${Math.round(100 * value)}%`;
  if (rounded === "100%" && value < 1) return "over 99%";
  return rounded === "0%" && value > 0 ? "under 1%" : rounded;
}

export function answer(outcome, verdict, meaning, ...parts) {
  const heading = element("h2", {}, quote(verdict, 60));
  return element("article", { class: `answer ${outcome}` }, heading, element("p", { class: "meaning" }, meaning), ...parts);
}

export function problem(text) {
  return element("div", { class: "answer problem", role: "alert" }, element("p", {}, text));
}

export function note(text) {
  return element("p", { class: "note" }, text);
}

export function bars(rows, caption, strongest) {
  const lines = rows.map(([name, value]) => {
    const bar = element("span");
    bar.style.width = `${100 * value}%`;
    return element(
      "tr",
      name === strongest ? { class: "strongest" } : {},
      element("th", { scope: "row" }, quote(name, 60)),
      element("td", {}, element("span", { class: "bar" }, bar)),
      element("td", { class: "figure" }, share(value)),
    );
  });
  const head = element("caption", {}, element("span", { class: "unseen" }, caption));
  return element("table", { class: "bars" }, head, element("tbody", {}, lines));
}

export function ranking(rows, best) {
  const caption = "How probably each category is the one";
  const rest = rows.slice(SHOWN);
  const more = element("summary", {}, `${rest.length} more, less probable`);
  const opened = rest.length ? [element("details", {}, more, bars(rest, caption))] : [];
  return [bars(rows.slice(0, SHOWN), caption, best), ...opened];
}

// The uncertainty, and the threshold from which the model abstains, on a line from 0 to 1.
export function scale(uncertainty, threshold) {
  const words =
    `Uncertainty ${uncertainty.toFixed(2)} on a scale from 0 to 1, ${uncertainty >= threshold ? "not " : ""}` +
    `below ${threshold.toFixed(2)}, from where the model abstains.`;
  const at = (name, place, side = "left") => {
    const span = element("span", { class: name });
    span.style[side] = `${100 * (side === "left" ? place : 1 - place)}%`;
    return span;
  };
  const mark = (place, kind, text) => {
    const side = place < 0.5 ? "left" : "right";
    const label = at("", place, side);
    label.append(`${text} `, element("b", {}, place.toFixed(2)));
    return element("div", { class: `mark ${kind} ${side}` }, label);
  };
  return element(
    "div",
    { class: "scale", role: "img", "aria-label": words },
    mark(threshold, "limit", "abstains from"),
    element("div", { class: "track" }, at("beyond", threshold), at("here", uncertainty)),
    mark(uncertainty, "value", "uncertainty"),
  );
}

export const toneOf = (verdict) => TONES[verdict];

const claimsOf = (sentences) => sentences.filter((one) => one.verdict !== null);

// How many claims have which verdict.
export function summary(sentences) {
  const claims = claimsOf(sentences);
  if (!claims.length) return "There is no claim in the answer that could be checked.";
  const parts = Object.keys(TONES).flatMap((verdict) => {
    const count = claims.filter((one) => one.verdict === verdict).length;
    return count ? [`${count} ${count > 1 ? "are" : "is"} ${verdict}`] : [];
  });
  return `Of ${claims.length} claim${claims.length > 1 ? "s" : ""}, ${parts.join(", ")}.`;
}

// The claims of an answer with their verdicts, each a link to its evidence, and the document with it.
export function evidence(answerText, documentText, sentences) {
  const claims = claimsOf(sentences);
  const marked = documentWith(documentText, claims);
  const rows = claims.map((one, number) => {
    const link = element("a", { href: `#evidence-${number + 1}` }, underlined(answerText, one));
    link.addEventListener("click", (event) => {
      event.preventDefault();
      for (const mark of marked.querySelectorAll("mark")) {
        mark.classList.toggle("found", mark.dataset.of.split(" ").includes(String(number)));
      }
      marked.querySelector(".found")?.scrollIntoView({ block: "nearest" });
    });
    const sure = element("span", {}, one.abstain ? one.reason : share(one.confidence));
    const said = element("p", { class: "said" }, element("b", {}, one.verdict), " ", sure);
    return element("li", { class: TONES[one.verdict] }, said, element("p", {}, link));
  });
  const title = "The document, with the evidence; a sentence above leads to its own";
  return [element("ol", { class: "sources" }, rows), element("h3", {}, title), marked];
}

function underlined(text, { start, end, unsupported }) {
  const parts = [];
  let at = start;
  for (const span of unsupported) {
    const words = element("u", { title: "not found in the document" }, text.slice(span.start, span.end));
    parts.push(text.slice(at, span.start), words);
    at = span.end;
  }
  return [...parts, text.slice(at, end)];
}

// A mark for the best passage of each claim, also where passages overlap; for both that contradict each other.
function documentWith(text, claims) {
  const places = claims.map((one) => one.evidence.slice(0, one.conflict ? 2 : 1));
  const bounds = [...new Set([0, text.length, ...places.flat().flatMap(({ start, end }) => [start, end])])];
  bounds.sort((one, other) => one - other);
  const parts = bounds.slice(1).map((end, row) => {
    const start = bounds[row];
    const covers = (place) => place.start <= start && end <= place.end;
    const of = [...places.keys()].filter((number) => places[number].some(covers));
    const words = text.slice(start, end);
    return of.length ? element("mark", { "data-of": of.join(" ") }, words) : words;
  });
  const role = { class: "document", tabindex: "0", role: "region", "aria-label": "The document" };
  return element("div", role, parts);
}
