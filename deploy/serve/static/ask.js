// What the page asks the server: which models there are, and each for its answers and times.

export const ROUNDS = 5; // that count; one before them does not
export const TOP = 5;

const UNREACHABLE = "The server cannot be reached. Is it still running?";
const SAID = {
  400: "The server cannot use this file",
  408: "The image took too long to arrive",
  413: "Too large for the server",
  429: "The server is busy",
  503: "The server cannot answer now",
};

/** What is said to the person; `whole` where no model could answer either. */
export class Failure extends Error {
  constructor(text, whole = false) {
    super(text);
    this.whole = whole;
  }
}

async function ask(address, options) {
  let response, text;
  try {
    response = await fetch(address, options);
    text = await response.text();
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Failure(UNREACHABLE, true);
  }
  let told = null;
  try {
    told = JSON.parse(text);
  } catch { /* of a proxy, or of a server that has no connection left */ }
  if (response.ok && told) return told;
  const { status } = response;
  const reason = typeof told?.error === "string" ? told.error : `status ${status}`;
  throw new Failure(`${SAID[status] ?? "The server answered with an error"}: ${reason}.`, status === 429 || status === 503);
}

export async function catalogue(signal) {
  const { models } = await ask("v2/models", { cache: "no-store", signal });
  if (!Array.isArray(models)) throw new Failure("This is no server of Octavo.", true);
  const float = (model) => (model.variant === "fp32" ? 0 : 1);
  return models.toSorted((a, b) => float(a) - float(b));
}

/** What is to become of a model: answers and times, or a failure. */
export const fresh = (models) =>
  models
    .filter((model) => model.images)
    .map((model) => ({ model, answers: null, times: [], shared: 0, failure: null }));

async function classify(model, body, signal) {
  const address = `v2/models/${encodeURIComponent(model.name)}/classify?top=${TOP}`;
  const started = performance.now();
  const told = await ask(address, { method: "POST", body, signal });
  return { told, ms: { ...told.ms, trip: performance.now() - started } };
}

/** Asks all models in turn, in the other order every other round, so that none always comes first. */
export async function rounds(runs, body, signal, done) {
  for (let round = 0; round <= ROUNDS; round += 1) {
    for (const run of round % 2 ? runs.toReversed() : runs) {
      if (run.failure) continue;
      try {
        const { told, ms } = await classify(run.model, body, signal);
        run.answers ??= told.answers;
        if (round > 0) {
          run.times.push(ms);
          run.shared += told.batch_rows > 1 ? 1 : 0;
        }
      } catch (error) {
        if (!(error instanceof Failure) || error.whole) throw error;
        run.failure = error.message;
      }
    }
    await done(round);
  }
}
