"""A process with code of its own may not take more of the device than all models together."""

from pathlib import Path

from tests.fake_cuda.gpu_server import GpuServer
from tests.fake_cuda.test_custom_code import artifact as artifact
from tests.fake_cuda.test_custom_code import ask, process

SETTINGS = {"MME_DEVICE_MEMORY": "200MiB"}
TOO_MUCH = 250  # MiB, which the device has free


def test_an_allocation_beyond_the_budget_fails(gpu_server: GpuServer, artifact: Path) -> None:
    """In the process that asks for it, which goes on."""
    gpu_server.load([artifact])
    before = process(gpu_server).pid
    assert gpu_server.status("custom", {"mebibytes": TOO_MUCH}) == 507
    assert ask(gpu_server, 1)["device"] == "cuda:0"
    assert process(gpu_server).pid == before
