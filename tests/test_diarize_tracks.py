"""Tracks, pieces and speakers, on activity and embeddings made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from workers.diarize.embedded.clustering import assign
from workers.diarize.embedded.frames import FRAMES, Windows
from workers.diarize.embedded.speech import NEW_SPEAKER, speech_of
from workers.diarize.embedded.tracks import Piece, Track, count_speakers, cut, hysteresis, stitch
from workers.diarize.embeddings import Bounds, Labels, Vectors
from workers.diarize.turns import Mask, runs


def windows_of(speech: np.ndarray, starts: list[int], swap: bool = False) -> Windows:
    """Windows of (speakers, frames) activity; every other window may name its speakers in another order."""
    made = []
    for index, start in enumerate(starts):
        window = np.zeros((FRAMES, 3), dtype=np.float16)
        part = speech[:, start : start + FRAMES].T
        window[: len(part), : part.shape[1]] = part
        made.append(window[:, ::-1] if swap and index % 2 else window)
    return np.stack(made)


def track(windows: range, first: int, active: Mask, probability: float = 0.9) -> Track:
    return Track(windows, first, active, np.where(active, np.float32(probability), np.float32(0.05)))


def test_runs_and_hysteresis() -> None:
    assert runs(np.array([True, True, False, True])) == [(0, 2), (3, 4)]
    assert runs(np.zeros(3, dtype=np.bool_)) == []
    wave = np.array([0.1, 0.45, 0.6, 0.45, 0.1, 0.45, 0.1], dtype=np.float32)
    assert runs(hysteresis(wave)) == [(1, 4)]


@pytest.mark.parametrize("swap", [False, True])
def test_stitching_follows_speakers_through_windows(swap: bool) -> None:
    starts = [0, 119, 238, 300]
    speech = np.zeros((2, 593), dtype=np.float32)
    speech[0, 20:320] = 0.9
    speech[1, 280:560] = 0.9
    tracks = stitch(windows_of(speech, starts, swap), starts)
    spans = [[(first + track.first, last + track.first) for first, last in runs(track.active)] for track in tracks]
    assert spans == [[(20, 320)], [(280, 560)]]


def test_silence_between_makes_two_tracks() -> None:
    starts = [0, 119, 238, 357, 476]
    speech = np.zeros((1, 769), dtype=np.float32)
    speech[0, 10:60] = speech[0, 700:760] = 0.9
    assert len(stitch(windows_of(speech, starts), starts)) == 2


def test_pieces_avoid_overlap_and_cover_speech() -> None:
    one, other = np.zeros(600, dtype=np.bool_), np.zeros(600, dtype=np.bool_)
    one[0:400] = True
    other[300:360] = True
    pieces = cut([track(range(3), 0, one), track(range(3), 0, other)])
    assert {piece.run for piece in pieces} == {(0, 400), (300, 360)}
    long = [piece for piece in pieces if piece.track == 0]
    assert all(len(piece.mel_frames) == 160 and piece.weight == 1 for piece in long)
    # Frames 300-360 are mel frames 509-611: only the other speaker's piece, who has nothing else, takes them.
    assert not any(((piece.mel_frames > 511) & (piece.mel_frames < 608)).any() for piece in long)
    assert [piece.weight < 0.3 for piece in pieces if piece.track == 1] == [True]


def voices(who: list[int], apart: bool = False, seed: int = 0) -> tuple[Vectors, list[Piece], list[Track]]:
    """A piece every 2 s, spoken by who[i], with embeddings as alike as CAM++'s; `apart` gives each voice a track."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(who) + 1, 192))
    embeddings = centres[who] + 0.8 * random.normal(size=(len(who), 192))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    frames = 119 * len(who)
    tracks = [track(range(len(who)), 0, np.ones(frames, dtype=np.bool_)) for _ in range(max(who) + 1 if apart else 1)]
    pieces = [
        Piece(speaker if apart else 0, (119 * i, 119 * i + 95), np.arange(200 * i, 200 * i + 160), 1.0)
        for i, speaker in enumerate(who)
    ]
    if apart:
        order = sorted(range(len(who)), key=lambda i: who[i])
        return embeddings[order].astype(np.float32), [pieces[i] for i in order], tracks
    return embeddings.astype(np.float32), pieces, tracks


def agree(labels: Labels, who: list[int]) -> bool:
    pairs = set(zip(labels.tolist(), who, strict=True))
    return len(pairs) == len(set(who)) == len(set(labels.tolist()))


@pytest.mark.parametrize("count", [1, 2, 3, 6, 20])
def test_speakers_are_counted_and_told_apart(count: int) -> None:
    who = [i // 3 % count for i in range(max(12, 9 * count))]
    embeddings, pieces, tracks = voices(who)
    labels, _ = assign(embeddings, pieces, tracks, Bounds())
    assert agree(labels, who)


@pytest.mark.parametrize(("bounds", "found"), [(Bounds(3, 3), 3), (Bounds(1, 2), 2), (Bounds(6), 6), (Bounds(2, 9), 4)])
def test_bounds_hold(bounds: Bounds, found: int) -> None:
    embeddings, pieces, tracks = voices([i // 3 % 4 for i in range(48)])
    labels, _ = assign(embeddings, pieces, tracks, bounds)
    assert len(set(labels.tolist())) == found


def test_hours_are_clustered_by_a_selection() -> None:
    who = [i // 40 % 5 for i in range(6000)]
    embeddings, pieces, tracks = voices(who)
    labels, _ = assign(embeddings, pieces, tracks, Bounds())
    assert np.mean(labels[1:] == labels[:-1]) > 0.95
    assert agree(labels[::40], who[::40])


def test_windows_that_disagree_about_who_speaks_agree_about_how_many() -> None:
    starts = [0, 119]
    windows = np.zeros((2, FRAMES, 3), dtype=np.float16)
    windows[0, :, 0] = windows[1, :, 1] = 0.6
    count = count_speakers(windows, starts)
    assert count.tolist() == [1] * (119 + FRAMES)
    assert sum(track.active[200 - track.first] for track in stitch(windows, starts) if track.first <= 200) == 1


def overlapped(length: int, speakers: list[int]) -> tuple[Labels, Vectors, list[Piece], list[Track]]:
    """The first track speaks for 600 frames; in the midst of that so does the second one, which clustering takes for
    the same speaker, for so many frames. Further pieces of the first track are of other speakers."""
    one, two = np.ones(600, dtype=np.bool_), np.zeros(600, dtype=np.bool_)
    two[200 : 200 + length] = True
    tracks = [track(range(3), 0, one), track(range(3), 0, two, probability=0.6)]
    pieces = [
        Piece(0, (0, 600), np.arange(100, 260), 1.0),
        Piece(1, (200, 200 + length), np.arange(340, 340 + length), 0.2),
    ]
    embeddings = [np.eye(8)[0], np.eye(8)[0] + 0.5 * np.eye(8)[1]]
    for index, _ in enumerate(speakers, 1):
        tracks.append(track(range(3, 6), 600 * index, np.ones(600, dtype=np.bool_)))
        pieces.append(Piece(1 + index, (600 * index, 600 * index + 600), np.arange(160), 1.0))
        embeddings.append(np.eye(8)[index])
    voices = np.array(embeddings, dtype=np.float32)
    voices /= np.linalg.norm(voices, axis=1, keepdims=True)
    return np.array([0, 0, *speakers]), voices, pieces, tracks


def test_tracks_that_speak_at_once_are_different_speakers() -> None:
    labels, voices, pieces, tracks = overlapped(20, [1, 2])
    speech, _ = speech_of(labels, voices, pieces, tracks, Bounds())
    assert speech[:, :600].sum(axis=1).tolist() == [600, 20, 0]  # whose voice it is the most alike


@pytest.mark.parametrize(
    ("length", "bounds", "found"),
    [(NEW_SPEAKER, Bounds(), 2), (NEW_SPEAKER - 1, Bounds(), 1), (NEW_SPEAKER, Bounds(1, 1), 1)],
)
def test_an_overlap_that_lasts_shows_one_more_speaker(length: int, bounds: Bounds, found: int) -> None:
    labels, voices, pieces, tracks = overlapped(length, [])
    speech, _ = speech_of(labels, voices, pieces, tracks, bounds)
    assert speech.sum(axis=1).tolist() == [600, length][:found]


def test_a_voice_that_could_be_anothers_counts_for_both() -> None:
    labels, voices, pieces, tracks = overlapped(60, [1])
    voices[0] = [0.8, 0.6, *[0.0] * 6]  # between the two speakers
    _, levels = speech_of(labels, voices, pieces, tracks, Bounds())
    np.testing.assert_allclose(levels[0, :200], 0.95)  # with 0.05 of the silent track
    assert 0.5 < levels[1, 100] < 0.9
    np.testing.assert_allclose(levels[1, 700:], 0.9)
    assert levels[0, 700] < levels[1, 100]


def test_in_an_overlap_the_weaker_track_is_not_the_stronger_ones_speaker() -> None:
    labels, voices, pieces, tracks = overlapped(60, [1, 2])
    active, levels = speech_of(labels, voices, pieces, tracks, Bounds())
    np.testing.assert_allclose(levels[0, 200:260], 0.9)  # and not also the weaker one's 0.6
    assert (levels[1, 200:260] > levels[1, 100] + 0.5).all()
    assert active[:, 230].tolist() == [True, True, False]
