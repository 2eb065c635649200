"""The error responses of the control API."""


class ApiError(Exception):
    """A call that is refused; `code` is the name of the exception in the response."""

    def __init__(self, message: str, code: str = "ValidationException", status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status


def internal_failure() -> ApiError:
    return ApiError("Internal failure.", "InternalFailure", 500)
