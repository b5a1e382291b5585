// The one dialog of the page.

import { byId, h, icon } from "./dom.js";

/** Show it; `body` are its elements, and `onSubmit` is told when the form is sent. Returns a function that closes it. */
export function openDialog(title, body, onSubmit) {
  const dialog = byId("dialog");
  const close = () => dialog.close();
  const submitted = async (event) => {
    event.preventDefault();
    close();
    await onSubmit?.();
  };
  dialog.replaceChildren(
    h(
      "form",
      { onsubmit: submitted },
      h("div", { class: "dialog-head" }, h("h2", { id: "dialog-title" }, title), h("button", { type: "button", class: "plain", "aria-label": "Close", onclick: close }, icon("close"))),
      ...body,
    ),
  );
  dialog.showModal();
  return close;
}
