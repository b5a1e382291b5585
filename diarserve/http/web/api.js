// The server, as the page asks it. Addresses are relative to this file, so a path prefix does no harm.

import { currentKey, forgetKey } from "./key.js";

export const BASE = new URL("../", import.meta.url);
const API = new URL("api/v1/parallel/", BASE);

/** What the server answered, or that it did not. `message` says what to do. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const address = (path) => new URL(path, API);

export function keyHeaders() {
  const key = currentKey();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** The answer, whatever its body is. Throws ApiError. */
export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(address(path), { ...options, headers: { ...keyHeaders(), ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The server cannot be reached. Is it running, and are you online?");
  }
  if (!answer.ok) throw problem(answer.status, await answer.text());
  return answer;
}

export const getJson = async (path, options) => (await ask(path, options)).json();

export async function sendJson(method, path, body) {
  const headers = { "Content-Type": "application/json" };
  return (await ask(path, { method, headers, body: JSON.stringify(body) })).json();
}

export function problem(status, text) {
  let error = {};
  try {
    error = JSON.parse(text).error ?? {};
  } catch {
    // a proxy's own page
  }
  if (status === 401) forgetKey();
  const plain = { 413: "The recording is larger than this server or a proxy before it takes.", 502: "The server behind the proxy does not answer. Try again in a minute." };
  return new ApiError(status, error.code ?? "http_error", error.message ?? plain[status] ?? `The server answered ${status}. Try again in a minute.`);
}

/** Send a form, and say how much of it is sent. XMLHttpRequest: fetch does not tell. */
export function upload(path, form, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address(path));
    for (const [name, value] of Object.entries(keyHeaders())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => {
      if (request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(problem(request.status, request.responseText));
    };
    request.onerror = () => reject(new ApiError(0, "unreachable", "The upload broke off. Check the connection and send the recording again."));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal?.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** Server-sent events. EventSource cannot send a key. Yields [name, data]. */
export async function* events(path, signal) {
  const answer = await ask(path, { signal, headers: { Accept: "text/event-stream" } });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const event = { name: "message", data: "" };
      for (const line of block.split("\n")) {
        if (line.startsWith("event: ")) event.name = line.slice(7);
        else if (line.startsWith("data: ")) event.data += line.slice(6);
      }
      if (event.data) yield [event.name, JSON.parse(event.data)];
    }
  }
}
