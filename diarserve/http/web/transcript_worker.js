// Gets a transcript and takes it apart, away from the page: hours of it would hold the page up for longer than an eye
// notices. It answers { head }, then { segments } and { turns } in pieces, then { done }.

const PIECE = 100; // segments, some 800 words: the page takes one in a few milliseconds

onmessage = async ({ data: { url, headers } }) => {
  try {
    const answer = await fetch(url, { headers });
    if (!answer.ok) {
      postMessage({ failed: { status: answer.status, text: await answer.text() } });
      return;
    }
    const { segments, turns, text, ...head } = await answer.json();
    const words = segments.reduce((sum, segment) => sum + segment.words.length, 0);
    postMessage({ head: { ...head, words, segments: segments.length } });
    for (let first = 0; first < segments.length; first += PIECE) {
      postMessage({ segments: segments.slice(first, first + PIECE) });
    }
    for (let first = 0; first < turns.length; first += 1000) postMessage({ turns: turns.slice(first, first + 1000) });
    postMessage({ done: true });
  } catch (error) {
    postMessage({ failed: { status: 0, text: String(error) } });
  }
};
