"""Records the Python calls of every process that finds this on its path, from one signal to the next.

SIGUSR1 begins a recording; SIGUSR2 ends it and writes `INVOKE_PATH_DIR/<pid>.json`: the files in the order of
their first call, with how many of their functions were called. Only the product's files are counted.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

PRODUCT = ("/container/", "/model_handler/")
recording = False
calls: dict[str, int] = {}


def note(frame: FrameType, event: str, _: Any) -> None:
    if not recording or event != "call":
        return
    file = frame.f_code.co_filename
    if frame.f_code.co_name != "<module>" and any(part in file for part in PRODUCT):
        calls[file] = calls.get(file, 0) + 1


def begin(*_: Any) -> None:
    global recording
    calls.clear()
    recording = True


def end(*_: Any) -> None:
    global recording
    recording = False
    target = Path(os.environ["INVOKE_PATH_DIR"]) / f"{os.getpid()}.json"
    written = target.with_suffix(".part")
    written.write_text(json.dumps(calls), encoding="utf-8")
    written.rename(target)


if "INVOKE_PATH_DIR" in os.environ:
    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)
    threading.setprofile(note)
    sys.setprofile(note)
