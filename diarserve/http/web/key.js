// The access key: asked for where the server wants one, and forgotten with the tab.

import { byId, h } from "./dom.js";

const NAME = "diarserve-key";

export const currentKey = () => sessionStorage.getItem(NAME) ?? "";
export const forgetKey = () => sessionStorage.removeItem(NAME);

/** Ask for a key; resolves when one was entered. */
export function askForKey(message = "") {
  const dialog = byId("key-dialog");
  const input = h("input", { id: "key-input", type: "password", autocomplete: "off", required: true, spellcheck: false });
  return new Promise((resolve) => {
    const form = h(
      "form",
      { method: "dialog", onsubmit: () => { sessionStorage.setItem(NAME, input.value.trim()); resolve(); } },
      h("h2", { id: "key-title" }, "This server needs an access key"),
      h("p", {}, "Whoever operates it makes one with ", h("code", {}, "diarserve keys add"), ". It is kept in this tab until you close it."),
      message && h("p", { class: "problem", role: "alert" }, message),
      h("label", { for: "key-input" }, "Access key"),
      input,
      h("div", { class: "actions" }, h("button", { class: "primary" }, "Use this key")),
    );
    dialog.replaceChildren(form);
    dialog.oncancel = (event) => event.preventDefault();
    dialog.showModal();
    input.focus();
  });
}
