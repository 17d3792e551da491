// Airflow's own API, with the session that the browser has: addresses are relative, so that a prefix of Airflow's stays.

import { address as shown } from "./frame.js";

const API = "../api/v2/";

export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

// The answer as JSON; Refused with words for a person where it is not 2xx.
export async function ask(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, { credentials: "same-origin", headers: { Accept: "application/json" }, ...options });
  } catch {
    throw new Refused(0, "Airflow does not answer.");
  }
  if (answer.ok) return answer.json();
  throw new Refused(answer.status, await reason(answer));
}

async function reason(answer) {
  if (answer.status === 401) return "You are not logged in to Airflow, or no longer.";
  if (answer.status === 403) return "Your account may not do this in Airflow.";
  const body = await answer.json().catch(() => ({}));
  if (typeof body.detail === "string") return body.detail;
  return `Airflow answered ${answer.status}${body.detail ? `: ${JSON.stringify(body.detail)}` : ""}.`;
}

// Every page of a list. name: the key that holds it.
async function listed(address, name) {
  const found = [];
  for (;;) {
    const answer = await ask(`${API}${address}&limit=100&offset=${found.length}`);
    found.push(...answer[name]);
    if (!answer[name].length || found.length >= answer.total_entries) return found;
  }
}

// {dag_id: {dag, runs}} of the DAGs that are Evergreen's.
export async function dagStates() {
  const [dags, runs] = await Promise.all([
    listed("dags?tags=evergreen", "dags"),
    listed("dags/~/dagRuns?state=running&state=queued&dag_id_prefix_pattern=retrain_", "dag_runs"),
  ]);
  return new Map(dags.map((dag) => [dag.dag_id, { dag, runs: runs.filter((run) => run.dag_id === dag.dag_id) }]));
}

export function trigger(dagId, conf) {
  return ask(`${API}dags/${encodeURIComponent(dagId)}/dagRuns`, {
    method: "POST",
    headers: { Accept: "application/json", "Content-Type": "application/json" },
    body: JSON.stringify({ logical_date: null, conf }),
  });
}

export const logIn = () => `${API}auth/login?next=${encodeURIComponent(shown())}`;
