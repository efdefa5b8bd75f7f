// The page: fields, answers, progress. All that it computes, it computes here, in the visitor's browser.

import { check } from "./check.js";
import { LINE_BREAKS, MAX_CATEGORIES, MAX_CHARACTERS, MEANINGS, TEMPLATE } from "./constants.js";
import * as draw from "./drawing.js";
import { loadModel } from "./graphs.js";
import { judgePairs } from "./judge.js";
import { choices, nothing, percent } from "./guarantee.js";
import { route } from "./route.js";
import { TextError } from "./tokens.js";

const ASKED = { pair: judged, route: routed, check: checked };

const find = (selector) => document.querySelector(selector);
const megabytes = (size) => (size / 1e6).toFixed(1);

export let model = null;
let limit = null; // the risk that was chosen: threshold, and what is said of it
let work = Promise.resolve(); // one question after the other

async function judged(premise, hypothesis) {
  const [decision] = await judgePairs(model, [[premise, hypothesis]], limit.threshold);
  const { label, abstain, reason, rule } = decision;
  const meaning = abstain
    ? `The model abstains: ${reason}. It leans to ${label}, which is not to be relied on.`
    : (MEANINGS[rule ?? label] ?? "");
  return draw.answer(
    abstain ? "abstained" : label,
    abstain ? "No answer" : label[0].toUpperCase() + label.slice(1),
    [draw.element("q", {}, draw.quote(hypothesis)), " ", meaning],
    draw.bars(Object.entries(decision.probs), "Probabilities", abstain ? undefined : label),
    draw.scale(decision.uncertainty, limit.threshold),
    ...cutNote(decision, "premise"),
  );
}

async function routed(text, lines) {
  const categories = parseCategories(lines);
  const found = await route(model, text, categories);
  const { category, reason } = found;
  const meaning =
    category === null
      ? [`The model declines: ${reason}. Below is how it would rank them.`]
      : [draw.element("q", {}, draw.quote(categories.get(category))), " fits the text best."];
  return draw.answer(
    category === null ? "abstained" : "entailment",
    category ?? "No category",
    meaning,
    ...draw.ranking(found.ranking, category),
    ...cutNote(found, "text"),
  );
}

async function checked(answer, text, onProgress) {
  const result = await check(model, answer, text, null, onProgress);
  const verdict = result.verdict[0].toUpperCase() + result.verdict.slice(1);
  return draw.answer(
    draw.toneOf(result.verdict),
    verdict,
    draw.summary(result.sentences),
    ...draw.evidence(answer, text, result.sentences),
    draw.note(`All ${text.length.toLocaleString("en")} characters of the document were read.`),
  );
}

function cutNote({ truncated }, what) {
  if (!truncated) return [];
  return [
    draw.note(
      `The ${what} is longer than the ${model.tokens.window} tokens that the encoder reads at once: the rest ` +
        "was left out. Split long texts into passages to have all of them read.",
    ),
  ];
}

// Lines such as "delivery: This is about a delivery." or just "delivery" to hypotheses by name.
function parseCategories(lines) {
  const categories = new Map();
  lines.split(new RegExp(`\r\n|[${LINE_BREAKS}]`)).forEach((line, row) => {
    const [, before, , after] = /^([^:]*)(:?)(.*)$/s.exec(line);
    const [name, hypothesis] = [before.trim(), after.trim()];
    if (!name && !hypothesis) return;
    if (!name) {
      throw new TextError(`Line ${row + 1} of the categories has no name before the colon: write “name: sentence”.`);
    }
    if (categories.has(name)) {
      const shown = draw.quote(name, 60);
      throw new TextError(`The category “${shown}” is there twice, again in line ${row + 1}: name each one once.`);
    }
    categories.set(name, hypothesis || TEMPLATE.replace("{}", () => name));
  });
  if (!categories.size) {
    throw new TextError("There is no category yet: write one a line, such as “delivery: This is about a delivery.”");
  }
  if (categories.size > MAX_CATEGORIES) {
    throw new TextError(`There are ${categories.size} categories, but this page takes up to ${MAX_CATEGORIES}.`);
  }
  return categories;
}

// The text of a field, as it is judged.
function textOf(field) {
  const [what] = find(`label[for=${field.id}]`).textContent.toLowerCase().split(":");
  const text = field.value.trim();
  if (!text) throw new TextError(`The field “${what}” is empty: write something into it.`);
  if (text.length > MAX_CHARACTERS) {
    const [size, most] = [text.length, MAX_CHARACTERS].map((count) => count.toLocaleString("en"));
    throw new TextError(`The field “${what}” has ${size} characters, but this page takes up to ${most}.`);
  }
  return text;
}

// Answer what a tab asks, after what was asked before it; while that takes long, say how far it is.
function ask(name) {
  const panel = find(`#${name}`);
  const output = panel.querySelector(".output");
  const asked = (panel.asked = {});
  const isLast = () => panel.asked === asked;
  const bar = draw.element("progress", { max: "1", value: "0", "aria-label": "Judging" });
  const working = draw.element("div", { class: "answer working" }, draw.element("p", {}, "Judging …"), bar);
  const slow = setTimeout(() => isLast() && output.replaceChildren(working), 400);
  const answer = async () => {
    try {
      if (!isLast()) return;
      const texts = [...panel.querySelectorAll("textarea")].map(textOf);
      const drawn = await ASKED[name](...texts, (done) => (bar.value = done));
      if (isLast()) output.replaceChildren(drawn);
    } catch (error) {
      if (isLast()) output.replaceChildren(draw.problem(explained(error)));
    } finally {
      clearTimeout(slow);
    }
  };
  work = work.then(answer);
}

function explained(error) {
  if (error instanceof TextError) return error.message;
  console.error(error);
  return "This could not be judged: an error that the page did not expect, now in the browser's console.";
}

function setUpTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const choose = (tab) => {
    for (const one of tabs) {
      const chosen = one === tab;
      one.setAttribute("aria-selected", chosen);
      one.tabIndex = chosen ? 0 : -1;
      find(`#${one.getAttribute("aria-controls")}`).hidden = !chosen;
    }
    const name = tab.getAttribute("aria-controls");
    if (model && !find(`#${name}`).asked) ask(name);
  };
  tabs.forEach((tab, row) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      if (!step) return;
      const next = tabs.at((row + step) % tabs.length);
      choose(next);
      next.focus();
    });
  });
}

function setUpForms(examples) {
  for (const [name, rows] of Object.entries(examples)) {
    const form = find(`#${name} form`);
    const fields = [...form.querySelectorAll("textarea")];
    const fill = (texts) => fields.forEach((field, place) => (field.value = texts[place]));
    fill(rows[0].slice(1));
    for (const [title, ...texts] of rows) {
      const button = draw.element("button", { type: "button", disabled: "" }, title);
      button.addEventListener("click", () => {
        fill(texts);
        ask(name);
      });
      form.querySelector(".examples").append(button);
    }
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      ask(name);
    });
    form.addEventListener("keydown", (event) => {
      const asks = event.target.matches("[data-enter]") ? !event.shiftKey : event.ctrlKey || event.metaKey;
      if (event.key !== "Enter" || event.isComposing || !event.target.matches("textarea") || !asks) return;
      event.preventDefault();
      if (model) ask(name);
    });
  }
}

function setUpRisks() {
  const offered = choices(model.config);
  const usual = offered.filter(({ threshold }) => threshold <= model.config.abstention_threshold + 1e-9);
  const say = (chosen) => {
    limit = chosen;
    find("#guarantee").replaceChildren(
      draw.element("p", { class: "cost" }, chosen.guarantee),
      draw.element("p", { class: "detail" }, chosen.detail),
    );
  };
  if (!offered.length) return say(nothing(model.config));
  const select = find("#risk");
  offered.forEach(({ risk }, row) => select.append(draw.element("option", { value: row }, percent(risk))));
  const start = usual.at(-1) ?? offered[0];
  select.value = offered.indexOf(start);
  for (const part of [select, find("label[for=risk]")]) part.hidden = false;
  select.addEventListener("change", () => {
    say(offered[select.value]);
    ask("pair");
  });
  say(start);
}

function setUpLook() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => document.documentElement.classList.toggle("dark", dark.matches);
  dark.addEventListener("change", apply);
  apply();
}

async function start() {
  setUpLook();
  setUpTabs();
  try {
    const { files, examples, about } = await (await fetch("index.json")).json();
    setUpForms(examples);
    find("#about").textContent = about;
    model = await loadModel(files, (read, total) => {
      find("#progress").value = read / total;
      find("#loaded").textContent =
        read < total ? `${megabytes(read)} of ${megabytes(total)} MB` : "Preparing it …";
    });
  } catch (error) {
    console.error(error);
    const told = `The model could not be loaded: ${error.message} Load the page again.`;
    find("#loading").replaceChildren(draw.problem(told));
    return;
  }
  find("#loading").hidden = true;
  setUpRisks();
  for (const button of document.querySelectorAll("form button")) button.disabled = false;
  ask(find("[role=tab][aria-selected=true]").getAttribute("aria-controls"));
}

start();
