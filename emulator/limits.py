"""Time limits, sizes and thresholds of the platform. The defaults are SageMaker's where it documents them."""

from dataclasses import dataclass

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class PlatformLimits:
    """Times are in seconds. Values set on a production variant take precedence."""

    startup_s: float = 480.0  # until a new container passes the health check
    startup_period_s: float = 0.05  # between its pings; SageMaker's 5 s would only slow tests down
    good_pings: int = 3  # consecutive, before a container is in service
    ping_s: float = 2.0
    ping_period_s: float = 5.0
    failed_pings: int = 3  # consecutive, before an instance is replaced
    load_wait_s: float = 60.0  # then the caller gets ModelNotReadyException; the load continues
    load_s: float = 360.0  # download and load together
    unload_s: float = 360.0
    invoke_s: float = 60.0
    stop_s: float = 30.0  # from SIGTERM to SIGKILL
    download_s: float = 360.0  # the model of a single-model container
    volume_nbytes: int = 30 * GIB
    hot: int = 8  # outstanding requests at which a model's requests go to other instances as well
    restart_s: float = 1.0  # pause after a replacement instance failed to start
