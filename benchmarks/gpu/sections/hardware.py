"""Measurements of the machine without the container, on which predictions and ratios are based."""

from benchmarks.gpu import child
from benchmarks.gpu.day import Day
from benchmarks.gpu.day_section import Found, Prediction, Section


def measure(day: Day, found: Found) -> None:
    found |= child.run("plain.hardware", day.device, day.bert("b16", 0), timeout_s=80)


SECTIONS = (
    Section(
        "hardware",
        90,
        measure,
        (
            Prediction(
                "copy of 256 MiB from page-locked memory",
                ("copy_pinned_256MiB_GBps",),
                48,
                57,
                "PCIe 5 at 16 lanes; 52 to 56 GB/s were published for an H100",
                "GB/s",
            ),
            Prediction(
                "reads of the page cache by four threads",
                ("read_page_cache_4_threads_GBps",),
                20,
                36,
                "8 to 9 GB/s for one core into memory touched before, measured on an EPYC",
                "GB/s",
            ),
            Prediction(
                "what empty_cache adds to the next forward of 32 × 128",
                ("empty_cache_adds_ms",),
                1,
                5,
                "blocks of activations are allocated from the driver again",
                "ms",
            ),
            Prediction(
                "forward of 32 × 128, bert-base, bfloat16",
                ("forward_32x128_ms",),
                4,
                9,
                "launches take about 6 ms from Python, arithmetic 2",
                "ms",
            ),
        ),
        serves=False,
    ),
)
