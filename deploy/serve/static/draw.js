// Answers and times as words, figures and elements. What comes from the server goes in as text, never as HTML.

import { ROUNDS, TOP } from "./ask.js";

const PARTS = [
  ["prepare", "decode and resize"],
  ["queue", "wait for its turn"],
  ["total", "in the server, in all"],
  ["trip", "round trip from here"],
];

const figure = (ms) => ms.toFixed(ms < 1 ? 2 : ms < 100 ? 1 : 0);
const percent = (score) => {
  if (typeof score !== "number") return "no number"; // a model can compute NaN
  if (score > 0 && score < 0.001) return "< 0.1 %";
  return score < 1 && score > 0.999 ? "> 99.9 %" : `${(100 * score).toFixed(1)} %`;
};
const label = ({ index, label: name }) => (name === String(index) ? `class ${index}` : name);
const joined = (words) => new Intl.ListFormat("en").format(words);

function spread(run, part) {
  const sorted = run.times.map((ms) => ms[part]).sort((a, b) => a - b);
  return { least: sorted[0], median: sorted[(sorted.length - 1) / 2], most: sorted.at(-1) };
}

function titled(models) {
  const count = (variant) => models.filter((model) => model.variant === variant).length;
  return (model) => (count(model.variant) > 1 ? model.name : model.variant.toUpperCase());
}

/** What a variant answers and takes beside the first of the same model, which is the float one if that is served. */
function compared(first, other, title) {
  const [mine, reference] = [title(other.model), title(first.model)];
  const [top, expected] = [other.answers[0], first.answers[0]];
  const same = top.index === expected.index;
  const answer = same
    ? `${mine} gives the same top answer as ${reference}: ${label(top)}.`
    : `${mine} gives another top answer than ${reference}: ${label(top)} instead of ${label(expected)}.`;
  const [took, base] = [spread(other, "infer"), spread(first, "infer")];
  const ratio = (took.median / base.median).toFixed(2);
  const apart = took.most < base.least || took.least > base.most;
  const doubt = apart ? "" : ` The ranges of the ${ROUNDS} overlap, so this may be chance.`;
  return [`${answer} Its time in the model is ${ratio}\u00a0×\u00a0${reference}’s.${doubt}`, same ? "same" : "differs"];
}

function element(tag, name, ...content) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...content);
  return made;
}

function drawAnswer(answer) {
  const bar = element("span", "bar", element("span", "fill"));
  bar.firstChild.style.width = `${100 * answer.score}%`;
  bar.setAttribute("aria-hidden", "true");
  return element("li", "", element("span", "label", label(answer)), element("span", "percent", percent(answer.score)), bar);
}

function drawNone(words) {
  return Array.from({ length: TOP }, (_, row) => {
    const item = element("li", "none", element("span", "label", row ? "\u00a0" : words), element("span", "bar"));
    if (row) item.setAttribute("aria-hidden", "true");
    return item;
  });
}

function drawTimes(run) {
  const measured = run.times.length === ROUNDS;
  const { least, median, most } = measured ? spread(run, "infer") : {};
  const shared = run.shared ? `; ${run.shared} shared a batch with other requests` : "";
  const range = measured ? `median of ${ROUNDS}, ${figure(least)}–${figure(most)}${shared}` : "";
  const parts = element("dl", "parts");
  for (const [part, words] of PARTS) {
    parts.append(element("dt", "", words), element("dd", "", measured ? `${figure(spread(run, part).median)} ms` : "–"));
  }
  return [
    element(
      "p", "time",
      element("span", measured ? "big" : "big none", element("b", "", measured ? figure(median) : "–"), " ms"),
      element("span", "what", "in the model"), element("span", "range", range),
    ),
    parts,
  ];
}

function drawColumn(run, title, number) {
  const heading = element("h2", "", title(run.model));
  heading.id = `model-${number}`;
  const { name, variant, target } = run.model;
  const about = title(run.model) === name ? variant : name;
  const head = element("header", "", heading, element("p", "", `${about} · ${target}`));
  const answers = element("ol", "answers");
  if (run.answers) answers.append(...run.answers.map(drawAnswer));
  else answers.append(...drawNone(run.failure ? "no answer" : "no answer yet"));
  const column = element("article", "column", head, answers, ...drawTimes(run));
  column.setAttribute("aria-labelledby", heading.id);
  column.dataset.model = run.model.name;
  return column;
}

export function drawColumns(runs) {
  const title = titled(runs.map((run) => run.model));
  document.getElementById("columns").replaceChildren(...runs.map((run, number) => drawColumn(run, title, number)));
}

export function drawNote(models) {
  const skipped = models.filter((model) => !model.images).map((model) => model.name);
  const note = skipped.length ? [`Not asked, for they take no images: ${joined(skipped)}. `] : [];
  if (models.length - skipped.length === 1) {
    note.push("To compare, serve another bundle beside it: ", element("code", "", "octavo serve fp32.zip int8.zip"));
  }
  document.getElementById("note").replaceChildren(...note);
}

export function drawVerdict(runs) {
  const title = titled(runs.map((run) => run.model));
  const done = runs.filter((run) => !run.failure);
  const firstOf = (run) => done.find((other) => other.model.model === run.model.model);
  const lines = done.filter((run) => run !== firstOf(run)).map((run) => compared(firstOf(run), run, title));
  if (lines.length) document.getElementById("verdict").replaceChildren(...lines.map(([text, tone]) => element("p", tone, text)));
  else if (done.length === 1) drawWords(`${title(done[0].model)} answers: ${label(done[0].answers[0])}.`);
  else drawWords(done.length ? "These are different models; their answers are not compared." : "No answer.");
}

export function drawWords(text) {
  document.getElementById("verdict").replaceChildren(element("p", "unknown", text));
}
