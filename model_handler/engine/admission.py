"""How much may come in: budgets of memory, bounds of queues. Pure decisions."""

from dataclasses import dataclass
from pathlib import Path

from model_handler.artifacts.artifact import Artifact
from model_handler.memory.pools import MemoryPool, Tier
from model_handler.messages import Ready
from model_handler.options import EngineOptions, ProcessOptions

CONTEXT_NBYTES = (
    1 << 30
)  # at most: what is missing beyond that belongs to somebody else on the device
WORKER_NBYTES = 16 << 20  # private memory of a device worker without models, on a CPU
DEVICE_SHARE = 0.85  # of the free device memory: the rest is for activations and workspaces
MAIN_MEMORY_SHARE = 0.7  # of the container's limit: the rest is for processes and activations
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def device_nbytes(options: EngineOptions, ready: Ready) -> int:
    """What models may hold on a device, from the settings where they say, else from the machine."""
    if options.device_memory_nbytes is not None:
        return options.device_memory_nbytes
    if ready.device == "cpu":
        return _main_memory_share()
    return int(DEVICE_SHARE * ready.free_nbytes)


def host_pool(options: EngineOptions, ready: Ready) -> MemoryPool | None:
    """Main memory for models of all GPUs; None without a GPU, where main memory is the device's memory."""
    if ready.device == "cpu":
        return None
    return MemoryPool(Tier.HOST, options.host_memory_nbytes or _main_memory_share())


def _main_memory_share() -> int:
    return int(MAIN_MEMORY_SHARE * main_memory_nbytes())


def process_options(options: EngineOptions, ready: Ready, device_nbytes: int) -> ProcessOptions:
    """For processes beside the main worker, which is `ready`: it has made a CUDA context and nothing else."""
    on_gpu = ready.device != "cpu"
    context = min(ready.total_nbytes - ready.free_nbytes, CONTEXT_NBYTES) if on_gpu else 0
    return ProcessOptions(
        ready.device,
        memory_nbytes=None if on_gpu else device_nbytes,
        device_share=min(1.0, device_nbytes / ready.total_nbytes) if on_gpu else None,
        context_nbytes=context,
        worker_nbytes=context if on_gpu else WORKER_NBYTES,
        matmul_precision=options.worker.matmul_precision,
        requirements_dir=str(options.requirements_dir) if options.install_requirements else None,
        max_response_nbytes=options.worker.max_response_nbytes,
        limits=options.worker.limits,
        change_user=options.isolated_uids is not None,
    )


def main_memory_nbytes(root: Path = Path("/")) -> int:
    """The container's memory limit (cgroup v2, then v1), at most what the machine has."""
    limits = [_machine_nbytes(root)]
    for name in CGROUP_LIMITS:
        text = _read(root / name.lstrip("/"))
        if text.isdecimal():
            limits.append(int(text))
    return min(limits)


def _machine_nbytes(root: Path) -> int:
    for queue_bounds in _read(root / "proc/meminfo").splitlines():
        if queue_bounds.startswith("MemTotal:"):
            return int(queue_bounds.split()[1]) * 1024
    raise OSError("/proc/meminfo has no MemTotal")


def _read(file: Path) -> str:
    return file.read_text().strip() if file.is_file() else ""


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """Bounds of one model: requests that may wait, requests per batch, how long an idle device waits for a
    batch to fill, in seconds, and its share of a busy device beside another's of weight 1."""

    limit: int
    batch_size: int
    delay_s: float = 0.0
    weight: float = 1.0


def queue_bounds(artifact: Artifact, options: EngineOptions) -> QueueBounds:
    """A model's queue and batch bounds: its own where its artifact sets them.

    Code out of an artifact takes one request at a time, as under the toolkits that it was written for.
    """
    properties = artifact.properties
    return QueueBounds(
        limit=properties.job_queue_size or options.max_queue,
        batch_size=1 if artifact.isolated else properties.batch_size or options.max_batch_size,
        delay_s=min((properties.max_batch_delay_ms or 0) / 1000, options.request_timeout_s / 2),
        weight=properties.scheduling_weight or 1,
    )
