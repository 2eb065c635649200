"""python -m benchmarks.image [--image localhost/mme:cpu] [--repetitions 5] [--output DIR]

Measures the time from `run` of the built image to its first successful /ping, and to the first response of
a model that is loaded as soon as the server listens. Writes raw JSON with the environment.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path

import httpx

from benchmarks import environment
from benchmarks.stacks import free_port

REPOSITORY = Path(__file__).parents[1]
MODELS = REPOSITORY / "examples/five_models/artifacts"
PATIENCE_S = 60.0


def main() -> None:
    arguments = _arguments()
    engine = "docker" if _docker_answers() else "podman"
    os.environ["CONTAINERS_CONF"] = str(REPOSITORY / "image/containers.conf")
    runs = [_started(engine, arguments.image) for _ in range(arguments.repetitions)]
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    nbytes = _size(engine, arguments.image)
    result = {"engine": engine, "image_nbytes": nbytes, "runs": runs}
    print(f"image: {nbytes / 1e6:.0f} MB")
    print("\n".join(f"{name}: {value:.2f} s" for name, value in medians.items()))
    if arguments.output is not None:
        environment.write(arguments.output, "image", {**result, "medians": medians})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--image", default="localhost/mme:cpu", help="image to measure (default: %(default)s)"
    )
    parser.add_argument(
        "--repetitions", type=int, default=5, help="number of starts (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=None, help="directory for the raw JSON")
    return parser.parse_args()


def _docker_answers() -> bool:
    docker = shutil.which("docker")
    return (
        docker is not None and subprocess.run([docker, "info"], capture_output=True).returncode == 0
    )


def _size(engine: str, image: str) -> int:
    command = [engine, "image", "inspect", "--format", "{{.Size}}", image]
    return int(subprocess.run(command, check=True, capture_output=True).stdout)


def _started(engine: str, image: str) -> dict[str, float]:
    port = free_port()
    name = f"mme-bench-{port}"
    variables = ["--env", f"SAGEMAKER_BIND_TO_PORT={port}", "--env", "SAGEMAKER_MULTI_MODEL=true"]
    options = ["--name", name, "--network", "host", "--volume", f"{MODELS}:/opt/ml/models:ro"]
    began = time.perf_counter()
    command = [engine, "run", "--rm", *options, *variables, image, "serve"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        try:
            return _times(f"http://127.0.0.1:{port}", began)
        finally:
            subprocess.run([engine, "stop", name], capture_output=True)


def _times(base: str, began: float) -> dict[str, float]:
    with httpx.Client(base_url=base, timeout=PATIENCE_S) as client:
        _answers(client, began)
        ping_s = time.perf_counter() - began
        model = {"model_name": "one", "url": "/opt/ml/models/sentiment"}
        client.post("/models", json=model).raise_for_status()
        client.post("/models/one/invoke", json={"inputs": "a fox"}).raise_for_status()
        return {"ping_s": ping_s, "first_answer_s": time.perf_counter() - began}


def _answers(client: httpx.Client, began: float) -> None:
    while True:
        try:
            client.get("/ping").raise_for_status()
            return
        except httpx.TransportError:
            if time.perf_counter() - began > PATIENCE_S:
                raise


if __name__ == "__main__":
    main()
