"""The performance targets: each with its bound and the figure that is computed from the raw results."""

from dataclasses import dataclass

from benchmarks import figures
from benchmarks.figures import OURS, TRITON, Figure
from benchmarks.scenarios import CLIENTS, workers_side


@dataclass(frozen=True)
class Target:
    """`figure` computes the value from the result of `scenario`; bounds: at most `most`, at least `least`."""

    name: str
    what: str
    scenario: str
    figure: Figure
    most: float | None = None
    least: float | None = None
    unit: str = "×"

    def met(self, value: float) -> bool:
        if self.most is not None:
            return value <= self.most
        assert self.least is not None
        return value >= self.least

    def bound(self) -> str:
        sign, number = ("≤", self.most) if self.most is not None else ("≥", self.least)
        return f"{sign} {number:g} {self.unit}"


ONE_WORKER, TWO_WORKERS = workers_side(1), workers_side(2)

TARGETS = (
    Target(
        "cold start, CPU time",
        "(load + first answer − later answer), divided by the same with from_pretrained, bert-base",
        "cold",
        figures.cold("cpu_s"),
        most=0.25,
    ),
    Target(
        "cold start, wall time",
        "the same in elapsed time",
        "cold",
        figures.cold("wall_s"),
        most=0.25,
    ),
    Target(
        "load",
        "the Hugging Face toolkit's load time divided by ours, five full-size models",
        "five-models",
        figures.load_times,
        least=25,
    ),
    Target("start", "process start to /ping", "start", figures.start_s, most=0.7, unit="s"),
    Target(
        "50 tiny models",
        "time to load them over HTTP, eight at a time, into a running worker",
        "storm",
        figures.loaded_s,
        most=3,
        unit="s",
    ),
    Target(
        "memory per model",
        "anonymous memory per idle tiny model, without its weights",
        "storm",
        figures.anonymous_mb,
        most=2,
        unit="MB",
    ),
    Target(
        "served / plain PyTorch, bert-base",
        "texts per second with 32 clients, divided by plain PyTorch's in batches of 32;"
        " 32 tokens, both on two cores",
        "hot-bert-032",
        figures.served_over_bare(threads=2),
        least=0.95,
    ),
    Target(
        "served / plain PyTorch, tiny",
        "the same with a tiny model, both computing with one thread",
        "hot-tiny-032",
        figures.served_over_bare(),
        least=0.75,
    ),
    Target(
        "overhead",
        "the server's CPU time per request minus plain PyTorch's per text, tiny model, 32 clients",
        "hot-tiny-032",
        figures.overhead_us,
        most=120,
        unit="µs",
    ),
    Target(
        "front",
        "the part for HTTP and queues",
        "hot-tiny-032",
        figures.front_us,
        most=60,
        unit="µs",
    ),
    Target(
        "tiny, 32 clients",
        "requests per second divided by the Hugging Face toolkit's, 13 words",
        "hot-tiny-015",
        figures.throughput(32),
        least=5,
    ),
    Target(
        "distilbert, 8 clients", "the same", "hot-distilbert-032", figures.throughput(8), least=1.8
    ),
    Target(
        "distilbert, 32 clients",
        "the same",
        "hot-distilbert-032",
        figures.throughput(32),
        least=1.8,
    ),
    Target("Zipf over 20 tiny", "the same, 32 clients", "zipf-20", figures.throughput(32), least=2),
    Target("Zipf over 50 tiny", "the same, 32 clients", "zipf-50", figures.throughput(32), least=2),
    Target("five models", "the same, 8 clients", "five-models", figures.throughput(8), least=1),
    Target(
        "tiny, compared with Triton",
        "requests per second divided by those of Triton's Python backend, 13 words, 32 clients",
        "hot-tiny-015-triton",
        figures.throughput(32, TRITON),
        least=1,
    ),
    Target(
        "distilbert, compared with Triton",
        "the same, 30 words",
        "hot-distilbert-032-triton",
        figures.throughput(32, TRITON),
        least=1,
    ),
    Target(
        "Zipf over 20 tiny, compared with Triton",
        "the same, texts of random lengths",
        "zipf-20-triton",
        figures.throughput(32, TRITON),
        least=1,
    ),
    Target(
        "five models, short tasks",
        "the toolkit's p99 divided by ours, the worst of three short tasks",
        "five-models",
        figures.short_p99,
        least=20,
    ),
    Target(
        "neighbours",
        "p99 of one client while other models load and unload, divided by its p99 without them",
        "neighbours",
        figures.beside_alone(OURS),
        most=2,
    ),
    Target(
        "short requests during a generation",
        "increase of their p99, in decode steps of the generating model",
        "hog",
        figures.steps_waited,
        most=2,
        unit="steps",
    ),
    Target(
        "generation during short requests",
        "the generation's speed divided by its speed alone",
        "hog",
        figures.generation_kept,
        least=0.9,
    ),
    Target("refusal", "p99 of loads answered 507", "cycles", figures.refusal_ms, most=5, unit="ms"),
    Target(
        "memory growth",
        "growth of memory over load/unload cycles, after a warm-up",
        "cycles",
        figures.drift,
        most=1,
        unit="%",
    ),
    Target(
        "two workers, Zipf over 20 tiny",
        "requests per second divided by those with one worker, on two cores, 32 clients",
        "cores",
        figures.throughput(32, ONE_WORKER, TWO_WORKERS),
        least=1.45,
    ),
    Target(
        "two workers, cores busy",
        "CPU seconds per second of all processes of the server, 32 clients",
        "cores",
        figures.cores_busy(32, TWO_WORKERS),
        least=1.8,
        unit="cores",
    ),
    Target(
        "two workers, compared with Triton",
        "requests per second divided by Triton's, the lower of 8 and 32 clients",
        "cores",
        figures.least_throughput((8, 32), TRITON, TWO_WORKERS),
        least=1.1,
    ),
    *(
        Target(
            f"two workers, one {model} model",
            "requests per second divided by those with one worker,"
            " the lowest of 1, 8 and 32 clients; not slower but for noise",
            f"cores-{model}",
            figures.least_throughput(CLIENTS, ONE_WORKER, TWO_WORKERS),
            least=0.95,
        )
        for model in ("tiny", "distilbert", "bert")
    ),
    Target(
        "memory of a second worker",
        "PSS with two workers minus that with one, 200 tiny models, after traffic over all",
        "cores-memory",
        figures.added_mb("served", TWO_WORKERS, ONE_WORKER),
        most=120,
        unit="MB",
    ),
)
