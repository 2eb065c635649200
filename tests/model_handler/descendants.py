"""The processes started by the engine of a test."""

import os
import signal

import psutil


class Descendants:
    """Descendants of this process, except earlier ones: fixtures of other tests keep servers running."""

    def __init__(self) -> None:
        self._others = {one.pid for one in psutil.Process().children(recursive=True)}

    def named(self, name: str) -> list[psutil.Process]:
        everybody = psutil.Process().children(recursive=True)
        return [one for one in everybody if one.pid not in self._others and one.name() == name]

    def kill(self, name: str) -> None:
        """End all of that name."""
        victims = self.named(name)
        assert victims
        for victim in victims:
            os.kill(victim.pid, signal.SIGKILL)
        for victim in victims:
            victim.wait()
