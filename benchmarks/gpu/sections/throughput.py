"""Throughput of one bert-base in bfloat16, compared with plain PyTorch in batches of the same texts."""

import json

import msgspec

from benchmarks import load, traffic
from benchmarks.gpu import bare
from benchmarks.gpu.callers import gauges, must_load
from benchmarks.gpu.day import Day
from benchmarks.gpu.day_section import Found, Prediction, Section
from benchmarks.stacks import MeasuredServer

TEXTS = 256
BATCHES = (32, 64, 128)
SERVERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("batch-32", {}),  # the default
    ("batch-128", {"MME_MAX_BATCH_SIZE": "128"}),
)


def measure(day: Day, found: Found) -> None:
    plans = day.pick(((126, 64), (126, 256), (30, 256)), ((30, 8),))
    found["bare_per_s"] = _bare(day, sorted({words for words, _ in plans}))
    servers = day.pick(SERVERS, SERVERS[:1])
    for label, extra in servers:
        with day.serving(f"throughput-{label}", MME_MAX_QUEUE=512, **extra) as server:
            must_load(server, "hot", day.bert("b16", 0))
            runs = {_name(*plan): _window(day, server, *plan) for plan in plans}
            found[label] = runs | {"gauges": gauges(server)}
    for label, _ in servers:
        for words, clients in plans:
            run = found[label][_name(words, clients)]
            best = max(found["bare_per_s"][_tokens(words)].values())
            run["over_bare"] = round(run["per_s"] / best, 3)


def _tokens(words: int) -> str:
    return f"{words + 2} tokens"


def _name(words: int, clients: int) -> str:
    return f"{_tokens(words)}, {clients} clients"


def _window(day: Day, server: MeasuredServer, words: int, clients: int) -> Found:
    bodies = [json.dumps({"inputs": text}) for text in traffic.texts(words, TEXTS, seed=words)]
    kind = load.RequestKind("hot", "/models/hot/invoke", bodies)
    plan = load.Plan(server.port, [kind], day.pick(4.0, 1.5), clients, warmup_s=day.pick(1.0, 0.3))
    found: Found = msgspec.to_builtins(load.run(plan))
    return found


def _bare(day: Day, lengths: list[int]) -> Found:
    """Texts per second by length and batch, tokenizing included."""
    with bare.running(day.bert("b16", 0), day.device) as plain:
        return {
            _tokens(words): {
                str(batch): round(_rate(day, plain, words, batch), 1)
                for batch in day.pick(BATCHES, BATCHES[:1])
            }
            for words in lengths
        }


def _rate(day: Day, plain: bare.PlainTorchProcess, words: int, batch: int) -> float:
    texts = traffic.texts(words, TEXTS, seed=words)
    return float(plain.measure(batch, day.pick(1.5, 0.5), texts)["per_s"])


_WHY = "one thread tokenizes, about 7 ms for 32 × 128, beside a forward of 2 to 5; launches share the GIL"

SECTIONS = (
    Section(
        "throughput",
        120,
        measure,
        (
            Prediction(
                "served over plain PyTorch at its best batch, 128 tokens, 64 clients",
                ("batch-32", _name(126, 64), "over_bare"),
                0.4,
                0.7,
                _WHY,
                "×",
                "G2",
                least=0.85,
            ),
            Prediction(
                "the same with 32 tokens, 256 clients, batches up to 128",
                ("batch-128", _name(30, 256), "over_bare"),
                0.3,
                0.6,
                "one front process serves about 9,000 requests per second at most",
                "×",
                "T4",
                least=0.5,
            ),
        ),
    ),
)
