"""What the environment says, read once from a mapping and never changed.

Always true: a `Settings` made by `from_environ` is valid; everything else was refused with one line that
names the variable, its value and what is allowed.
"""

import dataclasses
import difflib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self, get_type_hints

from container import variables
from container.variables import NotAllowed, Parse
from model_handler.memory.eviction import POLICIES
from model_handler.options import MATMUL_PRECISIONS, EngineOptions, WorkerOptions

PREFIX = "MME_"
FRONTS = ("uvicorn", "multi-model-server")
_ENGINE = EngineOptions()


class SettingsError(Exception):
    """`str(error)` is one line for whoever starts the container."""


class Variable:
    """Marks a field that is read from the first of `names` that is set."""

    def __init__(self, *names: str, parse: Parse, text: str) -> None:
        self.names = names
        self.parse = parse
        self.text = text


def _scratch() -> Path:
    return Path(tempfile.gettempdir()) / f"mme-models-{os.getpid()}"


@dataclass(frozen=True, slots=True)
class Settings:
    multi_model: Annotated[
        bool,
        Variable(
            "SAGEMAKER_MULTI_MODEL",
            parse=variables.truth,
            text="true: the platform loads models; else those in MME_MODEL_DIR are served",
        ),
    ] = False
    front: Annotated[
        str,
        Variable(
            "MME_FRONT",
            parse=variables.one_of(FRONTS),
            text="uvicorn, or multi-model-server: one process a model and no ledger, for who must keep it",
        ),
    ] = FRONTS[0]
    host: Annotated[
        str, Variable("MME_HOST", parse=variables.printable, text="address to listen on")
    ] = "0.0.0.0"
    port: Annotated[
        int,
        Variable(
            "SAGEMAKER_BIND_TO_PORT", "MME_PORT", parse=variables.port, text="port to listen on"
        ),
    ] = 8080
    safe_port_range: Annotated[
        tuple[int, int] | None,
        Variable(
            "SAGEMAKER_SAFE_PORT_RANGE",
            parse=variables.port_range,
            text="ports a container may use besides; none is used",
        ),
    ] = None
    log_level: Annotated[
        int,
        Variable("SAGEMAKER_CONTAINER_LOG_LEVEL", parse=variables.log_level, text="number or name"),
    ] = logging.INFO
    default_accept: Annotated[
        str | None,
        Variable(
            "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT",
            parse=variables.printable,
            text="for requests without Accept",
        ),
    ] = None
    default_task: Annotated[
        str | None,
        Variable("HF_TASK", parse=variables.task, text="for artifacts that do not say their own"),
    ] = _ENGINE.default_task
    model_roots: Annotated[
        tuple[Path, ...],
        Variable(
            "MME_MODEL_ROOT",
            parse=variables.directories,
            text="directories models may be loaded from",
        ),
    ] = _ENGINE.model_roots
    install_requirements: Annotated[
        bool,
        Variable(
            "MME_INSTALL_REQUIREMENTS",
            parse=variables.truth,
            text="true: install the code/requirements.txt of artifacts that bring code",
        ),
    ] = _ENGINE.install_requirements
    requirements_dir: Annotated[
        Path,
        Variable("MME_REQUIREMENTS_DIR", parse=variables.directory, text="where they are kept"),
    ] = _ENGINE.requirements_dir
    model_dir: Annotated[
        Path,
        Variable(
            "MME_MODEL_DIR", parse=variables.directory, text="what to serve without the platform"
        ),
    ] = Path("/opt/ml/model")
    scratch_dir: Annotated[
        Path | None,
        Variable(
            "MME_SCRATCH_DIR",
            parse=variables.directory,
            text="where archives in MME_MODEL_DIR are unpacked; default: a temporary directory",
        ),
    ] = None
    device: Annotated[
        str, Variable("MME_DEVICE", parse=variables.device, text="auto, cpu, cuda or cuda:<n>")
    ] = _ENGINE.device
    dtype: Annotated[
        str,
        Variable(
            "MME_DTYPE", parse=variables.one_of(variables.DTYPES), text="of weights and arithmetic"
        ),
    ] = _ENGINE.dtype
    device_memory_nbytes: Annotated[
        int | None,
        Variable(
            "MME_DEVICE_MEMORY",
            parse=variables.size,
            text="for all models on the device; default: what it has",
        ),
    ] = None
    host_memory_nbytes: Annotated[
        int | None,
        Variable(
            "MME_HOST_MEMORY",
            parse=variables.size,
            text="for models waiting in host memory; default: what the cgroup allows",
        ),
    ] = None
    eviction: Annotated[
        str,
        Variable(
            "MME_EVICTION",
            parse=variables.one_of(tuple(POLICIES)),
            text="who leaves a full GPU: gdsf, the seldom used and large; lru, the least recently used",
        ),
    ] = _ENGINE.eviction
    matmul_precision: Annotated[
        str,
        Variable(
            "MME_MATMUL_PRECISION",
            parse=variables.one_of(MATMUL_PRECISIONS),
            text="of float32 models on a GPU: highest, high (TF32) or medium (bfloat16)",
        ),
    ] = _ENGINE.worker.matmul_precision
    warmup: Annotated[
        bool,
        Variable(
            "MME_WARMUP",
            parse=variables.truth,
            text="true: one small forward at the end of each load",
        ),
    ] = _ENGINE.worker.warmup
    registered_nbytes: Annotated[
        int,
        Variable(
            "MME_REGISTERED_MEMORY",
            parse=variables.size_or_zero,
            text="of cached model files that the GPU's driver may lock in memory for faster copies; 0: none",
        ),
    ] = _ENGINE.worker.registered_nbytes
    max_batch_size: Annotated[
        int,
        Variable("MME_MAX_BATCH_SIZE", parse=variables.number(1, 4096), text="requests per batch"),
    ] = _ENGINE.max_batch_size
    max_queue: Annotated[
        int,
        Variable(
            "MME_MAX_QUEUE", parse=variables.number(1, 1_000_000), text="waiting requests per model"
        ),
    ] = _ENGINE.max_queue
    request_timeout_s: Annotated[
        float,
        Variable(
            "MME_REQUEST_TIMEOUT",
            "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",
            parse=variables.seconds(86_400),
            text="seconds for an answer; also for a request's body to arrive",
        ),
    ] = _ENGINE.request_timeout_s
    load_timeout_s: Annotated[
        float, Variable("MME_LOAD_TIMEOUT", parse=variables.seconds(86_400), text="seconds")
    ] = _ENGINE.load_timeout_s
    unload_timeout_s: Annotated[
        float,
        Variable(
            "MME_UNLOAD_TIMEOUT",
            parse=variables.seconds(86_400),
            text="seconds that requests in flight are waited for",
        ),
    ] = _ENGINE.unload_timeout_s
    max_body_nbytes: Annotated[
        int, Variable("MME_MAX_BODY", parse=variables.size, text="largest request body")
    ] = 32 << 20
    max_payload_nbytes: Annotated[
        int,
        Variable(
            "SAGEMAKER_MAX_PAYLOAD_IN_MB",
            parse=variables.megabytes,
            text="raises MME_MAX_BODY where that is lower",
        ),
    ] = 0
    drain_timeout_s: Annotated[
        float,
        Variable(
            "MME_DRAIN_TIMEOUT",
            parse=variables.seconds(3600),
            text="seconds from SIGTERM to the end, the last 5 for stopping",
        ),
    ] = 25.0

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Raises SettingsError for a value that is not allowed and for an unknown MME_ variable."""
        _refuse_unknown(environ)
        return cls(**dict(_values(environ)))

    @property
    def body_limit_nbytes(self) -> int:
        return max(self.max_body_nbytes, self.max_payload_nbytes)

    @property
    def scratch(self) -> Path:
        """Where archives are unpacked: of this process alone."""
        return self.scratch_dir or _scratch()

    @property
    def engine(self) -> EngineOptions:
        """Without the platform, only what was found in `model_dir` can be loaded."""
        roots = self.model_roots if self.multi_model else (self.model_dir, self.scratch)
        shared = {option.name for option in dataclasses.fields(EngineOptions)}
        mine = {each.name for each in dataclasses.fields(self)}
        values = {name: getattr(self, name) for name in shared & mine}
        worker = WorkerOptions(self.warmup, self.matmul_precision, self.registered_nbytes)
        return EngineOptions(**values | {"model_roots": roots, "worker": worker})

    def facts(self) -> dict[str, object]:
        """All of it, for the log."""
        return {each.name: _shown(getattr(self, each.name)) for each in dataclasses.fields(self)}


def _shown(value: object) -> object:
    if isinstance(value, tuple):
        return os.pathsep.join(map(str, value))
    return "unset" if value is None else value


def _variables() -> dict[str, Variable]:
    """By the name of their field."""
    hints = get_type_hints(Settings, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items()}


def _values(environ: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """The fields that are set. An empty variable counts as not set: templates leave them behind."""
    for field, variable in _variables().items():
        for name in variable.names:
            if text := environ.get(name, "").strip():
                yield field, _parsed(name, text, variable.parse)
                break


def _parsed(name: str, text: str, parse: Parse) -> Any:
    try:
        return parse(text)
    except NotAllowed as allowed:
        raise SettingsError(f"{name}={text[:200]!r} is not allowed: give {allowed}") from None


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    known = [name for variable in _variables().values() for name in variable.names]
    ours = [name for name in known if name.startswith(PREFIX)]
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in ours:
            nearest = difflib.get_close_matches(name, ours, n=1, cutoff=0.0)[0]
            raise SettingsError(
                f"{name}={environ[name][:200]!r} is unknown: did you mean {nearest}?"
            )


def describe() -> str:
    """Every variable, its default and its meaning, for --help."""
    return "\n".join(_paragraphs())


def _paragraphs() -> Iterator[str]:
    by_field = _variables()
    for field in dataclasses.fields(Settings):
        variable = by_field[field.name]
        default = "" if field.default is None else f" (default {_shown(field.default)})"
        yield f"  {', '.join(variable.names)}\n      {variable.text}{default}"
