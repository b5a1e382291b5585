// Elements, made in one call. Text is always text: nothing is ever parsed as HTML.
//
//     h("button", { class: "plain", onclick: save, "aria-pressed": "false" }, icon("play"), "Play")

const SVG = "http://www.w3.org/2000/svg";

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

const ICONS = {
  play: "M7 4.5v15l12-7.5z",
  pause: "M7 5h3.5v14H7zM13.5 5H17v14h-3.5z",
  back: "M11 6 4 12l7 6zM20 6l-7 6 7 6z",
  forward: "m13 6 7 6-7 6zM4 6l7 6-7 6z",
  copy: "M8 3h11v14h-3v4H4V7h4zm2 2v2h6v8h1V5zM6 9v10h8V9z",
  print: "M7 3h10v5h3v9h-3v4H7v-4H4V8h3zm2 2v3h6V5zm0 10v4h6v-4z",
  trash: "M9 3h6l1 2h4v2H4V5h4zM6 9h12l-1 12H7zm3.5 2 .4 8h1.4l-.3-8zm3.6 0-.3 8h1.3l.4-8z",
  edit: "m4 16.5 10.5-10.5 3.5 3.5L7.500 20H4zM16 4.500 17.500 3 21 6.500 19.500 8z",
  undo: "M9 5v4h5.500a5 5 0 0 1 0 10H8v-2.500h6.500a2.500 2.500 0 0 0 0-5H9V16l-6-5.500z",
  mic: "M9 5a3 3 0 0 1 6 0v6a3 3 0 0 1-6 0zM5.500 11h2a4.500 4.500 0 0 0 9 0h2a6.500 6.500 0 0 1-5.500 6.400V21h-2v-3.600A6.500 6.500 0 0 1 5.500 11z",
  stop: "M6 6h12v12H6z",
  close: "m6 7.400L7.400 6 12 10.600 16.600 6 18 7.400 13.400 12 18 16.600 16.600 18 12 13.400 7.400 18 6 16.600 10.600 12z",
  left: "M14.500 5 7 12l7.500 7 1.500-1.500L10 12l6-5.500z",
  upload: "M11 15V8l-3 3-1.500-1.500L12 4l5.500 5.500L16 11l-3-3v7zM4 15h2v3h12v-3h2v5H4z",
};

/** A drawing that says nothing to a screen reader: the text beside it, or an aria-label, does. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Let the page answer its user before the work goes on. */
export const yieldToPage = () => globalThis.scheduler?.yield?.() ?? new Promise((resume) => setTimeout(resume));

/** To be heard by a screen reader, and seen for some seconds. */
export function say(text, kind = "note") {
  const note = h("div", { class: `toast ${kind}`, role: kind === "error" ? "alert" : "status" }, h("span", {}, text));
  const gone = () => note.remove();
  note.append(h("button", { class: "plain", "aria-label": "Dismiss", onclick: gone }, icon("close")));
  byId("toasts").append(note);
  if (kind !== "error") setTimeout(gone, 6000);
}

export function sayError(error) {
  if (error.name === "AbortError") return;
  say(error.message || String(error), "error");
}
