// The profile Clips of bench/locustfile.py with k6: every user asks again as soon as it has its answer.
// `python -m bench.load_profile --k6 k6` starts the server and tells this script what it needs by --env.
import http from "k6/http";
import { Trend } from "k6/metrics";

const told = {
  URL: "http://127.0.0.1:8000",
  USERS: 4,
  SECONDS: 60,
  STOP: 300, // seconds for the answers that are still awaited when the time is up
  AUDIO: 30, // seconds of the recording
  MAX_ERRORS: 0.01,
  MAX_P95: 10, // seconds
  MAX_RTF: 0.3,
  ...__ENV,
};
// As bench/bounds.py.
if (!/^http:\/\/(127(\.\d{1,3}){3}|localhost|\[::1\])(:\d+)?$/.test(told.URL))
  throw new Error(`${told.URL} is not an address of the loopback interface`);
if (!(told.USERS >= 1 && told.USERS <= 64 && told.SECONDS >= 1 && told.SECONDS <= 600))
  throw new Error("from 1 to 64 users, from 1 to 600 seconds");

const recording = open(told.RECORDING, "b");
const rtf = new Trend("rtf");

export const options = {
  scenarios: {
    clips: {
      executor: "constant-vus",
      vus: Number(told.USERS),
      duration: `${told.SECONDS}s`,
      gracefulStop: `${told.STOP}s`,
    },
  },
  thresholds: {
    http_req_failed: [`rate<=${told.MAX_ERRORS}`],
    http_req_duration: [`p(95)<=${told.MAX_P95 * 1000}`],
    rtf: [`avg<=${told.MAX_RTF}`],
  },
};

export default function () {
  const file = http.file(recording, "0.wav", "audio/wav");
  const answer = http.post(`${told.URL}/api/v1/parallel/transcribe`, { file }, { timeout: "600s" });
  if (answer.status === 200) rtf.add(answer.timings.duration / 1000 / told.AUDIO);
}
