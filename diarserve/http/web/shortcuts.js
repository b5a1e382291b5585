// Keys of the transcript's page, where no field or button has the focus.

export const SHORTCUTS = [
  ["Space or K", "play, pause"],
  ["← →", "5 s back, forward"],
  ["J L", "10 s back, forward"],
  ["< >", "slower, faster"],
  ["/", "search"],
  ["E", "edit what is being said"],
  ["F", "follow the spoken word, or not"],
  ["?", "this list"],
];

/** actions: by key, as KeyboardEvent.key has it in lower case. Returns what ends it. */
export function listen(actions) {
  const heard = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const { tagName } = event.target;
    if (["INPUT", "TEXTAREA", "SELECT"].includes(tagName) || event.target.getAttribute?.("role") === "slider") return;
    if (event.key === " " && ["BUTTON", "SUMMARY", "A"].includes(tagName)) return;
    const action = actions[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  };
  document.addEventListener("keydown", heard);
  return () => document.removeEventListener("keydown", heard);
}
