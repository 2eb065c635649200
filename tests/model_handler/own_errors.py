"""Errors of the engine's own code: the engine contains them, and a test must see them all the same."""

import logging


class OwnErrors(logging.Handler):
    """The log records of unexpected errors, from its creation to `close`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        logging.getLogger("model_handler").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.CRITICAL:
            error = record.exc_info[1] if record.exc_info else None
            self.found.append(f"{record.getMessage()}: {error!r}")

    def close(self) -> None:
        logging.getLogger("model_handler").removeHandler(self)
        super().close()
