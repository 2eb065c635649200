"""Specifications of containers, models and variants, which the control API passes to the hosting side."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One container of a model. In MultiModel mode `model_data_url` is a prefix, not an archive."""

    image: str
    multi_model: bool = False
    model_data_url: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    cache_models: bool = True  # ModelCacheSetting
    hostname: str | None = None


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One container, or a serial pipeline of containers of which at most one is multi-model."""

    name: str
    containers: tuple[ContainerSpec, ...]

    @property
    def multi_model(self) -> bool:
        return any(container.multi_model for container in self.containers)


@dataclass(frozen=True, slots=True)
class VariantSpec:
    """A production variant. None selects the platform's default from `PlatformLimits`."""

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
