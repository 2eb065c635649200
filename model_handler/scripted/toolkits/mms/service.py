"""`PredictionException`: an error with an HTTP status, as in multi-model-server."""


class PredictionException(Exception):
    def __init__(self, message: str, error_code: int = 500) -> None:
        super().__init__(f"{message} : {error_code}")
        self.message = message
        self.error_code = error_code
