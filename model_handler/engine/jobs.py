"""One model's waiting requests.

Invariant: a queue holds at most `limit` requests, and only such whose caller still waits.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from model_handler.errors import QueueFull
from model_handler.messages import InferenceRequest, InferenceResponse

MAX_BATCH_NBYTES = 64 << 20  # bodies of one batch travel in one message


@dataclass(slots=True, eq=False)
class Job:
    """One request. `deadline` is on the event loop's clock and includes the time in the queue. `retried`: it
    ran out of device memory once."""

    request: InferenceRequest
    deadline: float
    answer: asyncio.Future[InferenceResponse]
    retried: bool = False


class RequestQueue:
    """First in, first out; `discard` removes a job whose caller has left."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._jobs: dict[Job, None] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Raises QueueFull."""
        if len(self._jobs) >= self._limit:
            raise QueueFull(f"{self._limit} requests are waiting for model {self._name!r} already")
        self._jobs[job] = None

    def put_back(self, jobs: Iterable[Job]) -> None:
        """To the front, whatever the limit is: they had been in here."""
        self._jobs = dict.fromkeys(jobs) | self._jobs

    def discard(self, job: Job) -> None:
        self._jobs.pop(job, None)

    def take(self, max_size: int, max_nbytes: int = MAX_BATCH_NBYTES) -> list[Job]:
        """The next batch: the oldest jobs, at least one, within both bounds."""
        batch: list[Job] = []
        nbytes = 0
        for job in self._jobs:
            nbytes += len(job.request.body)
            if batch and (len(batch) == max_size or nbytes > max_nbytes):
                break
            batch.append(job)
        for job in batch:
            del self._jobs[job]
        return batch

    def take_all(self) -> Iterable[Job]:
        jobs, self._jobs = self._jobs, {}
        return jobs
