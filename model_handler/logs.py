"""Log lines: a constant event name and its fields, as one JSON object, or as text on a terminal.

Invariant: one JSON record is one line, whatever characters its values contain.
"""

import logging
import re
from datetime import UTC, datetime
from typing import TextIO

import msgspec

MAX_VALUE_CHARS = 1024
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
_PLAIN = frozenset({bool, int, float})
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_json = msgspec.json.Encoder(enc_hook=str)


def configure(level: int, stream: TextIO) -> None:
    """Send every log line of this process to `stream`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if stream.isatty() else JsonFormatter())
    # Not printed by either formatter, and a third of the cost of a log line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(level=level, handlers=[handler], force=True)


def redirect(stream: TextIO) -> None:
    """Send the log lines of a forked process to `stream`, after `configure` in its parent.

    A second `configure` would write to every logger object, and so copy memory pages that the process
    shares with its parent.
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(stream)
            handler.setFormatter(JsonFormatter())


def facts(record: logging.LogRecord) -> dict[str, object]:
    """The caller's `extra` fields without those that are None, each printable on one line."""
    return {
        key: _clean(value)
        for key, value in vars(record).items()
        if key not in _STANDARD and value is not None
    }


def _clean(value: object) -> object:
    if type(value) in _PLAIN:
        return value
    text = str(value)[:MAX_VALUE_CHARS]
    return text if text.isprintable() else _UNPRINTABLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "event": _clean(record.getMessage()),
            **facts(record),
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return _json.encode(document).decode()


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        pairs = "".join(f" {key}={value}" for key, value in facts(record).items())
        line = f"{_time(record)} {record.levelname:7} {_clean(record.getMessage())}{pairs}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line
