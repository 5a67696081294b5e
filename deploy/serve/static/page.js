// The page of `octavo serve`: an image goes to one model after another, their answers and times stand side by side.

import { Failure, ROUNDS, catalogue, fresh, rounds } from "./ask.js";
import { drawColumns, drawNote, drawVerdict, drawWords } from "./draw.js";

const QUIET_MS = 250; // for the browser to draw the answers, which would disturb a server on the same machine
const ACCEPTED = ["image/jpeg", "image/png"];

const byId = (id) => document.getElementById(id);
const state = { models: null, file: null, running: null };

function busy(count) {
  const bar = byId("progress");
  byId("results").setAttribute("aria-busy", String(count > 0));
  bar.hidden = count === 0;
  bar.max = Math.max(count, 1);
  bar.value = 0;
}

function failed(error) {
  byId("problem").textContent = error instanceof Failure ? error.message : `The page has a bug: ${error.message}`;
  byId("again").textContent = "Try again";
  byId("again").hidden = false;
}

async function bytes(file) {
  try {
    return await file.arrayBuffer();
  } catch {
    throw new Failure(`${file.name} cannot be read. Is it a folder, or gone?`, true);
  }
}

async function measure(signal) {
  state.models = await catalogue(signal);
  const runs = fresh(state.models);
  drawNote(state.models);
  drawColumns(runs);
  if (!runs.length) throw new Failure("No model on this server takes images.", true);
  if (!state.file) {
    if (document.activeElement === byId("again")) byId("file").focus();
    byId("again").hidden = true;
    return;
  }
  const body = await bytes(state.file);
  await rounds(runs, body, signal, async (round) => {
    byId("progress").value = round + 1;
    if (round > 0) return;
    drawColumns(runs);
    await new Promise((resolve) => { setTimeout(resolve, QUIET_MS); });
    signal.throwIfAborted();
  });
  drawColumns(runs);
  drawVerdict(runs);
  const failures = new Set(runs.flatMap((run) => run.failure ?? []));
  if (failures.size) throw new Failure([...failures].join(" "));
  byId("again").textContent = "Measure again";
  byId("again").hidden = false;
}

/** Begins anew; what was running ends without a word. */
async function start() {
  state.running?.abort();
  const running = new AbortController();
  state.running = running;
  byId("problem").textContent = "";
  drawColumns(fresh(state.models ?? []));
  if (state.file) {
    drawWords("Asking …");
    busy(ROUNDS + 1);
  }
  try {
    await measure(running.signal);
  } catch (error) {
    if (running.signal.aborted) return;
    if (state.file && (!(error instanceof Failure) || error.whole)) drawWords("No answer.");
    failed(error);
  }
  busy(0);
}

function take(files, nothing) {
  const [file] = files;
  if (!file) {
    byId("hint").textContent = nothing;
    return;
  }
  const hints = files.length > 1 ? [`The first of ${files.length} files.`] : [];
  if (!ACCEPTED.includes(file.type)) hints.push("This looks like neither JPEG nor PNG; the server decides.");
  byId("hint").textContent = hints.join(" ");
  byId("name").textContent = file.name;
  byId("ways").textContent = "Choose, drop or paste another.";
  const preview = byId("preview");
  URL.revokeObjectURL(preview.src);
  preview.hidden = false;
  preview.src = URL.createObjectURL(file);
  state.file = file;
  start();
}

const input = byId("file");
const hover = (on) => byId("zone").classList.toggle("over", on);
input.addEventListener("click", () => { input.value = ""; }); // so that the same file can be chosen again
input.addEventListener("change", () => { if (input.files.length) take(input.files, ""); });
byId("preview").addEventListener("error", () => { byId("preview").hidden = true; });
byId("again").addEventListener("click", start);
document.addEventListener("paste", (event) => take(event.clipboardData.files, "There is no image in the clipboard."));
document.addEventListener("dragover", (event) => { event.preventDefault(); hover(true); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) hover(false); });
document.addEventListener("drop", (event) => {
  event.preventDefault(); // which would leave the page
  hover(false);
  take(event.dataTransfer.files, "That was no file. Save the image first, then drop it.");
});
start();
