// The page: what the address names is shown. #/, #/task/ID, #/live, #/voices

import { getJson } from "./api.js";
import { byId, h, icon, sayError } from "./dom.js";
import { Drop } from "./drop.js";
import { askForKey } from "./key.js";
import { LiveView } from "./live.js";
import { Tasks } from "./tasks.js";
import { TaskView } from "./task_view.js";
import { startTheme } from "./theme.js";
import { VoicesView } from "./voices.js";

const content = byId("content");
const tasks = new Tasks();
let features, drop, view;

async function start() {
  startTheme();
  for (let message = ""; ; ) {
    try {
      features = await getJson("features");
      break;
    } catch (error) {
      if (error.status !== 401) {
        content.replaceChildren(h("div", { class: "empty" }, h("h1", {}, "The server does not answer"), h("p", {}, error.message), h("button", { class: "primary", onclick: () => location.reload() }, "Try again")));
        return;
      }
      await askForKey(message);
      message = "This key is not known here, or was revoked.";
    }
  }
  drop = new Drop(features, accepted);
  byId("side").append(drop.element, tasks.element);
  byId("voices-link").hidden = !features.features.stored_voices;
  addEventListener("hashchange", show);
  show(); // without waiting for the list: a transcript of hours takes long enough
  listed();
}

/** A recording is with the server. The only one is opened, so that one sees what becomes of it. */
function accepted(id, only) {
  listed();
  if (only && !(view instanceof LiveView)) location.hash = `#/task/${id}`;
}

function listed() {
  tasks.refresh().then(() => tasks.mark(location.hash.split("/")[2]), sayError);
}

function show() {
  view?.close?.();
  view = null;
  const [, route = "", id = ""] = location.hash.split("/");
  document.body.dataset.route = route || "home";
  for (const link of document.querySelectorAll("[data-route]")) {
    if (link === document.body) continue;
    if (link.dataset.route === (route === "task" ? "home" : route || "home")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  tasks.mark(id);
  if (route === "task" && id) view = new TaskView(id, features, { deleted: () => { tasks.remove(id); location.hash = "#/"; }, ended: () => tasks.refresh().catch(sayError) });
  else if (route === "live") view = new LiveView(features, (task) => tasks.refresh().then(() => (location.hash = `#/task/${task}`), sayError), (file) => drop.take([file]));
  else if (route === "voices") view = new VoicesView();
  content.replaceChildren(view ? view.element : welcome());
  if (view) content.focus({ preventScroll: true });
  else document.title = "diarserve";
}

function welcome() {
  return h(
    "div",
    { class: "empty" },
    h("h1", {}, "Who said what"),
    h("p", {}, "Drop a recording, or several. You get a transcript in which every word has a speaker, to listen to, correct and download."),
    h("div", { class: "actions" }, h("button", { class: "primary", onclick: () => drop.choose() }, icon("upload"), "Choose recordings"), h("a", { class: "button", href: "#/live" }, icon("mic"), "Talk instead")),
    h("p", { class: "hint" }, "Recordings are worked on by this server alone, and removed when they are done. Transcripts are kept for ", String(features.limits.keep_results_hours), " h."),
  );
}

start().catch(sayError);
