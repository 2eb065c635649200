"""The settings, read once from environment variables and never changed.

Invariant: a `Settings` made by `from_environ` is valid. The error for an invalid variable is one line with
its name, its value and the allowed values.
"""

import dataclasses
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from container import environment, variables
from container.environment import SettingsError as SettingsError
from container.environment import variable
from container.limit_settings import LimitSettings
from model_handler.memory.eviction import POLICIES
from model_handler.options import (
    MATMUL_PRECISIONS,
    EngineOptions,
    WorkerOptions,
)

PREFIX = "MME_"
FRONTS = ("uvicorn", "multi-model-server")
_ENGINE = EngineOptions()


def _scratch() -> Path:
    return Path(tempfile.gettempdir()) / f"mme-models-{os.getpid()}"


@dataclass(frozen=True, slots=True)
class Settings(LimitSettings):
    multi_model: bool = variable(
        False,
        "SAGEMAKER_MULTI_MODEL",
        parse=variables.truth,
        text="true: SageMaker loads and unloads models; false: all models in"
        " MME_MODEL_DIR are served",
    )
    front: str = variable(
        FRONTS[0],
        "MME_FRONT",
        parse=variables.one_of(FRONTS),
        text="HTTP server: uvicorn, or multi-model-server with one process per model",
    )
    host: str = variable(
        "0.0.0.0", "MME_HOST", parse=variables.printable, text="address to listen on"
    )
    port: int = variable(
        8080, "SAGEMAKER_BIND_TO_PORT", "MME_PORT", parse=variables.port, text="port to listen on"
    )
    safe_port_range: tuple[int, int] | None = variable(
        None,
        "SAGEMAKER_SAFE_PORT_RANGE",
        parse=variables.port_range,
        text="range of ports for further servers in the container; accepted, but not used",
        default="none",
    )
    log_level: int = variable(
        logging.INFO,
        "SAGEMAKER_CONTAINER_LOG_LEVEL",
        parse=variables.log_level,
        text="lowest level that is logged, as a name or as Python's number",
        default="INFO",
    )
    default_accept: str | None = variable(
        None,
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT",
        parse=variables.printable,
        text="media type of answers to requests without an Accept header",
        default="the handler's own",
    )
    default_task: str | None = variable(
        _ENGINE.default_task,
        "HF_TASK",
        parse=variables.task,
        text="task of models whose artifact does not set one",
        default="none",
    )
    model_roots: tuple[Path, ...] = variable(
        _ENGINE.model_roots,
        "MME_MODEL_ROOT",
        parse=variables.directories,
        text="directories that contain the models, separated by ':'",
    )
    install_requirements: bool = variable(
        _ENGINE.install_requirements,
        "MME_INSTALL_REQUIREMENTS",
        parse=variables.truth,
        text="true: a load installs the artifact's code/requirements.txt",
    )
    quarantine: bool = variable(
        _ENGINE.quarantine,
        "MME_QUARANTINE",
        parse=variables.truth,
        text="true: an artifact with new content is first opened, and asked once, in a process of its own",
    )
    requirements_dir: Path = variable(
        _ENGINE.requirements_dir,
        "MME_REQUIREMENTS_DIR",
        parse=variables.directory,
        text="directory for the installed packages",
    )
    isolate_users: bool = variable(
        False,
        "MME_ISOLATE_USERS",
        parse=variables.truth,
        text="true: each process for one model has a user of its own; requires root",
    )
    isolate_user_range: tuple[int, int] = variable(
        (20000, 29999),
        "MME_ISOLATE_USER_RANGE",
        parse=variables.uid_range,
        text="the users of MME_ISOLATE_USERS, first and last uid",
        default="20000-29999",
    )
    model_dir: Path = variable(
        Path("/opt/ml/model"),
        "MME_MODEL_DIR",
        parse=variables.directory,
        text="directory of the models to serve when SAGEMAKER_MULTI_MODEL is false",
    )
    scratch_dir: Path | None = variable(
        None,
        "MME_SCRATCH_DIR",
        parse=variables.directory,
        text="directory in which archives from MME_MODEL_DIR are unpacked",
        default="a new temporary directory",
    )
    device: str = variable(
        _ENGINE.device,
        "MME_DEVICE",
        parse=variables.device,
        text="devices that run the models: auto, cpu, cuda (all GPUs) or cuda:<number>",
    )
    workers: int | None = variable(
        None,
        "MME_WORKERS",
        parse=variables.number(1, 256),
        text="worker processes on a CPU, 1 to 256; on GPUs there is one for each",
        default="one per core of the CPU affinity and cgroup quota",
    )
    dtype: str = variable(
        _ENGINE.dtype,
        "MME_DTYPE",
        parse=variables.dtype,
        text="data type of weights and arithmetic: auto, float32, bfloat16 or float16",
    )
    device_memory_nbytes: int | None = variable(
        None,
        "MME_DEVICE_MEMORY",
        parse=variables.size,
        text="memory for all models on the device, in bytes or with a unit such as 512MiB",
        default="85 % of free GPU memory, or 70 % of the memory limit on a CPU",
    )
    host_memory_nbytes: int | None = variable(
        None,
        "MME_HOST_MEMORY",
        parse=variables.size,
        text="main memory for models that are loaded but not on the GPU, in bytes"
        " or with a unit such as 512MiB",
        default="70 % of the memory limit",
    )
    eviction: str = variable(
        _ENGINE.eviction,
        "MME_EVICTION",
        parse=variables.one_of(tuple(POLICIES)),
        text="models that are evicted first from a full GPU: gdsf (rarely used and"
        " large) or lru (least recently used)",
    )
    matmul_precision: str = variable(
        _ENGINE.worker.matmul_precision,
        "MME_MATMUL_PRECISION",
        parse=variables.one_of(MATMUL_PRECISIONS),
        text="precision of float32 matrix products on a GPU: highest, high (TF32)"
        " or medium (bfloat16)",
    )
    warmup: bool = variable(
        _ENGINE.worker.warmup,
        "MME_WARMUP",
        parse=variables.truth,
        text="true: run one small forward at the end of each load",
    )
    registered_nbytes: int = variable(
        _ENGINE.worker.registered_nbytes,
        "MME_REGISTERED_MEMORY",
        parse=variables.size_or_zero,
        text="main memory for page-locked model files, which are copied to the GPU"
        " faster, in bytes or with a unit such as 4GiB",
    )
    max_batch_size: int = variable(
        _ENGINE.max_batch_size,
        "MME_MAX_BATCH_SIZE",
        parse=variables.number(1, 4096),
        text="largest number of requests in one batch",
    )
    max_queue: int = variable(
        _ENGINE.max_queue,
        "MME_MAX_QUEUE",
        parse=variables.number(1, 1_000_000),
        text="largest number of waiting requests per model",
    )
    request_timeout_s: float = variable(
        _ENGINE.request_timeout_s,
        "MME_REQUEST_TIMEOUT",
        "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",
        parse=variables.seconds(86_400),
        text="time limit for answering a request, and for receiving its body, in seconds",
    )
    load_timeout_s: float = variable(
        _ENGINE.load_timeout_s,
        "MME_LOAD_TIMEOUT",
        parse=variables.seconds(86_400),
        text="time limit for loading one model, in seconds",
    )
    unload_timeout_s: float = variable(
        _ENGINE.unload_timeout_s,
        "MME_UNLOAD_TIMEOUT",
        parse=variables.seconds(86_400),
        text="time that an unload waits for the model's unanswered requests, in seconds; then they get 503",
    )
    max_body_nbytes: int = variable(
        32 << 20,
        "MME_MAX_BODY",
        parse=variables.size,
        text="largest request body, in bytes or with a unit such as 32MiB",
    )
    max_response_nbytes: int = variable(
        _ENGINE.worker.max_response_nbytes,
        "MME_MAX_RESPONSE",
        parse=variables.size_within(1 << 30),
        text="largest response of a model with its headers, at most 1GiB, in bytes or with"
        " a unit such as 64MiB",
    )
    max_payload_nbytes: int = variable(
        0,
        "SAGEMAKER_MAX_PAYLOAD_IN_MB",
        parse=variables.megabytes,
        text="largest payload of the endpoint, in MiB; MME_MAX_BODY is at least this",
    )
    body_memory_nbytes: int = variable(
        256 << 20,
        "MME_BODY_MEMORY",
        parse=variables.size,
        text="memory for all request bodies that arrive or wait for an answer, in bytes or with a unit"
        " such as 256MiB; at least MME_MAX_BODY",
    )
    drain_timeout_s: float = variable(
        25.0,
        "MME_DRAIN_TIMEOUT",
        parse=variables.seconds(3600),
        text="time from SIGTERM to the end of the process, in seconds; requests in"
        " flight get all but the last 5 s",
    )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Raises SettingsError for a value that is not allowed, and for an unknown MME_ variable."""
        chosen = environment.read(cls, environ, PREFIX)
        if chosen.isolate_users and os.geteuid():
            raise SettingsError("MME_ISOLATE_USERS=true requires that the container runs as root")
        if chosen.isolate_users and chosen.front != FRONTS[0]:
            raise SettingsError(f"MME_ISOLATE_USERS=true requires MME_FRONT={FRONTS[0]}")
        return chosen

    @property
    def body_limit_nbytes(self) -> int:
        return max(self.max_body_nbytes, self.max_payload_nbytes)

    @property
    def scratch(self) -> Path:
        """The directory in which this process unpacks archives."""
        return self.scratch_dir or _scratch()

    @property
    def engine(self) -> EngineOptions:
        """The engine's options. In stand-alone mode, models can be loaded from `model_dir` and `scratch`
        only."""
        roots = self.model_roots if self.multi_model else (self.model_dir, self.scratch)
        shared = {option.name for option in dataclasses.fields(EngineOptions)}
        mine = {each.name for each in dataclasses.fields(self)}
        values = {name: getattr(self, name) for name in shared & mine}
        worker = WorkerOptions(
            warmup=self.warmup,
            matmul_precision=self.matmul_precision,
            registered_nbytes=self.registered_nbytes,
            max_response_nbytes=self.max_response_nbytes,
            limits=self.limits,
        )
        uids = self.isolate_user_range if self.isolate_users else None
        others = {"model_roots": roots, "worker": worker, "isolated_uids": uids}
        return EngineOptions(**values | others)

    def facts(self) -> dict[str, object]:
        """Every setting, for the log."""
        return {
            each.name: environment.shown(getattr(self, each.name))
            for each in dataclasses.fields(self)
        }


def describe() -> str:
    """Every variable, its meaning and its default, for --help."""
    return "\n".join(
        f"  {', '.join(names)}\n      {text} (default: {default})"
        for names, text, default in environment.rows(Settings)
    )
