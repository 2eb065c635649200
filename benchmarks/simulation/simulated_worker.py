"""A worker in virtual time: what the scheduler and Residency see of a real one."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.simulation.costs import ModelCosts
from benchmarks.simulation.machine import SimulatedMachine, SimulatedProcess
from model_handler.memory.pools import Footprint
from model_handler.messages import Done, InferenceResponse, Run
from model_handler.model import Model

ANSWER = InferenceResponse(b"[]", "application/json")
FINISH = 0.1  # share of the host thread's work that comes after the forward
Answered = Callable[[int, Callable[[], None]], None]


class SimulatedThread:
    """Does one piece of work after the other."""

    def __init__(self, process: SimulatedProcess) -> None:
        self._process = process
        self._waiting: deque[tuple[float, Callable[[float], None], int, float]] = deque()
        self._busy = False

    def put(
        self,
        work_s: float,
        done: Callable[[float], None],
        threads: int = 1,
        interpreter: float = 1.0,
    ) -> None:
        """Call `done` with the time that the work took once it had begun."""
        self._waiting.append((work_s, done, threads, interpreter))
        if not self._busy:
            self._begin()

    def _begin(self) -> None:
        self._busy = True
        work_s, done, threads, interpreter = self._waiting.popleft()
        began = asyncio.get_running_loop().time()
        ended = partial(self._ended, done, began)
        self._process.compute(work_s, ended, threads=threads, interpreter=interpreter)

    def _ended(self, done: Callable[[float], None], began: float) -> None:
        done(asyncio.get_running_loop().time() - began)
        if self._waiting:
            self._begin()
        else:
            self._busy = False


class SimulatedWorker:
    """`models`: costs by model id. `answered(requests, effect)`: the front gets the results of a batch."""

    running = True
    failing = False

    def __init__(
        self, machine: SimulatedMachine, models: Mapping[int, ModelCosts], answered: Answered
    ) -> None:
        self._models = models
        self._answered = answered
        process = SimulatedProcess(machine)
        self._host, self._device, self._loading = (SimulatedThread(process) for _ in range(3))

    # ---- for the scheduler ----

    def run(self, command: Run) -> asyncio.Future[Done]:
        done: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        costs, rows = self._models[command.model_id], len(command.requests)
        tokens = sum(int(request.body) for request in command.requests)
        host_s = costs.host(rows, tokens)
        threads = max(1, command.threads)

        def prepared(_: float) -> None:
            forward_s = costs.forward_s(rows, tokens, threads)
            self._device.put(forward_s, computed, threads, costs.interpreter)

        def computed(forward_s: float) -> None:
            self._host.put(FINISH * host_s, partial(finished, forward_s))

        def finished(forward_s: float, _: float) -> None:
            result = Done(command.batch_id, [ANSWER] * rows, 0.0, forward_s)
            self._answered(rows, lambda: done.set_result(result))

        self._host.put((1 - FINISH) * host_s, prepared)
        return done

    def replace(self, reason: str, culprit: int = 0) -> None:
        raise AssertionError(reason)

    # ---- for Residency ----

    async def load(self, model: Model) -> Footprint:
        loaded: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        costs = self._models[model.model_id]
        self._loading.put(costs.load_s, loaded.set_result)
        seconds = await loaded
        return Footprint(costs.nbytes, 0, costs.private_nbytes, seconds)
