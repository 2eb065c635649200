"""What was created, as it is hosted: plain values between the control plane and the hosting side."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One container of a model. `multi_model`: Mode=MultiModel, `model_data_url` is then a prefix."""

    image: str
    multi_model: bool = False
    model_data_url: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    cache_models: bool = True  # ModelCacheSetting
    hostname: str | None = None


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One container, or a serial pipeline of several with at most one multi-model one among them."""

    name: str
    containers: tuple[ContainerSpec, ...]
    isolated: bool = False  # EnableNetworkIsolation


@dataclass(frozen=True, slots=True)
class VariantSpec:
    """A production variant. Timeouts are None where the platform's defaults hold."""

    name: str
    model: ModelSpec
    instance_type: str
    instance_count: int
    weight: float = 1.0
    volume_size_gb: int | None = None
    startup_timeout_s: int | None = None
    download_timeout_s: int | None = None


@dataclass(frozen=True, slots=True)
class VariantStatus:
    name: str
    current_weight: float
    desired_weight: float
    current_count: int
    desired_count: int
