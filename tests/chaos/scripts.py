"""Artifacts whose own code misbehaves on request, and a well-behaved neighbour."""

import json
from pathlib import Path

# `do` in a request names the function that the handler calls. None of them may affect the neighbour.
MISBEHAVING = """
import ctypes, json, os, resource, signal, sys, threading, time

KEPT = []

def model_fn(model_dir):
    return "model"

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(data, model):
    return globals()[data["do"]](data)

def output_fn(prediction, accept):
    return json.dumps(prediction)

def answer(data):
    return {"pid": os.getpid(), "model": "misbehaving"}

def raise_(data):
    raise ValueError("no such thing")

def leave(data):
    from multiprocessing import shared_memory
    left = shared_memory.SharedMemory(create=True, size=data["megabytes"] << 20)
    left.buf[:] = bytes(data["megabytes"] << 20)
    with open(f"/dev/shm/{data['name']}", "wb") as file:
        file.write(bytes(data["megabytes"] << 20))
    left.close()
    return left.name

def hang(data):
    threading.Event().wait()

def spin(data):
    while True:
        pass

def leak(data):
    KEPT.append(b"x" * (data["megabytes"] << 20))
    return len(KEPT)

def exit(data):
    os._exit(data["status"])

def sys_exit(data):
    sys.exit(3)

def kill(data):
    os.kill(os.getpid(), signal.SIGKILL)

def segfault(data):
    ctypes.string_at(0)

def abort(data):
    os.abort()

def print_much(data):
    line = "x" * 1023
    for _ in range(data["megabytes"] << 10):
        print(line)
    return "printed"

def close_stdout(data):
    sys.stdout.close()
    os.close(1)
    os.close(2)
    return "closed"

def fork(data):
    pid = os.fork()
    if pid == 0:
        return "the child answers too"
    os.waitpid(pid, 0)
    return {"child": pid}

def leave_a_child(data):
    pid = os.fork()
    if pid == 0:
        os.setsid()
        threading.Event().wait()
    return {"child": pid}

def handle_signals(data):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    return "handled"

def close_files(data):
    os.closerange(3, 1024)
    return "closed"

def allocate(data):
    block = bytearray(data["megabytes"] << 20)
    return len(block)

def recurse(data):
    return recurse(data)
"""

NEIGHBOUR = """
import json, os

def model_fn(model_dir):
    return os.getpid()

def predict_fn(data, model):
    return {"pid": model, "sum": sum(data)}

def input_fn(body, content_type):
    return json.loads(body)

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""

# Further functions of MISBEHAVING
ON_SOCKETS = """
from multiprocessing import shared_memory

def write_to_sockets(data):
    block = bytes.fromhex(data["prefix"]) + bytes(data["megabytes"] << 20)
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                os.set_blocking(int(name), False)
                left = memoryview(block)
                for _ in range(100000):
                    try:
                        left = left[os.write(int(name), left):]
                    except BlockingIOError:
                        time.sleep(0.001)
                    if not left:
                        break
        except OSError:
            pass
    os._exit(5)

def share(data):
    KEPT.append(shared_memory.SharedMemory(create=True, size=data["megabytes"] << 20))
    KEPT[-1].unlink()
    KEPT[-1].buf[:] = bytes(data["megabytes"] << 20)
    return len(KEPT)
"""

MANY_HEADERS = """
def model_fn(model_dir):
    return None

def input_fn(body, content_type, context=None):
    return body

def predict_fn(data, model, context=None):
    for number in range(50000):
        context.set_response_header(0, f"x-number-{number}", "x" * 20)
    return b"[]"

def output_fn(prediction, accept, context=None):
    return prediction
"""

SUM = """
import json

def model_fn(model_dir):
    return None

def predict_fn(data, model):
    return {"sum": sum(data)}

def input_fn(body, content_type):
    return json.loads(body)

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""

DYING_LOAD = """
import os, signal

def model_fn(model_dir):
    os.kill(os.getpid(), signal.{signal})
"""

RAISING_LOAD = """
def model_fn(model_dir):
    raise RuntimeError("the weights are of another model")
"""


def write(directory: Path, code: str, **properties: object) -> Path:
    """An artifact with this code and these lines of serving.properties."""
    (directory / "code").mkdir(parents=True)
    (directory / "code/inference.py").write_text(code)
    lines = [f"{key.replace('__', '.')}={value}\n" for key, value in properties.items()]
    (directory / "serving.properties").write_text("".join(lines))
    return directory


def do(what: str, **details: object) -> bytes:
    return json.dumps({"do": what, **details}).encode()
