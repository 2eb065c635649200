"""The scenarios, as frozen records. A scenario's name is its file in results/ and its SCENARIO= in make.

`seconds`: length of one window. The windows of both sides alternate, `repetitions` times.
"""

from dataclasses import dataclass
from typing import Any

from benchmarks import traffic

CLIENTS = (1, 8, 32)


@dataclass(frozen=True)
class Hot:
    """One model, texts of equal length (`words` + 2 tokens), compared with a peer and plain PyTorch.

    `bare`: pairs of batch size and threads. On two cores the container computes short forwards with one
    thread, since the other core is the front's and the client's, and long ones with two.
    """

    model: str
    words: int
    clients: tuple[int, ...] = CLIENTS
    peer: str | None = "hugging-face"
    bare: tuple[tuple[int, int], ...] = ((1, 1), (32, 1))
    seconds: float = 2.5
    repetitions: int = 5

    @property
    def models(self) -> tuple[str, ...]:
        return (self.model,)


@dataclass(frozen=True)
class Mix:
    """Several loaded models, with requests by Zipf's law, most for the first. Texts of various lengths."""

    models: tuple[str, ...]
    skew: float
    clients: tuple[int, ...] = CLIENTS
    peer: str | None = "hugging-face"
    seconds: float = 2.5
    repetitions: int = 5


@dataclass(frozen=True)
class SeveralWorkers:
    """The container with several numbers of workers, and peers, with the same traffic and in the same rounds.

    The traffic's own peer and plain PyTorch are not used.
    """

    traffic: Hot | Mix
    peers: tuple[str, ...] = ()
    workers: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class WorkerMemory:
    """Memory of the container with several numbers of workers: without models, after all were loaded, after
    one request to each, and after traffic that opens every model wherever it is served.
    """

    models: int
    workers: tuple[int, ...] = (1, 2)
    clients: int = 32
    seconds: float = 15.0
    repetitions: int = 3


@dataclass(frozen=True)
class Churn:
    """More models than memory: the platform unloads the least recently used when a load is refused."""

    models: int
    skew: float
    share: float
    clients: int = 8
    seconds: float = 4.0
    repetitions: int = 5


@dataclass(frozen=True)
class Storm:
    """All models are loaded, eight at a time like on the platform; then each is invoked."""

    models: int
    repetitions: int = 5


@dataclass(frozen=True)
class Neighbours:
    """One client invokes a tiny model while others are loaded and unloaded."""

    asked: str = "tiny-000"
    coming: tuple[str, ...] = ("ner", "marian", "bart-large")
    repetitions: int = 5


@dataclass(frozen=True)
class Hog:
    """Short requests, together with a client that generates text all the time."""

    short: str = "tiny-000"
    generating: str = "marian"
    rate: float = 20.0
    new_tokens: int = 60
    seconds: float = 4.0
    repetitions: int = 5


@dataclass(frozen=True)
class Cycles:
    """Rounds of load, invoke and unload. Memory is read at intervals; some loads are refused."""

    models: int = 20
    cycles: int = 2000
    refusals: int = 200


@dataclass(frozen=True)
class Cold:
    """Load and first response minus a hot response, compared with `from_pretrained`; CPU and wall time."""

    model: str = "topics"
    repetitions: int = 7


@dataclass(frozen=True)
class Start:
    """The time from the start of the process to the first /ping."""

    repetitions: int = 5


@dataclass(frozen=True)
class FirstLoad:
    """First loads of artifacts with new content: with and without the checks that precede such loads.

    `before`: directory of another version of the container that takes part.
    """

    kinds: tuple[str, ...]
    repetitions: int = 7
    before: str | None = None


Scenario = (
    Hot
    | Mix
    | SeveralWorkers
    | WorkerMemory
    | Churn
    | Storm
    | Neighbours
    | Hog
    | Cycles
    | Cold
    | Start
    | FirstLoad
)


def workers_side(workers: int) -> str:
    """The name in the results of the container with so many workers."""
    return f"workers-{workers}"


def tiny(count: int) -> tuple[str, ...]:
    return tuple(f"tiny-{number:03}" for number in range(count))


BOTH = ((1, 1), (32, 1), (32, 2))
GENERATING = ("marian", "bart-large")
FIVE = ("distilbert", "topics", "ner", "marian", "bart-large")

TRANSFORMERS = ("tiny", "distilbert", "bert", "gpt2", "marian", "vit")
TUNED = tuple(f"{kind}-tuned" for kind in TRANSFORMERS)
FORMATS = ("torchscript", "resnet", "onnx", "xgboost", "xgboost-json", "skops")

SCENARIOS: dict[str, Scenario] = {
    "start": Start(),
    "cold": Cold(),
    "hot-tiny-015": Hot("tiny-000", 13),
    "hot-tiny-015-mms": Hot("tiny-000", 13, peer="mms-pipelines", bare=()),
    "hot-tiny-015-triton": Hot("tiny-000", 13, peer="triton", bare=()),
    "hot-tiny-032": Hot("tiny-000", 30, clients=(32,)),
    "hot-tiny-128": Hot("tiny-000", 126, clients=(32,)),
    "hot-tiny-384": Hot("tiny-000", 382, clients=(32,), seconds=4),
    "hot-distilbert-032": Hot("distilbert", 30, clients=(8, 32), bare=BOTH, seconds=3),
    "hot-distilbert-032-triton": Hot(
        "distilbert", 30, clients=(8, 32), peer="triton", bare=(), seconds=4
    ),
    "hot-bert-032": Hot("topics", 30, clients=(32,), peer=None, bare=BOTH, seconds=4),
    "hot-bert-128": Hot("topics", 126, clients=(32,), peer=None, bare=BOTH, seconds=10),
    "zipf-20": Mix(tiny(20), 0.9, clients=(8, 32)),
    "zipf-20-triton": Mix(tiny(20), 0.9, clients=(8, 32), peer="triton"),
    "zipf-50": Mix(tiny(50), 0.9, clients=(8, 32)),
    "five-models": Mix(FIVE, 0.9, clients=(8,), seconds=15),
    "cores": SeveralWorkers(Mix(tiny(20), 0.9), peers=("hugging-face", "triton")),
    "cores-tiny": SeveralWorkers(Hot("tiny-000", 13)),
    "cores-distilbert": SeveralWorkers(Hot("distilbert", 30, seconds=4)),
    "cores-bert": SeveralWorkers(Hot("topics", 30, seconds=5)),
    "cores-memory": WorkerMemory(200),
    **{
        f"churn-{skew}-{share:.0%}".replace("%", ""): Churn(20, skew, share)
        for skew in (0.7, 0.9, 1.1)
        for share in (0.1, 0.25, 0.5)
    },
    "storm": Storm(50),
    "neighbours": Neighbours(),
    "hog": Hog(),
    "cycles": Cycles(),
    "first-load": FirstLoad((*TRANSFORMERS, *TUNED, *FORMATS)),
}

# Regular scenarios, twenty minutes on two cores. The others run only if they are named
REGULAR = (
    "start",
    "cold",
    "hot-tiny-015",
    "hot-tiny-032",
    "hot-distilbert-032",
    "hot-bert-032",
    "zipf-20",
    "churn-0.9-25",
    "storm",
    "neighbours",
    "hog",
    "cycles",
)


def document(model: str, text: str, new_tokens: int = 16) -> dict[str, Any]:
    """A request. Toolkits have limits of their own for generation, so these are spelt out."""
    if model not in GENERATING:
        return {"inputs": text}
    limits = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "num_beams": 4}
    return {"inputs": text, "parameters": limits}


def texts(scenario: Hot | Mix, seed: int = 7) -> list[str]:
    if isinstance(scenario, Hot):
        return traffic.texts(scenario.words, 256, seed)
    return traffic.ragged(256, seed)
