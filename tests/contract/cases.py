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


GPU = "needs a CUDA device; make test-fake-cuda has one that is fake"

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
    must(3, HEALTH, "ping and list stay quick during load, invoke and delete"),
    must(4, HEALTH, "listens on SAGEMAKER_BIND_TO_PORT, else on 8080"),
    must(5, HEALTH, "no other listening port outside SAGEMAKER_SAFE_PORT_RANGE"),
    must(6, HEALTH, "accepts within 250 ms while 64 invokes are in flight"),
    must(7, HEALTH, "works on a read-only model root and writes nothing there"),
    must(8, HEALTH, "starts and serves without a network"),
    must(9, HEALTH, "ping is 200 after an artifact failed to load"),
    must(10, LIST, "a loaded model is listed with the url it was loaded from"),
    must(11, LIST, "get describes one model as an object"),
    must(12, LIST, "get of an unknown model is 404"),
    must(13, LIST, "an unloaded model leaves list and get"),
    should(14, LIST, "pages: each name once, no token on the last page"),
    should(15, LIST, "odd limits and tokens: 200 or 400, never an endless token"),
    should(16, LIST, "GET /models/ is GET /models"),
    must(17, LOAD, "a model that was loaded serves at once"),
    must(18, LOAD, "loading again is 409 and harmless"),
    must(19, LOAD, "the same name with another url is 409; the old model still serves"),
    must(20, LOAD, "one url under two names is two models"),
    must(21, LOAD, "a missing directory is 404"),
    must(22, LOAD, "a broken artifact is refused each time alike and leaves nothing"),
    must(23, LOAD, "bodies that are no JSON object are 400"),
    must(24, LOAD, "missing or mistyped fields are 400"),
    must(25, LOAD, "unknown fields are ignored"),
    should(26, LOAD, "the body is JSON whatever the content type says"),
    must(27, LOAD, "one directory around the artifact is looked through"),
    must(28, LOAD, "an overlong load body is refused and harmless"),
    must(29, LOAD, "a name can be loaded again after its unload"),
    must(30, LOAD, "50 rounds of load, invoke, unload keep no memory"),
    must(31, INVOKE, "the body's bytes reach the model unchanged"),
    must(32, INVOKE, "a body of 25 MiB is taken"),
    must(33, INVOKE, "a body over the limit is 413, and the server goes on"),
    must(34, INVOKE, "chunked bodies and Expect: 100-continue"),
    must(35, INVOKE, "invoking an unknown model is 404"),
    must(36, INVOKE, "invoking an unloaded model is 404"),
    must(37, INVOKE, "inputs the model cannot read are 400, media types 415"),
    must(38, INVOKE, "a model that raises is a short 5xx, and keeps serving"),
    must(39, INVOKE, "interleaved requests are answered by the right model"),
    must(40, INVOKE, "other methods on invoke are 405 and touch nothing"),
    should(41, INVOKE, "Accept is honoured or refused with 406"),
    must(42, INVOKE, "answers say their content type"),
    must(43, INVOKE, "clients that leave take no slot with them"),
    must(44, HEADERS, "the url names the model, whatever Target-Model says"),
    must(45, HEADERS, "odd Target-Model values change nothing"),
    must(46, HEADERS, "Custom-Attributes cannot split or colour the answer"),
    must(47, HEADERS, "session and unknown headers are ignored"),
    should(48, HEADERS, "/invocations resolves Target-Model"),
    must(49, UNLOAD, "memory is free when the answer arrives"),
    must(50, UNLOAD, "unloading again is 404"),
    must(51, UNLOAD, "unloading an unknown model is 404"),
    must(52, UNLOAD, "DELETE /models is 405"),
    must(53, UNLOAD, "the model's files are closed"),
    should(54, UNLOAD, "an idle model unloads within 5 s"),
    must(55, MEMORY, "what can never fit is 507 and changes nothing"),
    must(56, MEMORY, "a refused load can be tried again: 507, not 409"),
    must(57, MEMORY, "a refused model is unknown: invoke is 404"),
    must(58, MEMORY, "507 beside a loaded model, which still serves"),
    must(59, MEMORY, "after an eviction the refused model loads"),
    must(60, MEMORY, "20 rounds of refusal and eviction keep no memory"),
    must(61, MEMORY, "out of memory while inferring is 507, and the model serves on"),
    must(62, MEMORY, "of two loads that fit singly one is 200 and one 507"),
    must(63, MEMORY, "a worker killed during a load: 5xx, and nothing left"),
    must(64, MEMORY, "a device assert is no 507, and ping says 503", GPU),
    should(65, MEMORY, "507 is decided before weights are read"),
    must(66, CONCURRENCY, "two loads of one name: one 200, one 409, loaded once"),
    must(67, CONCURRENCY, "invoke during a load: 200 afterwards, or 404"),
    must(68, CONCURRENCY, "a loading model is not listed"),
    must(69, CONCURRENCY, "delete during a load: both answer, nothing stays"),
    must(70, CONCURRENCY, "delete during an invoke: both answer"),
    must(71, CONCURRENCY, "two deletes: one 200, one 404"),
    must(72, CONCURRENCY, "delete and load at once: the end fits the answers"),
    must(73, CONCURRENCY, "a load does not hold up another model's requests"),
    must(74, CONCURRENCY, "eight parallel loads"),
    must(75, CONCURRENCY, "overload is refused with 503, and nothing hangs"),
    must(76, CONCURRENCY, "a random storm: no 500, no hang, no wrong answer, no leak"),
    must(77, NAMES, "path tricks reach no other route or file"),
    must(78, NAMES, "unusual names make the round trip, decoded once"),
    must(79, NAMES, "a name of 256 characters is 400"),
    must(80, NAMES, "urls outside the root are refused unread"),
    must(81, NAMES, "route words are ordinary names"),
    should(82, NAMES, "a trailing slash on invoke"),
    must(83, ROBUSTNESS, "unknown paths are 404, wrong methods 405 with Allow"),
    must(84, ROBUSTNESS, "malformed and endless requests cost no memory"),
    must(85, ROBUSTNESS, "slow senders hold up nobody"),
    must(86, ROBUSTNESS, "HEAD /ping"),
    must(87, ROBUSTNESS, "1000 requests on one connection, errors between them"),
    must(88, LIFE, "docker run IMAGE serve, and its signals"),
    must(89, LIFE, "SIGTERM when idle: exit 0 within 5 s, no orphans"),
    must(90, LIFE, "SIGTERM in flight: the request gets its answer"),
    must(91, LIFE, "the image's labels"),
    should(92, LIFE, "runs as root and as any user"),
    must(93, LIFE, "one log line per request, without the payload"),
    must(94, PLATFORM, "health check until three in a row are good"),
    must(95, PLATFORM, "first invoke extracts, loads and answers"),
    must(96, PLATFORM, "a working set beyond memory, evicted by recency"),
    must(97, PLATFORM, "caching disabled: delete after every invoke"),
    must(98, PLATFORM, "a model gone behind the platform's back is reloaded"),
    must(99, PLATFORM, "errors become the runtime's exceptions"),
    must(100, PLATFORM, "two instances, one killed"),
)
CASES = {case.number: case for case in TABLE}
