// The page: fetches the pipelines, keeps Airflow's state of them fresh, and starts what the buttons ask for.

import { ask, dagStates, logIn, Refused, trigger } from "./airflow.js";
import { card, dagPage } from "./card.js";
import { follow, framed } from "./frame.js";
import { link, make, when } from "./words.js";

const STATES_EVERY = 10_000, PIPELINES_EVERY = 60_000;
const at = (id) => document.getElementById(id);
let shown = ""; // what the cards were made from: equal answers leave them, and the focus in them, alone
let running = new Set();
let chosen = null; // the row that the dialog is about

function notice(kind, ...words) {
  const place = at("notice");
  place.className = `notice ${kind}`;
  place.replaceChildren(...words);
  place.hidden = !words.length;
}

function refused(error) {
  const words = error instanceof Refused ? error.message : `The page has a fault: ${error.message}`;
  const away = error.status === 401 || error.status === 403;
  notice("bad", words, ...(away ? [" ", make("a", { href: logIn() }, "Log in to Airflow")] : []));
}

async function showPipelines() {
  try {
    const found = await ask("api/pipelines");
    const text = JSON.stringify(found);
    if (text !== shown) {
      at("pipelines").replaceChildren(...(found.pipelines.length ? found.pipelines.map((row) => card(row, actions)) : [empty()]));
      at("count").textContent = found.pipelines.length === 1 ? "1 pipeline" : `${found.pipelines.length} pipelines`;
      at("mlflow").hidden = !/^https?:\/\//.test(found.mlflow ?? "");
      if (!at("mlflow").hidden) at("mlflow").href = found.mlflow;
      shown = text;
    }
    if (at("notice").classList.contains("bad")) notice("");
  } catch (error) {
    refused(error);
  }
  at("loading").hidden = true;
}

function empty() {
  return make("div", { class: "state" }, make("h2", {}, "No pipelines yet"),
    make("p", {}, "A YAML file in the folder pipelines/ is one pipeline; it is here as soon as Airflow has read its DAG. ",
      "Pipelines whose DAG your account may not read are not shown."));
}

async function showStates() {
  let states;
  try {
    states = await dagStates();
  } catch (error) {
    for (const pill of document.querySelectorAll("[data-dag]")) setPill(pill, "unknown", "state unknown", error.message);
    return;
  }
  for (const pill of document.querySelectorAll("[data-dag]")) {
    const state = states.get(pill.dataset.dag);
    setPill(pill, ...inWords(state));
  }
  for (const place of document.querySelectorAll("[data-next]")) {
    place.replaceChildren(...next(states.get(place.dataset.next)?.dag));
  }
  const now = new Set([...states].filter(([, state]) => state.runs.length).map(([dagId]) => dagId));
  const ended = [...running].some((dagId) => !now.has(dagId));
  running = now;
  if (ended) await showPipelines().then(showStates);
}

function setPill(pill, kind, words, title = "") {
  pill.className = `pill ${kind}`;
  pill.textContent = words;
  pill.title = title;
}

function inWords(state) {
  if (!state) return ["unknown", "not in Airflow yet"];
  const active = state.runs.find((run) => run.state === "running");
  const paused = state.dag.is_paused;
  if (state.dag.has_import_errors) return ["failed", "import error", "Airflow cannot read the DAG file"];
  if (active) return ["running", "running", `since ${new Date(active.start_date).toLocaleString()}`];
  if (state.runs.length) return ["running", paused ? "paused, a run waits" : "queued"];
  return paused ? ["paused", "paused", "Runs start once it is switched on in Airflow"] : ["idle", "on"];
}

function next(dag) {
  if (!dag) return [];
  if (dag.is_paused) return ["Paused: a run waits until the DAG is switched on in Airflow."];
  return dag.next_dagrun_run_after ? ["Next run ", when(dag.next_dagrun_run_after)] : ["Next run: by new data or by hand"];
}

const actions = {
  async retrain(row, button) {
    button.disabled = true;
    try {
      const run = await trigger(row.dag_id, {});
      notice("good", `${row.name}: a retrain was started. `, runLink(row.dag_id, run));
      await showStates();
    } catch (error) {
      refused(error);
    }
    button.disabled = false;
  },

  rollback(row) {
    chosen = row;
    at("rollback-title").textContent = `Roll back ${row.name}`;
    at("rollback-error").hidden = true;
    const form = at("rollback-form");
    form.reset();
    form.elements.to.replaceChildren(...row.earlier.map((version, position) =>
      make("option", { value: version }, position ? `version ${version}` : `version ${version}, the last before`)));
    at("rollback").showModal();
    form.elements.reason.focus();
  },
};

function runLink(dagId, run) {
  return link("See the run in Airflow", `${dagPage(dagId)}/runs/${encodeURIComponent(run.dag_run_id)}`);
}

async function sendRollback(event) {
  event.preventDefault();
  const form = event.target, button = form.querySelector("[type=submit]");
  button.disabled = true;
  try {
    const conf = { model: chosen.name, to: form.elements.to.value || null, reason: form.elements.reason.value.trim() };
    const run = await trigger("rollback", conf);
    at("rollback").close();
    notice("good", `${chosen.name}: the rollback was started. `, runLink("rollback", run));
  } catch (error) {
    at("rollback-error").textContent = error.message;
    at("rollback-error").hidden = false;
  }
  button.disabled = false;
}

async function refresh() {
  await showPipelines();
  await showStates();
}

at("airflow").hidden = framed; // it is around the page already
document.addEventListener("click", follow);
at("rollback-form").addEventListener("submit", sendRollback);
at("rollback-cancel").addEventListener("click", () => at("rollback").close());
at("refresh").addEventListener("click", refresh);
setInterval(() => document.hidden || showStates(), STATES_EVERY);
setInterval(() => document.hidden || refresh(), PIPELINES_EVERY);
refresh();
