// The operator's page: queues, workers, and both models' overlap now. It looks once a second.

import { getJson } from "./api.js";
import { length } from "./clock.js";
import { byId, h } from "./dom.js";
import { askForKey } from "./key.js";
import { startTheme } from "./theme.js";
import { Timeline } from "./timeline.js";

const PAUSE = 1000; // milliseconds
const content = byId("content");
const timeline = new Timeline();
const numbers = h("dl", { class: "numbers" });
const overlap = h("div", { class: "overlap", role: "status" });
const active = h("tbody");
const lanes = h("div", { class: "lanes" });
const trouble = h("p", { class: "problem", role: "alert", hidden: true });

const jobsOf = (lane) => lane.workers.reduce((sum, worker) => sum + worker.jobs, 0);
const percent = (share) => `${Math.round(share)} %`;
const mebibytes = (bytes) => `${Math.round(bytes / 2 ** 20).toLocaleString()} MiB`;

function build() {
  content.replaceChildren(
    h("h1", {}, "Status"),
    trouble,
    numbers,
    h("section", { class: "card", "aria-labelledby": "models" }, h("h2", { id: "models" }, "Both models now"), overlap, timeline.element),
    h("section", { class: "card", "aria-labelledby": "tasks" }, h("h2", { id: "tasks" }, "At work"), h("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Tasks at work, scrollable" }, h("table", {}, h("thead", {}, h("tr", {}, ["Task", "Since", "Stage", "Words", "Speakers", "Whole"].map((text) => h("th", { scope: "col" }, text)))), active))),
    h("section", { "aria-labelledby": "lanes" }, h("h2", { id: "lanes" }, "Lanes and workers"), lanes),
  );
}

function show(stats, ready) {
  const { store, queue } = stats;
  numbers.replaceChildren(
    ...[
      ["Ready", ready.status === "ready" ? "yes" : "no"],
      ["In the queue", queue.queued],
      ["At work", stats.active_tasks.length],
      ["Done", store.ever_completed],
      ["Failed", store.tasks.failed],
      ["Audio", length(store.audio_seconds)],
      ["Average", `${stats.average_processing_time.toFixed(1)} s`],
      ["Workers", stats.workers],
    ].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value)))),
  );
  showOverlap(stats);
  active.replaceChildren(
    ...stats.active_tasks.map((task) => h("tr", {}, h("td", {}, h("a", { href: `./#/task/${task.task_id}` }, task.task_id.slice(0, 8))), h("td", {}, length(Date.now() / 1000 - task.created_at)), h("td", {}, task.stage), h("td", {}, percent(task.stages.transcribe ?? 0)), h("td", {}, percent(task.stages.diarize ?? 0)), h("td", {}, percent(task.progress)))),
  );
  if (!stats.active_tasks.length) active.append(h("tr", {}, h("td", { colspan: "6", class: "hint" }, "Nothing is being worked on.")));
  lanes.replaceChildren(...Object.entries(stats.lanes).map(([name, lane]) => laneCard(name, lane, ready.lanes[name])));
}

function showOverlap(stats) {
  const jobs = Object.fromEntries(Object.entries(stats.lanes).map(([name, lane]) => [name, jobsOf(lane)]));
  const most = Object.fromEntries(Object.entries(stats.lanes).map(([name, lane]) => [name, Math.max(1, ...timeline.looks.map((look) => look[name] ?? 0), lane.workers.length)]));
  timeline.add(jobs, most);
  const words = jobs.whisper ?? 0;
  const speakers = ["embedded", "clustering", "sortformer"].reduce((sum, name) => sum + (jobs[name] ?? 0), 0);
  const both = stats.active_tasks.filter(({ stages }) => stages.transcribe < 100 && stages.diarize < 100 && stages.decode === 100).length;
  const busy = timeline.looks.filter((look) => look.whisper || look.embedded || look.clustering || look.sortformer);
  const together = busy.filter((look) => look.whisper && (look.embedded || look.clustering || look.sortformer));
  const said = words && speakers ? "Both at work" : words ? "Words only" : speakers ? "Speakers only" : "Both idle";
  overlap.replaceChildren(
    h("strong", { class: words && speakers ? "both" : "" }, said),
    h("span", {}, `recognition: ${words} job${words === 1 ? "" : "s"}, diarization: ${speakers}; ${both} recording${both === 1 ? "" : "s"} with both models at once. Of the last ${busy.length} busy seconds, both were at work in ${together.length}.`),
  );
}

function laneCard(name, lane, state) {
  const model = Object.entries(lane.model).filter(([, value]) => ["string", "number"].includes(typeof value)).map(([key, value]) => `${key.replaceAll("_", " ")}: ${value}`);
  return h(
    "article",
    { class: `card lane ${state === "ready" ? "" : "bad"}` },
    h("h3", {}, name, h("span", { class: "badge" }, state ?? "unknown")),
    h("p", { class: "hint" }, model.slice(0, 4).join(" · ")),
    h("p", {}, `${lane.queued} queued${lane.queued ? `, the oldest for ${length(lane.oldest_queued)}` : ""}`),
    h("ul", {}, lane.workers.map((worker) => h("li", {}, h("span", {}, worker.pid ? `process ${worker.pid}` : "no process"), h("span", {}, `${worker.jobs} job${worker.jobs === 1 ? "" : "s"}`), h("span", {}, worker.device ?? ""), h("span", {}, Object.entries(worker.memory).slice(0, 1).map(([, bytes]) => mebibytes(bytes)).join("")), worker.restarts > 0 && h("span", { class: "warn" }, `${worker.restarts} restarts`), (worker.halted || worker.last_error) && h("small", { class: "problem" }, worker.halted ?? worker.last_error)))),
  );
}

async function look() {
  try {
    const ready = await fetch(new URL("../readyz", import.meta.url)).then((answer) => answer.json());
    show(await getJson("stats"), ready);
    trouble.hidden = true;
  } catch (error) {
    if (error.status === 401) await askForKey("It must be one of the role metrics or admin.");
    trouble.textContent = error.message;
    trouble.hidden = error.status === 401;
  }
  setTimeout(look, document.hidden ? 5 * PAUSE : PAUSE);
}

startTheme();
build();
look();
