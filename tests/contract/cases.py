"""All cases of the contract: number, level and title, and the reason if a case is not tested here.

A case either has a test marked with its number, or a reason; `test_cases.py` checks this.
"""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    MUST = "MUST"
    SHOULD = "SHOULD"


@dataclass(frozen=True, slots=True)
class Case:
    """`elsewhere`: the reason why this suite does not test the case; empty if it does."""

    number: int
    level: Level
    group: str
    title: str
    elsewhere: str = ""


GPU = (
    "needs a CUDA device; `make test-fake-cuda` tests the loss of a fake device;"
    " on it and on an H200 ping stays 200, since the worker is replaced at once"
)

HEALTH, LIST, LOAD, INVOKE = "start-up and health", "list and get", "load", "invoke"
HEADERS, UNLOAD, MEMORY, CONCURRENCY = "headers", "unload", "memory", "concurrency"
NAMES, ROBUSTNESS, LIFE = "names and paths", "HTTP robustness", "process life"
PLATFORM = "platform emulation"


def must(number: int, group: str, title: str, elsewhere: str = "") -> Case:
    return Case(number, Level.MUST, group, title, elsewhere)


def should(number: int, group: str, title: str, elsewhere: str = "") -> Case:
    return Case(number, Level.SHOULD, group, title, elsewhere)


TABLE = (
    must(1, HEALTH, "ping answers within 2 s of a start, with no model loaded"),
    must(2, HEALTH, "the list is empty and answers as early as ping"),
    must(3, HEALTH, "ping and list answer quickly during load, invoke and delete"),
    must(4, HEALTH, "listens on SAGEMAKER_BIND_TO_PORT, else on 8080"),
    must(5, HEALTH, "no other listening port outside SAGEMAKER_SAFE_PORT_RANGE"),
    must(6, HEALTH, "accepts within 250 ms while 64 invokes are in flight"),
    must(7, HEALTH, "works on a read-only model root and writes nothing there"),
    must(8, HEALTH, "starts and serves without a network"),
    must(9, HEALTH, "ping is 200 after an artifact failed to load"),
    must(10, LIST, "a loaded model is listed with the url it was loaded from"),
    must(11, LIST, "get describes one model as an object"),
    must(12, LIST, "get of an unknown model is 404"),
    must(13, LIST, "after an unload, list and get no longer show the model"),
    should(14, LIST, "pages: each name once, no token on the last page"),
    should(15, LIST, "unusual limits and tokens are 200 or 400; paging always ends"),
    should(16, LIST, "GET /models/ is the same as GET /models"),
    must(17, LOAD, "a model answers as soon as its load has been answered"),
    must(18, LOAD, "a second load of a name is 409 and changes nothing"),
    must(19, LOAD, "the same name with another url is 409; the loaded model still answers"),
    must(20, LOAD, "one url loaded under two names gives two models"),
    must(21, LOAD, "a missing directory is 404"),
    must(
        22, LOAD, "a broken artifact is refused in the same way each time, and nothing of it stays"
    ),
    must(23, LOAD, "a body that is not a JSON object is 400"),
    must(24, LOAD, "missing or mistyped fields are 400"),
    must(25, LOAD, "unknown fields are ignored"),
    should(26, LOAD, "the body is read as JSON whatever its Content-Type"),
    must(27, LOAD, "an artifact inside one further directory is found"),
    must(28, LOAD, "a load body that is too long is refused and has no effect"),
    must(29, LOAD, "a name can be loaded again after its unload"),
    must(30, LOAD, "50 rounds of load, invoke and unload do not increase memory"),
    must(31, INVOKE, "the body's bytes reach the model unchanged"),
    must(32, INVOKE, "a body of 25 MiB is accepted"),
    must(33, INVOKE, "a body over the limit is 413, and the server continues"),
    must(34, INVOKE, "chunked bodies and Expect: 100-continue are supported"),
    must(35, INVOKE, "invoking an unknown model is 404"),
    must(36, INVOKE, "invoking an unloaded model is 404"),
    must(37, INVOKE, "inputs that the model cannot read are 400, unsupported media types 415"),
    must(
        38, INVOKE, "an error raised by a model is a short 5xx, and the model continues to answer"
    ),
    must(39, INVOKE, "interleaved requests are answered by the right model"),
    must(40, INVOKE, "other methods on invoke are 405 and have no effect"),
    should(41, INVOKE, "Accept is honoured or refused with 406"),
    must(42, INVOKE, "answers have a Content-Type"),
    must(43, INVOKE, "clients that disconnect do not keep a place in the queue"),
    must(44, HEADERS, "the url selects the model, whatever Target-Model says"),
    must(45, HEADERS, "unusual Target-Model values have no effect"),
    must(
        46,
        HEADERS,
        "Custom-Attributes cannot add headers to the answer",
    ),
    must(47, HEADERS, "session and unknown headers are ignored"),
    should(48, HEADERS, "/invocations selects the model by Target-Model"),
    must(49, UNLOAD, "the model's memory is free when the answer arrives"),
    must(50, UNLOAD, "unloading again is 404"),
    must(51, UNLOAD, "unloading an unknown model is 404"),
    must(52, UNLOAD, "DELETE /models is 405"),
    must(53, UNLOAD, "the model's files are closed"),
    should(54, UNLOAD, "an idle model unloads within 5 s"),
    must(55, MEMORY, "a model that can never fit is 507 and changes nothing"),
    must(56, MEMORY, "a refused load can be tried again: 507, not 409"),
    must(57, MEMORY, "a refused model is unknown: invoke is 404"),
    must(
        58,
        MEMORY,
        "a load that does not fit beside a loaded model is 507; the loaded model still answers",
    ),
    must(59, MEMORY, "the refused model loads after another one is unloaded"),
    must(60, MEMORY, "20 rounds of refusal and unload do not increase memory"),
    must(61, MEMORY, "out of memory during an inference is 507, and the model continues to answer"),
    must(
        62, MEMORY, "of two parallel loads that fit alone but not together, one is 200 and one 507"
    ),
    must(
        63,
        MEMORY,
        "a worker is killed during a load: the load is 5xx and nothing of the model stays",
    ),
    must(64, MEMORY, "a device assert is not answered with 507, and ping is 503", GPU),
    should(65, MEMORY, "507 is decided before weights are read"),
    must(66, CONCURRENCY, "two loads of one name: one 200, one 409, loaded once"),
    must(67, CONCURRENCY, "invoke during a load: 200 afterwards, or 404"),
    must(68, CONCURRENCY, "a loading model is not listed"),
    must(69, CONCURRENCY, "delete during a load: both are answered, nothing of the model stays"),
    must(70, CONCURRENCY, "delete during an invoke: both are answered"),
    must(71, CONCURRENCY, "two deletes: one 200, one 404"),
    must(
        72, CONCURRENCY, "delete and load at the same time: the final state agrees with the answers"
    ),
    must(73, CONCURRENCY, "a load does not delay another model's requests"),
    must(74, CONCURRENCY, "eight parallel loads succeed"),
    must(75, CONCURRENCY, "requests beyond the queue's limit are 503, and none hangs"),
    must(76, CONCURRENCY, "random parallel requests: no 500, no hang, no wrong answer, no leak"),
    must(77, NAMES, "encoded slashes, dots and the like in a path reach no other route or file"),
    must(78, NAMES, "unusual names are decoded exactly once and work in all requests"),
    must(79, NAMES, "a name of 256 characters is 400"),
    must(80, NAMES, "urls outside the model root are refused before anything is read"),
    must(81, NAMES, "words of the routes, such as `invoke`, can be model names"),
    should(82, NAMES, "a trailing slash on invoke is accepted"),
    must(83, ROBUSTNESS, "unknown paths are 404, wrong methods 405 with Allow"),
    must(84, ROBUSTNESS, "malformed and endless requests do not increase memory"),
    must(85, ROBUSTNESS, "slow senders do not delay other requests"),
    must(86, ROBUSTNESS, "HEAD /ping is answered"),
    must(87, ROBUSTNESS, "1000 requests on one connection, errors among them"),
    must(88, LIFE, "`docker run IMAGE serve` starts, and ends on signals"),
    must(89, LIFE, "SIGTERM when idle: exit 0 within 5 s, no orphans"),
    must(90, LIFE, "SIGTERM in flight: the request gets its answer"),
    must(91, LIFE, "the image has the required labels"),
    should(92, LIFE, "runs as root and as any user"),
    must(93, LIFE, "one log line per request, without the payload"),
    must(94, PLATFORM, "the health check passes after three successful pings in a row"),
    must(95, PLATFORM, "the first invoke extracts the archive, loads the model and answers"),
    must(96, PLATFORM, "with more models than memory, the least recently used are unloaded"),
    must(97, PLATFORM, "with caching disabled, the model is deleted after every invoke"),
    must(98, PLATFORM, "a model that the container lost is loaded again"),
    must(99, PLATFORM, "errors become exceptions of the runtime API"),
    must(100, PLATFORM, "of two instances one is killed; requests are still answered"),
)
CASES = {case.number: case for case in TABLE}
