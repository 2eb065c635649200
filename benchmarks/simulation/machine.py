"""The cores of a simulated machine, shared by the threads of simulated processes.

A fluid model. While more threads compute than there are cores, all of them slow down equally, as under a
fair operating system. The threads of one process also share its interpreter: a thread needs a share of it,
1 for Python code and less for a forward, which releases the interpreter's lock in its kernels; where the
shares add up to more than 1, the threads of that process slow down equally.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable

EPSILON_S = 1e-12


class Computation:
    """`left_s`: time that it still needs when nothing slows it down; all of its `threads` compute then."""

    __slots__ = ("done", "interpreter", "left_s", "threads")

    def __init__(
        self, work_s: float, threads: int, interpreter: float, done: Callable[[], None]
    ) -> None:
        self.left_s = work_s
        self.threads = threads
        self.interpreter = interpreter
        self.done = done


class SimulatedMachine:
    """`busy_s`: core seconds used so far, up to the latest start or end of a computation."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.busy_s = 0.0
        self.scaled = 0.0  # time, running slower while there are too few cores
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._demand = 0.0
        self._ends: list[tuple[float, int, int, SimulatedProcess]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def _rate(self) -> float:
        return min(1.0, self.count / self._demand) if self._demand else 1.0

    def advance(self) -> None:
        """Account for the time since the last change."""
        now = self._loop.time()
        passed = now - self._since
        self.scaled += passed * self._rate
        self.busy_s += passed * min(self._demand, self.count)
        self._since = now

    def changed(self, process: "SimulatedProcess", demand: float) -> None:
        """`demand`: by how many cores the process now wants more."""
        self._demand = max(0.0, self._demand + demand)
        if process.running:
            end = process.next_end()
            heapq.heappush(self._ends, (end, next(self._order), process.version, process))
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._ends and self._ends[0][2] != self._ends[0][3].version:
            heapq.heappop(self._ends)
        if self._ends:
            wait_s = max(0.0, self._ends[0][0] - self.scaled) / self._rate
            self._timer = self._loop.call_later(wait_s, self._ended)

    def _ended(self) -> None:
        self._timer = None
        self.advance()
        _, _, _, process = heapq.heappop(self._ends)
        process.end_first()


class SimulatedProcess:
    """`version` changes with its computations."""

    def __init__(self, machine: SimulatedMachine) -> None:
        self.running: list[Computation] = []
        self.version = 0
        self.busy_s = 0.0
        self._machine = machine
        self._rate = 1.0
        self._since = 0.0
        self._demand = 0.0

    def compute(
        self,
        work_s: float,
        done: Callable[[], None],
        *,
        threads: int = 1,
        interpreter: float = 1.0,
    ) -> None:
        """Call `done` when a computation has ended that takes `work_s` if nothing slows it down."""
        self._advance()
        self.running.append(Computation(work_s, threads, interpreter, done))
        self._changed()

    def used_s(self) -> float:
        """Core seconds used so far."""
        self._advance()
        return self.busy_s

    def next_end(self) -> float:
        """On the cores' scaled clock."""
        return self._since + min(one.left_s for one in self.running) / self._rate

    def end_first(self) -> None:
        self._advance()
        first = min(self.running, key=lambda one: one.left_s)
        self.running.remove(first)
        self._changed()
        first.done()

    def _advance(self) -> None:
        self._machine.advance()
        passed = self._machine.scaled - self._since
        self.busy_s += passed * self._demand
        for one in self.running:
            one.left_s = max(0.0, one.left_s - passed * self._rate)
        self._since = self._machine.scaled

    def _changed(self) -> None:
        self.version += 1
        shares = sum(one.interpreter for one in self.running)
        self._rate = 1.0 / max(1.0, shares)
        before, self._demand = self._demand, self._rate * sum(one.threads for one in self.running)
        self._machine.changed(self, self._demand - before)
