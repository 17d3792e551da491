// One pipeline as a card: facts, chart, the last retrain in words, two buttons.

import { chart } from "./chart.js";
import { link, make, megabytes, number, seconds, when } from "./words.js";

export const dagPage = (dagId) => `../dags/${encodeURIComponent(dagId)}`;

const ACTIONS = {
  promote: "began to serve", rollback: "serves again", repair: "was put back", hold: "was held", approve: "was approved",
};

const COLOURS = {
  promoted: "good", awaiting_approval: "waits", awaiting_rollout: "waits", failed: "bad", rejected: "bad",
};

export function card(row, actions) {
  const title = make("h2", {}, link(row.name, dagPage(row.dag_id)));
  const state = row.fault
    ? make("span", { class: "pill failed" }, "faulty file")
    : make("span", { class: "pill", "data-dag": row.dag_id }, "…");
  const head = make("div", { class: "head" }, title, row.task && make("span", { class: "quiet" }, row.task), state);
  const body = row.fault ? broken(row) : whole(row, actions);
  return make("article", { class: row.fault ? "pipeline broken" : "pipeline", "data-name": row.name }, head, ...body);
}

function broken(row) {
  return [make("p", { class: "bad" }, "The pipeline file cannot be used:"), make("pre", {}, row.fault)];
}

function whole(row, actions) {
  const retrain = make("button", { type: "button", class: "primary" }, "Retrain");
  const back = make("button", { type: "button", disabled: !row.earlier.length }, "Roll back …");
  if (!row.earlier.length) back.title = "No earlier version has served";
  retrain.addEventListener("click", () => actions.retrain(row, retrain));
  back.addEventListener("click", () => actions.rollback(row));
  const next = make("span", { class: "quiet next", "data-next": row.dag_id });
  return [
    row.away && make("p", { class: "bad away", role: "alert" }, row.away),
    make("div", { class: "columns" },
      make("div", { class: "facts" }, champion(row), candidate(row)),
      figure(row),
      make("div", { class: "last" }, ...lastRetrain(row), moved(row))),
    make("div", { class: "foot" }, retrain, back, next),
  ].filter(Boolean);
}

function champion(row) {
  const it = row.champion;
  if (!it) return make("p", { class: "quiet" }, row.away ? "Not known now." : "Nothing serves yet.");
  const bars = it.value === null || it.low === null ? "" : ` [${number(it.low, 3)}, ${number(it.high, 3)}]`;
  const facts = [
    [row.metric, make("span", { class: "whole" }, make("strong", {}, number(it.value, 4)), bars)],
    ["file", `${it.variant}, ${megabytes(it.size_mb)}`],
    ["p95", it.p95_ms === null ? "–" : `${number(it.p95_ms, 1)} ms`],
    ["registered", when(it.registered)],
    ["serves since", row.serves_since ? when(row.serves_since) : "–"],
  ];
  const list = make("dl", {}, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  return make("div", {}, make("p", { class: "serving" }, "Serves: ", link(`version ${it.version}`, it.address)), list);
}

function candidate(row) {
  if (!row.candidate || row.candidate === row.champion?.version) return null;
  const where = link("Airflow", `${dagPage(row.dag_id)}/required_actions`);
  return make("p", { class: "waits" }, `Version ${row.candidate} waits: it is registered and does not serve. `, where);
}

function figure(row) {
  if (!row.history.length) return make("div");
  const words = `${row.metric} by version, with its interval`;
  return make("figure", {}, make("figcaption", { class: "quiet" }, words), chart(row));
}

function lastRetrain(row) {
  const it = row.last;
  if (!it) return [make("p", { class: "quiet" }, row.away ? "" : "No retrain has ended yet.")];
  const money = it.money < 1 ? Number(it.money?.toPrecision(2)) : it.money?.toFixed(2);
  const cost = [
    it.seconds === null ? null : `took ${seconds(it.seconds)}`,
    it.money === null ? null : `cost ${money} ${it.currency}`.trim(),
  ].filter(Boolean).join(", ");
  const told = [it.sentence, it.reason].filter(Boolean);
  const run = it.address ? [" · ", link("MLflow run", it.address)] : [];
  return [
    make("p", {}, "Last retrain ", it.ended && when(it.ended), cost && `, ${cost}`, ...run),
    make("p", { class: COLOURS[it.outcome] ?? "" }, it.words),
    told.length ? make("p", { class: "sentence" }, told[0]) : null,
    told.length > 1 && told[1] !== told[0] ? more(told[1]) : null,
  ];
}

function more(reason) {
  return make("details", {}, make("summary", {}, "Reason"), make("pre", {}, reason));
}

function moved(row) {
  const it = row.moved;
  if (!it) return null;
  const what = it.version ? `Version ${it.version} ${ACTIONS[it.action] ?? it.action}` : "A retrain was held";
  return make("p", { class: "quiet" }, `Ledger: ${what} `, when(it.when), ` by ${it.who}: ${it.reason}`);
}
