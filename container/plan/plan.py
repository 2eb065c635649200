"""`python -m container plan`: how many models fit on which instance type.

Reads the headers of the models' files and loads nothing. The sizes are those that the ledger will reserve.
"""

import argparse
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from container import archive, variables
from container.plan import sizing
from container.plan.sizing import INSTANCE_TYPES, InstanceType, TierCounts
from container.variables import NotAllowed
from model_handler.artifacts import artifact
from model_handler.artifacts.artifact import Artifact
from model_handler.errors import ModelLoadFailed

CELL = "{:>12}"


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """One model with the bytes it will reserve, or the reason why it cannot be loaded."""

    name: str
    artifact: Artifact | None
    reason: str = ""


def describe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models", type=Path, nargs="+", help="model directories or .tar.gz archives"
    )
    parser.add_argument(
        "--copies", type=int, default=1, help="number of copies of each model (default: 1)"
    )
    parser.add_argument(
        "--dtype",
        type=_dtype,
        default="auto",
        help="data type of the weights, as in MME_DTYPE (default: auto)",
    )
    parser.add_argument(
        "--instance",
        action="append",
        help="instance type to consider, may be repeated (default: all known types)",
    )
    parser.add_argument(
        "--skew",
        type=float,
        default=0.9,
        help="exponent of Zipf's law for the traffic, 0 for equal shares (default: 0.9)",
    )


def _dtype(text: str) -> str:
    try:
        return variables.dtype(text)
    except NotAllowed as allowed:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give {allowed}") from None


def run(options: argparse.Namespace) -> int:
    """The exit status: 1 if one of the models cannot be loaded."""
    instances = _chosen(options.instance)
    for device in sorted({_device(instance) for instance in instances}):
        planned = list(_inspected(options.models, options.dtype, device))
        of_device = [each for each in instances if _device(each) == device]
        _print_models(planned, device)
        _print_instances(planned, of_device, options.copies, options.skew)
    return int(any(model.artifact is None for model in planned))


def _chosen(names: Sequence[str] | None) -> list[InstanceType]:
    known = {instance.name: instance for instance in INSTANCE_TYPES}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise SystemExit(f"unknown instance type {unknown[0]}: give one of {', '.join(known)}")
    return [known[name] for name in names or known]


def _device(instance: InstanceType) -> str:
    return "cpu" if instance.device_nbytes is None else "cuda"


def _inspected(paths: Sequence[Path], dtype: str, device: str) -> Iterator[PlannedModel]:
    for path in paths:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                directory = _unpacked(path, Path(scratch)) if path.is_file() else path
                found = artifact.inspect(directory, default_task=None, dtype=dtype, device=device)
                yield PlannedModel(path.name, found)
            except (ModelLoadFailed, archive.ArchiveRefused) as error:
                yield PlannedModel(path.name, None, str(error))


def _unpacked(path: Path, scratch: Path) -> Path:
    archive.unpack(path, scratch / "model")
    return scratch / "model"


def _print_models(planned: Sequence[PlannedModel], device: str) -> None:
    print(f"\non {device}")
    for model in planned:
        if model.artifact is None:
            print(f"  {model.name:<32} {'cannot be loaded:':>14} {model.reason}")
        else:
            kind = model.artifact.task or model.artifact.convention
            print(f"  {model.name:<32} {model.artifact.nbytes:>14,} bytes  {kind}")


def _print_instances(
    planned: Sequence[PlannedModel], instances: Sequence[InstanceType], copies: int, skew: float
) -> None:
    sizes = [model.artifact.nbytes for model in planned if model.artifact is not None] * copies
    if not sizes:
        return
    shares = sizing.popularity(len(sizes), skew)
    print(f"  {len(sizes)} models, {sum(sizes):,} bytes; traffic by Zipf's law with skew {skew:g}")
    for number, instance in enumerate(instances):
        cells = _cells(instance, sizing.tiers(sizes, shares, instance))
        if number == 0:
            print(_line("instance", cells))
        print(_line(instance.name, cells.values()))


def _cells(instance: InstanceType, found: TierCounts) -> dict[str, str]:
    """Cells by column. Instances with a GPU have more columns, for the second memory tier."""
    hits = {"loaded": str(found.loaded), "hit ratio": f"{found.hits:.3f}"}
    workers = {"workers": str(instance.workers)}
    main = f"{instance.main_budget_nbytes / sizing.GIB:.1f} GiB"
    if instance.device_nbytes is None:
        return {"for models": main, **hits, **workers}
    device = f"{instance.budget_nbytes / sizing.GIB:.1f} GiB"
    promoted = {"on GPU": str(found.on_device), "promoted": f"{found.promotions:.3f}"}
    return {"main memory": main, **hits, "GPU memory": device, **promoted, **workers}


def _line(name: str, cells: Iterable[str]) -> str:
    return f"  {name:<18}" + "".join(map(CELL.format, cells))
