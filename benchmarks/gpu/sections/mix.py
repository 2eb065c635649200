"""The five architectures of the examples at full size, with requests from 32 clients."""

import json

import msgspec

from benchmarks import load, traffic
from benchmarks.gpu import child
from benchmarks.gpu.callers import Ask, gauges, invoke, ms, must_load
from benchmarks.gpu.day import Day
from benchmarks.gpu.day_section import Found, Prediction, Section
from benchmarks.scenarios import FIVE, document

TASKS = {"marian": "translation_en_to_de", "bart-large": "summarization"}
SHARES = (40.0, 25.0, 15.0, 15.0, 5.0)
CASES: tuple[tuple[str, dict[str, str]], ...] = (
    ("float32", {}),
    ("bfloat16", {"MME_DTYPE": "bfloat16"}),
)
BUILD_S = 120.0


def measure(day: Day, found: Found) -> None:
    names = day.pick(FIVE, ("tiny-000", "tiny-001"))
    _build(day, names)
    for label, extra in day.pick(CASES, CASES[:1]):
        with day.serving(f"mix-{label}", **extra) as server:
            loads = {name: ms(must_load(server, name, day.artifact(name))) for name in names}
            first = {name: invoke(server, Ask(name, document(name, "word1"))) for name in names}
            plan = load.Plan(server.port, _kinds(names), day.pick(6.0, 2.0), 32, warmup_s=1.0)
            outcome = msgspec.to_builtins(load.run(plan))
            statuses = {name: answer.status for name, answer in first.items()}
            found[label] = {"load_ms": loads, "first_statuses": statuses, **outcome}
            found[label]["gauges"] = gauges(server)
    if "bfloat16" in found:
        ratio = found["bfloat16"]["per_s"] / found["float32"]["per_s"]
        found["bfloat16_over_float32"] = round(ratio, 3)


def _build(day: Day, names: tuple[str, ...]) -> None:
    child.output("full_models", day.models, *names, timeout_s=BUILD_S)
    for name, task in TASKS.items():
        if name in names:
            properties = day.artifact(name) / "serving.properties"
            properties.write_text(f"option.task={task}\n", encoding="utf-8")


def _kinds(names: tuple[str, ...]) -> list[load.RequestKind]:
    texts = traffic.ragged(64, seed=19, longest=60)
    return [
        load.RequestKind(name, f"/models/{name}/invoke", _bodies(name, texts), share)
        for name, share in zip(names, SHARES, strict=False)
    ]


def _bodies(name: str, texts: list[str]) -> list[str]:
    return [json.dumps(document(name, text)) for text in texts]


SECTIONS = (
    Section(
        "five-models",
        150,
        measure,
        (
            Prediction(
                "throughput in bfloat16 over float32",
                ("bfloat16_over_float32",),
                1,
                1.4,
                "small batches are bound by launches, not by arithmetic",
                "×",
            ),
        ),
    ),
)
