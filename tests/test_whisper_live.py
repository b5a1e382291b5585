"""Incremental recognition with the embedded Whisper, fed faster than real time; and its parts without a model."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from tests.support.text import plain
from workers.engine import Await, Emit
from workers.media.samples import PCM_SCALE
from workers.messages import SAMPLE_RATE, AudioRef, Cancel, Done, Failed, Listen, Submit, Transcribe, Word
from workers.messages.live import Append, Awaiting, Heard, LiveWords
from workers.runtime.scheduler import Scheduler
from workers.whisper.agreement import Agreement, following, without_echo
from workers.whisper.decoding import Decoding, Written
from workers.whisper.endpoints import Endpoints, size_of
from workers.whisper.engine import Whisper
from workers.whisper.live import Listener
from workers.whisper.recognizer import WINDOW_SECONDS
from workers.whisper.vad import WINDOW


def said(text: str, first: float = 0.0) -> list[Word]:
    return [Word(f" {word}", first + at, first + at + 0.5, 0.9) for at, word in enumerate(text.split())]


def texts(words: list[Word]) -> str:
    return "".join(word.word for word in words).strip()


def test_words_are_final_once_two_hypotheses_agree_whatever_their_punctuation() -> None:
    agreement = Agreement()
    assert agreement.add(said("this is, a")) == []
    assert texts(agreement.add(said("This is the house"))) == "This is"
    assert texts(agreement.add(said("the house, that", 2))) == "the house,"
    assert texts(agreement.finish(said("that Jack built.", 4))) == "that Jack built."
    assert texts(agreement.final) == "This is the house, that Jack built."


def test_a_word_that_audio_was_cut_off_in_is_not_final_and_old_words_are_forgotten() -> None:
    agreement = Agreement()
    agreement.add(said("this is the house"))
    assert texts(agreement.add(said("this is the house"), before=2.6)) == "this is the"
    assert texts(agreement.hypothesis) == "house"
    assert texts(agreement.forget(1.5)) == "this is"
    assert texts(agreement.final) == "the"


def test_a_word_is_final_some_time_after_it_was_said_though_hypotheses_differ() -> None:
    agreement = Agreement()
    assert texts(agreement.add(said("this is the house"), late=1.6)) == "this is"
    assert texts(agreement.add(said("a house", 2), late=2.6)) == "a"


def test_what_was_decoded_is_parted_at_the_end_of_a_sentence_or_at_a_pause() -> None:
    sentences = Agreement(said("This is it. That is"))
    assert texts(sentences.forget_sentences(9.0)) == "This is it. That is"
    sentences = Agreement(said("This is it. That is"), hypothesis=said("the house", 5))
    assert texts(sentences.forget_sentences(9.0)) == "This is it."
    paused = Agreement([*said("this is"), *said("the house that", 4)], hypothesis=said("Jack", 7))
    assert texts(paused.forget_sentences(5.6)) == "this is"
    assert texts(paused.forget_sentences(5.6)) == "the house"
    assert texts(paused.final) == "that"


def test_what_follows_a_known_text_is_told_by_its_letters() -> None:
    words = [Word(text, 0.0, 0.1, 0.9) for text in (" Well,", " I'm", " in New", " Jersey.")]
    assert texts(list(following(words, " Well, I'm"))) == "in New Jersey."
    assert following(words, "") == words
    assert list(following(words, " Well, I'm in New Jersey. Yes")) == []


def test_what_is_said_again_in_no_time_is_no_speech() -> None:
    spoken = said("and so my fellow Americans")
    again = [Word(f" {text}", 5 + 0.02 * at, 5.02 + 0.02 * at, 0.4) for at, text in enumerate(("And", "so", "my"))]
    assert without_echo([*spoken, *again]) == spoken
    new = [Word(" ask", 5.0, 5.02, 0.4)]
    assert without_echo([*spoken, *new]) == [*spoken, *new]
    assert without_echo([]) == []


def test_an_utterance_ends_after_the_silence_that_is_asked_for_and_a_click_is_none() -> None:
    ends = Endpoints(0.5)
    second = SAMPLE_RATE // WINDOW
    likely = np.array([0.0] * second + [0.9] * second + [0.1] * (second // 4) + [0.9] * second + [0.0] * 2 * second)
    assert list(ends.feed(likely[: 2 * second])) == []
    assert ends.start is not None
    [(start, end)] = ends.feed(likely[2 * second :])
    assert abs(start / SAMPLE_RATE - 0.8) < 0.05
    assert abs(end / SAMPLE_RATE - 3.45) < 0.1
    assert list(ends.feed(np.array([0.9, 0.9] + [0.0] * 2 * second))) == []


def test_silence_between_words_is_no_part_of_the_speech() -> None:
    ends = Endpoints(2.0)
    likely = np.array([0.0] * 50 + [0.9] * 50 + [0.1] * 40 + [0.9] * 50)
    assert list(ends.feed(likely)) == []
    spans = [(first / WINDOW, past / WINDOW) for first, past in ends.between(0, 190 * WINDOW)]
    assert spans == [(43.75, 106.25), (133.75, 190.0)]
    assert size_of(ends.between(60 * WINDOW, 150 * WINDOW)) == (46.25 + 16.25) * WINDOW
    ends.forget(120 * WINDOW)
    assert len(ends.between(0, 190 * WINDOW)) == 1


def counting(path: Path, seconds: int) -> None:
    """Audio whose samples are the number of their second, from 1 on."""
    np.repeat(np.arange(1, seconds + 1), SAMPLE_RATE).astype("<i2").tofile(path)


def listen(
    path: Path, steps: Sequence[int], resume: bytes = b"", *, quiet: range = range(0), mute: bool = False
) -> tuple[list[LiveWords], list[set[int]]]:
    """A recognizer that hears everything: it writes the number of each second of a chunk as a word, unless it is mute.
    `steps`: how many seconds there are with each append. `quiet`: seconds without speech. Returns what was told, and
    the seconds of each chunk."""
    job = Listener(Listen(AudioRef(str(path), 0, 0), resume=resume), "model", Decoding("en")).steps()
    coming, told, heard = iter(steps), list[LiveWords](), list[set[int]]()
    there, asked = 0, next(job)
    while True:
        if isinstance(asked, Emit):
            assert isinstance(asked.output, LiveWords)
            told.append(asked.output)
            asked = next(job)
        elif isinstance(asked, Await):
            if there < asked.samples:
                there = next(coming, 0) * SAMPLE_RATE
                if not there:
                    return told, heard
            asked = job.send(Append("", there))
        elif asked[0].key == ("vad",):
            numbers = np.rint(asked[0].payload.audio[asked[0].payload.first * WINDOW :: WINDOW] / PCM_SCALE)
            asked = job.send([np.where(np.isin(numbers, quiet), 0.0, 0.9)])
        else:
            [chunk] = (item.payload for item in asked)
            assert chunk.seconds <= WINDOW_SECONDS
            numbers = np.rint(chunk.samples() / PCM_SCALE).astype(int)
            heard.append(set(numbers.tolist()))
            found, firsts, counts = np.unique(numbers, return_index=True, return_counts=True)
            words = []
            for number, first, count in zip(found.tolist(), firsts.tolist(), counts.tolist(), strict=True):
                if count > SAMPLE_RATE / 2 and not mute:
                    start, end = chunk.locate(first / SAMPLE_RATE, first / SAMPLE_RATE + 0.8)
                    words.append(Word(f" {number}", start, end, 0.9))
            asked = job.send([Written(words, "en")])


def test_no_speech_is_passed_over_when_much_of_it_has_come_at_once(tmp_path: Path) -> None:
    counting(tmp_path / "pcm", 120)
    told, heard = listen(tmp_path / "pcm", [100, 120])
    final = [int(word.word) for output in told for word in output.final]
    assert final == list(range(1, len(final) + 1))
    assert len(final) > 110
    _, heard = listen(tmp_path / "pcm", [100, 120], mute=True)
    assert set().union(*heard) == set(range(1, 121))


def test_another_worker_hears_what_was_final_too_and_tells_no_word_twice(tmp_path: Path) -> None:
    counting(tmp_path / "pcm", 40)
    for lost in (14, 22, 25):
        first, _ = listen(tmp_path / "pcm", range(1, lost), quiet=range(9, 13))
        known = [int(word.word) for output in first for word in output.final]
        second, heard = listen(tmp_path / "pcm", range(lost, 41), first[-1].state, quiet=range(9, 13))
        final = known + [int(word.word) for output in second for word in output.final]
        assert set(known[-3:]) <= heard[0]
        assert sorted(set(final)) == final
        assert set(range(1, 37)) - set(final) <= set(range(9, 13))


def test_live_words_are_about_those_of_the_file_and_a_second_worker_goes_on_from_a_state(sample: Path) -> None:
    engine, sent = Whisper(), SimpleQueue[object]()
    scheduler = Scheduler(engine, sent.put, fill=None, step_timeout=None)
    samples = (sample.stat().st_size - 44) // 2
    offline: list[Word] = []
    scheduler.take(Submit("file", "", Transcribe(AudioRef(str(sample), samples, 44)), 0.0))
    while not offline:
        if isinstance(message := sent.get(), Done):
            offline = list(message.result.words)

    heard: list[LiveWords] = []

    def play(job: str, first: int, past: int, resume: bytes = b"") -> None:
        """Feed a tenth of a second whenever the job has nothing to do."""
        at = first
        scheduler.take(Submit(job, "", Listen(AudioRef(str(sample), at, 44), resume=resume), 0.0))
        while not isinstance(message := sent.get(), Done):
            assert not isinstance(message, Failed), message
            if isinstance(message, Heard):
                assert isinstance(message.output, LiveWords)
                heard.append(message.output)
            elif isinstance(message, Awaiting) and message.samples == at:
                if at == past:
                    return scheduler.take(Cancel(job))
                at = min(at + SAMPLE_RATE // 10, past)
                scheduler.take(Append(job, at, end=at == samples))
        return None

    play("first worker", 0, samples // 2)
    play("second worker", samples // 2, samples, heard[-1].state)
    scheduler.close()
    words = [word for output in heard for word in output.final]
    spoken, written = plain(texts(offline)).split(), plain(texts(words)).split()
    assert SequenceMatcher(None, spoken, written, autojunk=False).ratio() > 0.85
    assert all(word.start < word.end for word in words)
    assert heard[-1].utterance_end is not None
    assert any(output.interim for output in heard)
