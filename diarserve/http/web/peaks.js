// How loud a recording is, from end to end.

const BINS = 2000;
const LONGEST = 45 * 60; // seconds that are decoded as a whole: at 8 kHz that is 86 MB

/** Numbers from 0 to 1; null where it would take too much memory, or the browser cannot decode it. */
export async function peaksOf(file, seconds) {
  const found = await ofWav(file);
  if (found || seconds > LONGEST) return found;
  try {
    const buffer = await new OfflineAudioContext(1, 1, 8000).decodeAudioData(await file.arrayBuffer());
    return inBins(buffer.getChannelData(0));
  } catch {
    return null;
  }
}

function ofWav(file) {
  return new Promise((resolve) => {
    const worker = new Worker(new URL("peaks_worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }) => {
      worker.terminate();
      resolve(data);
    };
    worker.onerror = () => resolve(null);
    worker.postMessage(file);
  });
}

async function inBins(samples) {
  const found = new Float32Array(BINS);
  const size = samples.length / BINS;
  for (let bin = 0; bin < BINS; bin += 1) {
    const past = Math.floor((bin + 1) * size);
    for (let index = Math.floor(bin * size); index < past; index += 2) found[bin] = Math.max(found[bin], Math.abs(samples[index]));
    if (bin % 200 === 0) await new Promise((resume) => setTimeout(resume));
  }
  const loudest = Math.max(0.01, ...found);
  return found.map((one) => one / loudest);
}
