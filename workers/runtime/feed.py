"""What has come of a live job's audio, and what the job waits for."""

from __future__ import annotations

from dataclasses import dataclass

from workers.messages.live import Append


@dataclass(slots=True)
class Feed:
    samples: int  # in the job's file
    flush: bool = False
    end: bool = False
    seen: int = -1  # samples of the last Append that the job was given
    ended: bool = False  # the job was told of the end
    wanted: int | None = None  # the job waits for so many; None: it does not wait

    def add(self, append: Append) -> None:
        self.samples = max(self.samples, append.samples)
        self.flush |= append.flush
        self.end |= append.end

    def take(self, job: str) -> Append | None:
        """What the job is to be resumed with; None where it has to wait on. Raises RuntimeError for a job that waits
        after the end."""
        if self.ended:
            raise RuntimeError("a live job waits for audio after the end")
        assert self.wanted is not None
        enough = self.samples > self.seen and self.samples >= self.wanted
        if not (enough or self.flush or self.end):
            return None
        append = Append(job, self.samples, self.flush, self.end)
        self.seen, self.ended, self.flush, self.wanted = self.samples, self.end, False, None
        return append
