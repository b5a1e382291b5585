// The list of tasks: those of this key, or all where the server has no keys. It is the server's, so a reload keeps it.

import { getJson } from "./api.js";
import { moment } from "./clock.js";
import { h } from "./dom.js";

const PAGE = 50;
const PAUSE = 2000; // milliseconds between looks while something is under way
const WORDS = { queued: "waiting", processing: "at work", completed: "done", failed: "failed", cancelled: "cancelled", expired: "no longer kept" };

export class Tasks {
  constructor() {
    this.shown = new Map(); // rows by id
    this.next = null;
    this.timer = 0;
    this.list = h("ul", { class: "tasks" });
    this.more = h("button", { class: "plain wide", hidden: true, onclick: () => this.older() }, "Show older ones");
    this.empty = h("p", { class: "hint", hidden: true }, "Nothing yet. What you transcribe is listed here.");
    this.element = h("section", { "aria-labelledby": "tasks-title" }, h("h2", { id: "tasks-title" }, "Transcripts"), this.list, this.empty, this.more);
  }

  /** Look for what is new, and go on while something is under way. */
  async refresh() {
    clearTimeout(this.timer);
    const page = await getJson(`tasks?limit=${PAGE}`);
    const old = [...this.shown.keys()];
    const newest = new Set(page.tasks.map((task) => task.task_id));
    if (page.tasks.length < PAGE) for (const id of old) if (!newest.has(id)) this.remove(id);
    for (const task of page.tasks.toReversed()) this.show(task, true);
    if (old.length === 0) this.next = page.next;
    this.finish();
    if (page.tasks.some((task) => task.status === "queued" || task.status === "processing")) {
      this.timer = setTimeout(() => this.refresh().catch(() => {}), PAUSE);
    }
  }

  async older() {
    const page = await getJson(`tasks?limit=${PAGE}&before=${encodeURIComponent(this.next)}`);
    for (const task of page.tasks) this.show(task, false);
    this.next = page.next;
    this.finish();
  }

  finish() {
    this.more.hidden = !this.next;
    this.empty.hidden = this.shown.size > 0;
  }

  show(task, first) {
    let row = this.shown.get(task.task_id);
    if (!row) {
      row = this.row(task);
      this.shown.set(task.task_id, row);
      if (first) this.list.prepend(row.element);
      else this.list.append(row.element);
    }
    row.task = task;
    row.element.dataset.status = task.status;
    row.state.textContent = WORDS[task.status];
    const working = task.status === "queued" || task.status === "processing";
    row.bar.hidden = !working;
    if (working) row.bar.value = task.progress / 100;
  }

  row(task) {
    const state = h("span", { class: "state" });
    const bar = h("progress", { max: 1, value: 0, "aria-label": `Progress of ${task.filename}` });
    const link = h("a", { href: `#/task/${task.task_id}` }, h("span", { class: "name" }, task.filename), h("span", { class: "when" }, h("time", { datetime: task.created_at }, moment(task.created_at)), " · ", state), bar);
    return { element: h("li", {}, link), state, bar, task };
  }

  remove(id) {
    this.shown.get(id)?.element.remove();
    this.shown.delete(id);
    this.finish();
  }

  /** Which one is open. */
  mark(id) {
    for (const [other, row] of this.shown) {
      const link = row.element.firstChild;
      if (other === id) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  find(id) {
    return this.shown.get(id)?.task;
  }
}
