"""Options of an engine and its processes: plain values, set before the engine starts and never changed."""

from dataclasses import dataclass
from pathlib import Path

MATMUL_PRECISIONS = ("highest", "high", "medium")  # as PyTorch names them


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request may ask for. Beyond a limit it is refused before memory or long time is spent on it.

    `units`: rows that the model computes: texts × labels, windows of a text or of audio, images; not the
    rows of tables. `text_characters`: of all texts of a request, including those repeated for each label.
    `tokens`: of all rows, with the overlaps of windows and padding. `generated_tokens`: new tokens × beams or
    returned sequences × rows. `image_pixels`: of one image, `pixels`: of all images. `audio_s`: seconds.
    `values`: numbers and other values in a JSON document, cells of a table or array.
    """

    units: int = 4096
    text_characters: int = 500_000
    tokens: int = 262_144
    generated_tokens: int = 32_768
    image_pixels: int = 50_000_000
    pixels: int = 100_000_000
    audio_s: int = 600
    values: int = 4_194_304


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Options of a device worker; sent to the worker as JSON."""

    warmup: bool = True  # run one forward at load, so that the first request is not a cold start
    # Precision of float32 matrix products on GPUs: highest | high (TF32) | medium (bfloat16)
    matmul_precision: str = "highest"
    registered_nbytes: int = 0  # limit of page cache registered with the GPU's driver; 0: none
    # On CPUs: threads of libraries whose thread pool cannot be changed for each batch (ONNX Runtime)
    pool_threads: int = 1
    max_response_nbytes: int = 64 << 20  # largest response to one request, with its headers
    limits: RequestLimits = RequestLimits()
    # The worker serves one model: TorchScript with option.isolation=own is then opened without checks
    alone: bool = False
    change_user: bool = False  # the process becomes another user when it loads its model


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """Options of isolated processes, known once the device worker has started; sent to them as JSON.

    `device`: cpu or cuda:<n>. `memory_nbytes` limits the main memory that an isolated process may
    allocate; `device_share` limits its device memory, as a fraction of the whole device; None means no
    limit. `context_nbytes`: device memory that every process uses before it loads a model;
    `worker_nbytes`: the same of a further device worker, in the memory in which its models compute.
    """

    device: str
    memory_nbytes: int | None = None
    device_share: float | None = None
    context_nbytes: int = 0
    worker_nbytes: int = 0
    matmul_precision: str = "highest"
    requirements_dir: str | None = None  # for packages that artifacts require; None: not installed
    max_response_nbytes: int = 64 << 20  # as in WorkerOptions
    limits: RequestLimits = RequestLimits()
    change_user: bool = False  # each process becomes another user when it loads a model

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """A memory budget of `None` is read from the device, or from the cgroup, when the engine starts."""

    model_roots: tuple[Path, ...] = (Path("/opt/ml/models"),)
    device: str = "auto"  # auto | cpu | cuda | cuda:<n>
    dtype: str = "auto"  # auto | float32 | bfloat16 | float16
    workers: int | None = (
        None  # device workers on a CPU; None: from the cores; on GPUs one for each
    )
    default_task: str | None = None  # HF_TASK: task of artifacts that do not name one
    device_memory_nbytes: int | None = None
    host_memory_nbytes: int | None = None
    eviction: str = "gdsf"  # eviction policy of a full device: gdsf | lru
    install_requirements: bool = False  # install requirements.txt of artifacts with code
    requirements_dir: Path = Path("/tmp/mme-requirements")
    quarantine: bool = True  # open new content in a process of its own first
    isolated_uids: tuple[int, int] | None = None  # of processes with code from artifacts; None: own
    worker: WorkerOptions = WorkerOptions()
    max_batch_size: int = 32
    max_queue: int = 128  # waiting requests per model
    request_timeout_s: float = 58.0
    load_timeout_s: float = 300.0  # below the platform's limit of 360 s, which includes clean-up
    unload_timeout_s: float = 60.0
