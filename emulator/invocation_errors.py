"""The errors of InvokeEndpoint, with SageMaker's messages."""

from dataclasses import dataclass

from emulator.account import ACCOUNT
from emulator.interfaces import InvocationFailed

_LONGEST_MESSAGE = 2048


def invalid(message: str) -> InvocationFailed:
    return InvocationFailed(400, "ValidationError", message)


def not_ready(target: str) -> InvocationFailed:
    return InvocationFailed(
        429,
        "ModelNotReadyException",
        f"Model {target} is not ready for inference yet: it is still being downloaded or loaded. "
        "Please retry your request.",
    )


def unavailable(endpoint: str) -> InvocationFailed:
    return InvocationFailed(
        503, "ServiceUnavailable", f"No instance of endpoint {endpoint} is in service."
    )


@dataclass(frozen=True, slots=True)
class ContainerErrors:
    """Builds the ModelErrors of one container."""

    endpoint: str
    container: str
    region: str

    def model_error(self, status: int, body: bytes) -> InvocationFailed:
        message = body.decode(errors="replace")[:_LONGEST_MESSAGE]
        side, code = ("client", "CLIENT_ERROR_FROM_MODEL")
        if not 400 <= status < 500:
            side, code = ("server", "INTERNAL_FAILURE_FROM_MODEL")
        return InvocationFailed(
            424,
            "ModelError",
            f'Received {side} error ({status}) from {self.container} with message "{message}". '
            f"See {self._console()} in account {ACCOUNT} for more information.",
            OriginalStatusCode=status,
            OriginalMessage=message,
            LogStreamArn=f"arn:aws:logs:{self.region}:{ACCOUNT}:log-group:{self._log_group}",
            ErrorCode=code,
        )

    def timed_out(self) -> InvocationFailed:
        return self._no_response(
            "Your invocation timed out while waiting for a response from container "
            f"{self.container}. Review the latency metrics for each container in Amazon "
            "CloudWatch, resolve the issue, and try again."
        )

    def connection_closed(self) -> InvocationFailed:
        return self._no_response(
            f"Container {self.container} closed the connection before it sent a response."
        )

    def _no_response(self, text: str) -> InvocationFailed:
        """SageMaker reports status 0 when the container sent no response."""
        return self.model_error(0, text.encode())

    @property
    def _log_group(self) -> str:
        return f"/aws/sagemaker/Endpoints/{self.endpoint}"

    def _console(self) -> str:
        home = f"https://{self.region}.console.aws.amazon.com/cloudwatch/home"
        return f"{home}?region={self.region}#logEventViewer:group={self._log_group}"
