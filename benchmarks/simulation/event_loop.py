"""A simulated process with one event loop: the front, or the load generator."""

import asyncio
from collections.abc import Callable

from benchmarks.simulation.machine import SimulatedProcess

Effect = Callable[[], None]


class SimulatedEventLoop:
    """Handles what has arrived in turns: all events that wait share one turn.

    `turn_s`: CPU time of a turn without its events. The effects of a turn's events appear at its end.
    """

    def __init__(self, process: SimulatedProcess, turn_s: float) -> None:
        self.process = process
        self.handled = 0
        self._turn_s = turn_s
        self._events: list[tuple[float, Effect]] = []
        self._turning = False

    def post(self, cost_s: float, effect: Effect) -> None:
        """An event that takes `cost_s` of CPU time arrives."""
        self._events.append((cost_s, effect))
        if not self._turning:
            self._turning = True
            # Events of the same instant share the turn
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        events, self._events = self._events, []
        self.handled += len(events)
        cost_s = self._turn_s + sum(cost_s for cost_s, _ in events)
        self.process.compute(cost_s, lambda: self._end([effect for _, effect in events]))

    def _end(self, effects: list[Effect]) -> None:
        for effect in effects:
            effect()
        if self._events:
            self._turn()
        else:
            self._turning = False
