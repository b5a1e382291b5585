"""Speech to words: Silero finds the speech, Whisper transcribes it, with the model that the request names."""

from __future__ import annotations

import logging
from collections.abc import Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from threading import Thread
from typing import Any, ClassVar, TypeVar

import numpy as np
from ctranslate2 import get_cuda_device_count
from faster_whisper.tokenizer import _LANGUAGE_CODES as LANGUAGES
from faster_whisper.vad import get_vad_model

from workers.engine import Engine, Interim, JobError, JobSteps, LiveSteps, StepOutputs, WorkItem
from workers.media.samples import Samples, load
from workers.messages import DetectLanguage, Listen, LiveRequest, Request, Transcribe, Transcript, Word
from workers.runtime import devices
from workers.whisper import gaps, languages, spoken_language
from workers.whisper.catalog import Catalog, weight
from workers.whisper.decoding import Decoding, Written
from workers.whisper.items import items as items_of
from workers.whisper.items import model_of, placed
from workers.whisper.live import Listener
from workers.whisper.model_cache import ModelCache
from workers.whisper.recognizer import Recognizer, Traits
from workers.whisper.vad import WINDOW, Chunk, Piece, chunks_of, pieces_of
from workers.words import in_order

T = TypeVar("T")
Steps = Generator[list[WorkItem], list[Any], T]  # a part of a job

log = logging.getLogger(__name__)

FALLBACK_SECONDS = 300.0  # that the models of a fallback stay in memory
PADDED = 1.25  # times its length, to which a chunk is padded at most to share a step on a CPU
REST_SECONDS = 30.0  # without work, before the memory that steps take goes back
PASSES = 3  # over speech of which the model leaves out some


class Whisper(Engine):
    """`model` is the default, which is loaded at start; requests may name it or one of `models`, each a name that
    faster-whisper knows, a folder, a folder within `folder`, or an id on the hub.

    Models stay in memory as `resident` (how many) and `memory_mib` (of weights, estimated) allow, and no longer than
    `keep_seconds` after their last use, the default too. `substitute`: the default answers for Whisper models that
    are not on the list. `batched`: see Recognizer; None means on a GPU.
    """

    spans: ClassVar = {"load": (0.0, 0.0), "vad": (0.0, 0.1), "asr": (0.1, 1.0)}

    def __init__(
        self,
        model: str = "embedded",
        device: str = "cpu",
        compute_type: str | None = None,
        threads: int = 1,
        parallel: int = 1,
        batch: int = 8,
        beam: int = 5,
        *,
        models: Sequence[str] = (),
        folder: str | None = None,
        memory_mib: int | None = None,
        resident: int | None = None,
        keep_seconds: float | None = None,
        substitute: bool = False,
        save_memory: bool = False,
        batched: bool | None = None,
    ) -> None:
        self.catalog = Catalog(model, models, folder=folder, substitute=substitute)
        self.name = self.catalog.default
        self.parallel, self.beam, self._batch = parallel, beam, batch
        self._threads, self._batched, self.save_memory = threads, batched, save_memory
        self._trimmed = False
        self._traits: dict[str, Traits] = {}  # of the models that were loaded once
        kind, index = _device(device)
        self._on_gpu = on_gpu = kind == "cuda"
        compute_type = compute_type or (("int8_float16" if save_memory else "float16") if on_gpu else "int8")
        budget = None if memory_mib is None else memory_mib << 20
        self.cache = self._cache(kind, index, compute_type, budget=budget, count=resident, keep=keep_seconds)
        # For chunks that do not fit into the GPU's memory.
        self.on_cpu = self._cache("cpu", 0, "int8", count=1, keep=keep_seconds or FALLBACK_SECONDS) if on_gpu else None
        self.vad = get_vad_model()  # its session runs one thread: the network is recurrent
        self._warm_up()
        if len(self.catalog.names) > 1:
            Thread(target=self.catalog.fetch, name="fetch", daemon=True).start()

    def _cache(self, device: str, index: int, compute_type: str, **limits: Any) -> ModelCache[Recognizer]:
        def load(name: str) -> Recognizer:
            made = Recognizer(
                self.catalog.path(name),
                device,
                index,
                compute_type,
                threads=self._threads,
                parallel=self.parallel + 1,
                batched=device == "cuda" if self._batched is None else self._batched,
            )
            self._traits.setdefault(name, made.traits)
            return made

        return ModelCache(load, lambda name: weight(self.catalog.path(name), compute_type), **limits)

    def _warm_up(self) -> None:
        self._speech_in(Piece(np.zeros(WINDOW, np.float32), 0))
        with self.cache.use(self.name) as recognizer:
            recognizer.warm_up(Decoding("en", beam=self.beam))

    def describe(self) -> Mapping[str, Any]:
        traits, loaded = self._traits[self.name], self.cache.loaded()
        on_cpu = [f"{name} (fallback)" for name in self.on_cpu.loaded()] if self.on_cpu else []
        description: dict[str, Any] = {
            "model": self.name,
            "device": traits.device,
            "live": True,
            "compute_type": traits.compute_type,
            "multilingual": traits.multilingual,
            "translates": traits.multilingual or self.catalog.translates,  # some model does, if not the default
            "models": self.catalog.names,
            "accepts": self.catalog.accepted(),
            "loaded": [*loaded, *on_cpu],
            "loaded_mib": sum(loaded.values()) >> 20,
        }
        memory = devices.memory()
        return description | {"memory": memory} if memory else description

    def batch(self, key: Hashable) -> int:
        return self._batch if isinstance(key, tuple) and key[0] == "asr" else 1

    def can_run_beside(self, key: Hashable, running: Sequence[Hashable]) -> bool:
        wanted = model_of(key)
        return wanted is None or self.cache.fits({wanted, *filter(None, map(model_of, running))})

    def can_batch_with(self, item: WorkItem, other: WorkItem) -> bool:
        """On a GPU always: there padding the shorter one costs nothing."""
        shorter, longer = sorted((item.size, other.size))
        return self._on_gpu or longer <= PADDED * shorter

    def maintain(self, idle: float) -> Sequence[str]:
        if idle < REST_SECONDS:
            self._trimmed = False
        elif not self._trimmed:
            self._trimmed = True
            devices.trim()
        return [event for cache in (self.cache, self.on_cpu) if cache for event in cache.maintain()]

    def job(self, request: Request) -> JobSteps:
        if isinstance(request, DetectLanguage):
            return self._spoken(request)
        if not isinstance(request, Transcribe):
            raise TypeError(f"{type(request).__name__} is not for Whisper")
        return self._job(request)

    def _job(self, request: Transcribe) -> JobSteps:
        name, language, warnings = yield from self._chosen(request)
        channels = [load(ref) for ref in request.channels or (request.audio,)]
        parts = pieces_of(channels)
        found = yield [WorkItem(("vad",), piece) for some in parts for piece in some]
        chunks = chunks_of(channels, parts, found)
        decoding = Decoding(
            language,
            "translate" if request.translate else "transcribe",
            request.beam or self.beam,
            request.temperature or 0.0,
            request.prompt,
            request.hotwords,
            request.interim,
        )
        words, main = yield from self._write_all(name, decoding, chunks)
        words = in_order(words, len(channels), request.audio.duration)
        return Transcript(tuple(words), main, name, tuple(warnings))

    def _spoken(self, request: DetectLanguage) -> JobSteps:
        name, _ = self.catalog.choose(None, english=False)
        if name not in self._traits:
            yield [WorkItem(("load", name), None)]
        return (yield from spoken_language.steps(request.audio, name, multilingual=self._traits[name].multilingual))

    def live(self, request: LiveRequest) -> LiveSteps:
        if not isinstance(request, Listen):
            raise TypeError(f"{type(request).__name__} is not for Whisper")
        name, language, _ = yield from self._chosen(request)
        decoding = Decoding(language, beam=self.beam, prompt=request.prompt, hotwords=request.hotwords)
        return (yield from Listener(request, name, decoding).steps())

    def _chosen(self, request: Transcribe | Listen) -> Steps[tuple[str, str | None, list[str]]]:
        """The name of the model, which is loaded, the language (None: to be detected), and warnings."""
        translate = isinstance(request, Transcribe) and request.translate
        name, warnings = self.catalog.choose(request.model, english=request.language in (None, "en") and not translate)
        if request.language is not None and request.language not in LANGUAGES:
            raise JobError("invalid_language", f"{request.language!r} is not a language code such as 'en'")
        if name not in self._traits:
            yield [WorkItem(("load", name), None)]
        return name, self._language(name, request.language, translate=translate), warnings

    def _write_all(self, name: str, decoding: Decoding, chunks: Sequence[Chunk]) -> Steps[tuple[list[Word], str]]:
        """The words of all chunks, and the language that most of them are in."""
        written = yield items_of(name, [(chunk, decoding) for chunk in chunks], partial=True)
        votes = [(chunk, part.odds) for chunk, part in zip(chunks, written, strict=True) if part.odds]
        main = decoding.language or (languages.main(votes) if votes else "en")
        done = [(chunk, part) for chunk, part in zip(chunks, written, strict=True) if part.language]
        unsure = [chunk for chunk, part in zip(chunks, written, strict=True) if not part.language]
        words: list[Word] = []
        if unsure:
            again = [
                (chunk, replace(decoding, language=spoken))
                for chunk, spoken in (yield from self._told(name, unsure, main))
            ]
            written = yield items_of(name, again)
            done += zip([chunk for chunk, _ in again], written, strict=True)
            main = languages.main([(chunk, {part.language: 1.0}) for chunk, part in done])
        for number in range(PASSES):
            found = [(gaps.find(chunk, part.words), part.language) for chunk, part in done]
            words += [word for (kept, _), _ in found for word in kept]
            left_out = [(gap, replace(decoding, language=spoken)) for (_, missing), spoken in found for gap in missing]
            if not left_out or number == PASSES - 1:
                break
            written = yield items_of(name, left_out)
            done = [(gap, part) for (gap, _), part in zip(left_out, written, strict=True)]
        return words, main

    def _told(self, name: str, chunks: Sequence[Chunk], main: str) -> Steps[list[tuple[Chunk, str]]]:
        """Chunks of which the model was not sure, parted where their language changes."""
        pieces = [languages.pieces(chunk) for chunk in chunks]
        odds = iter((yield [WorkItem(("language", name), piece) for parts in pieces for piece in parts]))
        return [
            run
            for parts in pieces
            for run in languages.runs(parts, languages.settled([next(odds) for _ in parts], main))
        ]

    def _language(self, name: str, asked: str | None, *, translate: bool) -> str | None:
        traits = self._traits[name]
        if translate and not traits.multilingual:
            raise JobError("translation_unavailable", f"{name!r} knows English only and cannot translate.")
        if asked is not None and asked not in traits.languages:
            raise JobError("language_unavailable", f"{name!r} does not know the language {asked!r}")
        return asked if traits.multilingual else "en"

    def run(self, items: Sequence[WorkItem]) -> StepOutputs:
        return self._step(items, self.cache)

    def fallback(self, items: Sequence[WorkItem]) -> StepOutputs | None:
        return self._step(items, self.on_cpu) if self.on_cpu and model_of(items[0].key) else None

    def _step(self, items: Sequence[WorkItem], cache: ModelCache[Recognizer]) -> StepOutputs:
        payloads = [item.payload for item in items]
        match items[0].key:
            case ("vad",):
                return [self._speech_in(piece) for piece in payloads]
            case ("load", str(name)):
                with self._model(cache, name):
                    return payloads
            case ("language", str(name)):
                with self._model(cache, name) as recognizer:
                    return [recognizer.detect(chunk) for chunk in payloads]
            case ("asr", str(name), Decoding() as decoding):
                return self._write(cache, name, payloads, decoding)
        raise ValueError(f"no such step: {items[0].key!r}")

    def _write(
        self, cache: ModelCache[Recognizer], name: str, chunks: Sequence[Chunk], decoding: Decoding
    ) -> Generator[Interim | None, None, list[Written]]:
        with self._model(cache, name) as recognizer:
            writing = recognizer.write(chunks, decoding)
            try:
                while True:
                    interim = next(writing)
                    yield interim and Interim(interim.index, placed(chunks[interim.index], interim.output))
            except StopIteration as stop:
                written = stop.value
        return [replace(part, words=placed(chunk, part.words)) for chunk, part in zip(chunks, written, strict=True)]

    @contextmanager
    def _model(self, cache: ModelCache[Recognizer], name: str) -> Iterator[Recognizer]:
        with ExitStack() as stack:
            try:
                recognizer = stack.enter_context(cache.use(name))
            except Exception as error:
                if devices.out_of_memory(error) or devices.broken(error):
                    raise
                log.warning("%s cannot be loaded", name, exc_info=True)
                raise self.catalog.unavailable(name) from None
            yield recognizer

    def _speech_in(self, piece: Piece) -> Samples:
        """The probability of speech per window of the piece."""
        samples, lead = piece.samples()
        likely = np.asarray(self.vad(samples)).reshape(-1)
        return (np.where(piece.own(), likely, 0.0) if piece.others else likely)[lead:]


def _device(name: str) -> tuple[str, int]:
    kind, _, index = name.partition(":")
    if kind == "auto":
        kind = "cuda" if get_cuda_device_count() else "cpu"
    return kind, int(index or 0)
