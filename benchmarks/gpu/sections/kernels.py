"""Costs of a forward besides its arithmetic: planning for new shapes, and single kernel launches."""

from benchmarks.gpu import child
from benchmarks.gpu.day import Day
from benchmarks.gpu.day_section import Found, Prediction, Section

MODELS = 4


def measure(day: Day, found: Found) -> None:
    directories = [day.bert("b16", number) for number in range(MODELS)]
    found |= child.run("plain.kernels", day.device, *directories, timeout_s=80)


SECTIONS = (
    Section(
        "kernels",
        90,
        measure,
        (
            Prediction(
                "first forward of a shape with cuDNN's attention",
                ("attention", "with_cudnn", "new_shape_ms"),
                60,
                110,
                "80 to 95 ms more than the next forward, seen through the container",
                "ms",
            ),
            Prediction(
                "the same without cuDNN's attention",
                ("attention", "without_cudnn", "new_shape_ms"),
                5,
                20,
                "no plans",
                "ms",
            ),
            Prediction(
                "forward of 1 × 32 as a CUDA graph",
                ("graphs", "1x32", "replay_ms"),
                0.5,
                2,
                "some 200 kernels of a few µs, without launches from Python",
                "ms",
            ),
        ),
        serves=False,
    ),
)
