"""The path of weights from the page cache to the device, by the size of its reads and buffers."""

from benchmarks.gpu import child
from benchmarks.gpu.day import Day
from benchmarks.gpu.day_section import Found, Prediction, Section


def measure(day: Day, found: Found) -> None:
    file = day.bert("b16", 0) / "model.safetensors"
    found |= child.run("plain.uploads", day.device, file, timeout_s=60)


SECTIONS = (
    Section(
        "uploads",
        60,
        measure,
        (
            Prediction(
                "upload of a bfloat16 bert-base in reads of 4 MiB",
                ("sleeping", "4MiB, 16 buffers, 15 readers"),
                20,
                40,
                "reads of the page cache bound it: 20 to 23 GB/s with 8 readers of 16 MiB",
                "GB/s",
            ),
            Prediction(
                "the same from registered pages",
                ("registered", "GBps"),
                45,
                56,
                "the rate of a plain copy, without reads",
                "GB/s",
            ),
        ),
        serves=False,
    ),
)
