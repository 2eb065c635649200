"""How long and how much the platform allows: SageMaker's figures, each of which a run may scale."""

from dataclasses import dataclass

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, unless a name says bytes. A variant's own figures go before these."""

    startup_s: float = 480.0
    startup_period_s: float = 0.05  # SageMaker looks every 5 s; nobody wants to wait for that here
    good_pings: int = 3  # in a row, and the container is in service
    ping_s: float = 2.0
    ping_period_s: float = 5.0
    failed_pings: int = 3
    load_wait_s: float = 60.0  # after which the caller hears ModelNotReadyException
    load_s: float = 360.0  # download and load together
    unload_s: float = 360.0
    invoke_s: float = 60.0
    stop_s: float = 30.0  # from SIGTERM to SIGKILL
    download_s: float = 360.0
    volume_nbytes: int = 30 * GIB
    hot: int = 8  # outstanding requests at which an instance no longer draws a model's requests
    restart_s: float = 1.0  # pause after a replacement that did not come up either
