"""The instance types that can host multi-model endpoints, from SageMaker's documentation."""

from enum import Enum, auto

_ONE_GPU_SIZES = frozenset({"xlarge", "2xlarge", "4xlarge", "8xlarge", "16xlarge"})
_DOCUMENTED = {
    "p2": frozenset({"xlarge"}),
    "p3": frozenset({"2xlarge"}),
    "g4dn": _ONE_GPU_SIZES,
    "g5": _ONE_GPU_SIZES,
}
# These have one GPU, so they should work, but SageMaker's documentation does not mention them.
_UNDOCUMENTED = {
    "g6": _ONE_GPU_SIZES,
    "g6e": _ONE_GPU_SIZES,
    "g7": _ONE_GPU_SIZES,
    "g7e": _ONE_GPU_SIZES,
    "p5": frozenset({"4xlarge"}),
}
_CPU_LETTERS = ("t", "m", "c", "r")


class MultiModelSupport(Enum):
    DOCUMENTED = auto()
    UNDOCUMENTED = auto()
    REFUSED = auto()


def multi_model_support(instance_type: str) -> MultiModelSupport:
    """`instance_type` is a name such as `ml.g5.xlarge`. CPU families and one-GPU types are supported."""
    _, family, size = instance_type.split(".")
    if size in _DOCUMENTED.get(family, ()) or _is_cpu(family):
        return MultiModelSupport.DOCUMENTED
    if size in _UNDOCUMENTED.get(family, ()):
        return MultiModelSupport.UNDOCUMENTED
    return MultiModelSupport.REFUSED


def _is_cpu(family: str) -> bool:
    """True for `m5d` and `r6g`, false for `trn1`."""
    return family[0] in _CPU_LETTERS and family[1].isdigit()
