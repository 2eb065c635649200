"""How an engine is asked to behave: plain values, decided before it starts and never changed."""

from dataclasses import dataclass
from pathlib import Path

MATMUL_PRECISIONS = ("highest", "high", "medium")  # as PyTorch names them


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a device worker is started with; sent to it as JSON."""

    warmup: bool = True  # one forward at load, so that the first request finds everything set up
    matmul_precision: str = (
        "highest"  # of float32 on GPUs: highest | high | medium (TF32, bfloat16)
    )
    registered_nbytes: int = 0  # page cache that may be registered with the GPU's driver; 0: none


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """What processes beside the main worker are started with, known once that one has come up.

    `device`: cpu or cuda:<n>. `memory_nbytes` bounds what a process with code of its own may allocate of
    main memory, `device_share` what it may take of the device, as a part of the whole; both where there
    is a bound. `context_nbytes`: what a process takes of the device by itself.
    """

    device: str
    memory_nbytes: int | None = None
    device_share: float | None = None
    context_nbytes: int = 0
    matmul_precision: str = "highest"
    requirements: Path | None = None  # where those of artifacts are installed, if they are

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """`None` for a memory budget means: ask the device, or the cgroup, when the engine starts."""

    model_roots: tuple[Path, ...] = (Path("/opt/ml/models"),)
    device: str = "auto"  # auto | cpu | cuda | cuda:<n>
    dtype: str = "auto"  # auto | float32 | bfloat16 | float16
    default_task: str | None = None  # HF_TASK: for artifacts that do not say their own
    device_memory_nbytes: int | None = None
    host_memory_nbytes: int | None = None
    eviction: str = "gdsf"  # or lru: who leaves a full device
    install_requirements: bool = False  # of artifacts that bring code
    requirements_dir: Path = Path("/tmp/mme-requirements")
    worker: WorkerOptions = WorkerOptions()
    max_batch_size: int = 32
    max_queue: int = 128  # waiting requests per model
    request_timeout_s: float = 58.0
    load_timeout_s: float = 300.0  # the platform gives up after 360 s, clean-up included
    unload_timeout_s: float = 60.0
