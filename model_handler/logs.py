"""Log lines: a constant event name and its fields, as one JSON object, or as text on a terminal.

Invariants: one JSON record is one line, whatever characters its values contain. After `configure`, logging
does not raise, whatever the record contains and wherever it is written.
"""

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

MAX_VALUE_CHARS = 1024
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
_PLAIN = frozenset({bool, float})
_MAX_INT = 1 << 63  # larger integers are written as text
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNENCODABLE = re.compile("[\ud800-\udfff]")
_json = msgspec.json.Encoder(enc_hook=str)
_plain_record = logging.Logger.makeRecord


def configure(level: int, stream: TextIO) -> None:
    """Send every log line of this process to `stream`."""
    handler = SafeHandler(stream)
    handler.setFormatter(TextFormatter() if stream.isatty() else JsonFormatter())
    # For the loggers that exist and those to come, of libraries too
    logging.Logger.makeRecord = make_record  # type: ignore[method-assign]
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


class SafeHandler(logging.StreamHandler[TextIO]):
    """Drops a record that cannot be written: the stream is closed, broken or full."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.stream.write(self.format(record) + self.terminator)
            self.flush()
        except Exception:  # noqa: BLE001  what is logged must not depend on where it is written
            return


def make_record(
    self: logging.Logger,
    name: str,
    level: int,
    fn: str,
    lno: int,
    msg: object,
    args: Any,
    exc_info: Any,
    func: str | None = None,
    extra: Mapping[str, object] | None = None,
    sinfo: str | None = None,
) -> logging.LogRecord:
    """As `Logger.makeRecord`, which raises KeyError for fields with the name of an attribute of records:
    these get an underscore."""
    if extra is not None and not _STANDARD.isdisjoint(extra):
        extra = {f"{key}_" if key in _STANDARD else key: value for key, value in extra.items()}
    return _plain_record(self, name, level, fn, lno, msg, args, exc_info, func, extra, sinfo)


def facts(record: logging.LogRecord) -> dict[str, object]:
    """The caller's `extra` fields without those that are None, each printable on one line."""
    return {
        key: _clean(value)
        for key, value in vars(record).items()
        if key not in _STANDARD and value is not None
    }


def _clean(value: object) -> object:
    if type(value) in _PLAIN or (type(value) is int and -_MAX_INT <= value < _MAX_INT):
        return value
    text = _text(value)[:MAX_VALUE_CHARS]
    return text if text.isprintable() else _UNPRINTABLE.sub(_escaped, text)


def _text(value: object) -> str:
    """A value as text, whatever its own method does."""
    try:
        return str.__str__(str(value))
    except BaseException as error:  # noqa: BLE001  code of libraries and artifacts
        return f"<{type(value).__name__}, whose text raised {type(error).__name__}>"


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _event(record: logging.LogRecord) -> object:
    try:
        return _clean(record.getMessage())
    except BaseException:  # noqa: BLE001  arguments that do not fit the text, or whose own text raises
        return _clean(record.msg)


class SafeFormatter(logging.Formatter):
    """Formats every record; of one whose parts raise, it says which one it was."""

    def line(self, record: logging.LogRecord) -> str:
        raise NotImplementedError

    def format(self, record: logging.LogRecord) -> str:
        try:
            return self.line(record)
        except BaseException as error:  # noqa: BLE001  see the module's invariant
            lost = logging.makeLogRecord(
                {
                    "name": record.name,
                    "levelname": record.levelname,
                    "msg": "a log record could not be formatted",
                    "event_": record.msg,
                    "reason": type(error).__name__,
                }
            )
            return self.line(lost)

    def traceback(self, record: logging.LogRecord) -> str:
        """The traceback of the record's exception, or why there is none."""
        try:
            return self.formatException(record.exc_info)  # type: ignore[arg-type]  # not None
        except BaseException as error:  # noqa: BLE001  of an exception whose own text raises
            return f"the traceback raised {type(error).__name__}"


class JsonFormatter(SafeFormatter):
    def line(self, record: logging.LogRecord) -> str:
        document: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "event": _event(record),
            **facts(record),
        }
        if record.exc_info:
            document["traceback"] = _UNENCODABLE.sub(_escaped, self.traceback(record))
        return _json.encode(document).decode()


class TextFormatter(SafeFormatter):
    def line(self, record: logging.LogRecord) -> str:
        pairs = "".join(f" {key}={value}" for key, value in facts(record).items())
        line = f"{_time(record)} {record.levelname:7} {_event(record)}{pairs}"
        if record.exc_info:
            line += "\n" + _UNENCODABLE.sub(_escaped, self.traceback(record))
        return line
