"""What the control plane says no with."""


class ApiError(Exception):
    """A call that is turned down: `code` is the exception's name on the wire."""

    def __init__(self, message: str, code: str = "ValidationException", status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
