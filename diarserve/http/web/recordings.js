// Recordings that this tab has at hand, by task: the server does not keep them.

const held = new Map();

export const keepRecording = (task, file) => held.set(task, file);
export const recordingOf = (task) => held.get(task);
