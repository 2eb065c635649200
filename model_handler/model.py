"""A model: its name and state, from the start of its load, and its artifact, once that was inspected.

The state is the one that the platform's API reports; Residency records where the weights are.
"""

import asyncio
from dataclasses import dataclass, field
from enum import Enum

from model_handler.artifacts.artifact import Artifact


class State(Enum):
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    GONE = "gone"  # load failed or unload finished: the name is free again


TRANSITIONS: dict[State, frozenset[State]] = {
    State.LOADING: frozenset({State.READY, State.GONE}),
    State.READY: frozenset({State.UNLOADING}),
    State.UNLOADING: frozenset({State.GONE}),
    State.GONE: frozenset(),
}


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Fields that listings show. `target`: the TargetModel header of the load request, for log lines."""

    name: str
    url: str
    target: str | None = None


@dataclass(slots=True, eq=False)
class Entry:
    """A name in use. `model_id` is never reused, so a late message cannot reach a newer model of the same
    name."""

    model_id: int
    info: ModelInfo
    state: State = State.LOADING
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # set on leaving LOADING
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # set on reaching GONE

    def become(self, state: State) -> None:
        assert state in TRANSITIONS[self.state], f"{self.state} -> {state}"
        self.state = state
        self.settled.set()
        if state is State.GONE:
            self.gone.set()


class Model:
    """The model of an entry.

    `worker`: name of the device worker that serves the model; empty for a model in an isolated process.
    `strikes`: number of times that it lost the device of other models.
    """

    __slots__ = ("artifact", "entry", "info", "model_id", "strikes", "worker")

    def __init__(self, entry: Entry, artifact: Artifact) -> None:
        self.entry = entry
        self.model_id = entry.model_id
        self.info = entry.info
        self.artifact = artifact
        self.worker = ""
        self.strikes = 0

    @property
    def ready(self) -> bool:
        return self.entry.state is State.READY

    @property
    def isolated(self) -> bool:
        """The artifact runs in an isolated process, not in the device worker."""
        return self.artifact.isolated

    @property
    def on_cpu(self) -> bool:
        """The model computes on the CPU, also on a machine with a GPU."""
        return self.artifact.on_cpu
