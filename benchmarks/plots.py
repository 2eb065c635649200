"""The charts of README.md and docs/performance.md, as SVG."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import ratios
from benchmarks.figures import Raw
from benchmarks.medians import middle, plain

SHOWN = {
    "hot-tiny-015": "one small model,\n13 words",
    "hot-tiny-032": "one small model,\n30 words",
    "hot-distilbert-032": "distilbert,\n30 words",
    "zipf-20": "20 small models,\nZipf",
    "zipf-50": "50 small models,\nZipf",
    "five-models": "five tasks,\nfull-size models",
}
RATIOS = "ratios.svg"
COLOURS = {"ours": "#2166ac", "hugging-face": "#b2182b", "bare": "#999999"}
LABELS = {
    "ours": "this container",
    "hugging-face": "Hugging Face toolkit",
    "bare": "plain PyTorch, batch 32",
}


def draw(results: Mapping[str, Raw], directory: Path) -> Iterator[str]:
    """Draw all plots. Yields their file names."""
    directory.mkdir(parents=True, exist_ok=True)
    if ratios.MANY in results:
        (directory / RATIOS).write_text(ratios.chart(results), encoding="utf-8")
        yield RATIOS
    shown = [name for name in SHOWN if name in results]
    if shown:
        _bars(results, shown).savefig(
            directory / "throughput.svg", bbox_inches="tight", metadata={"Date": None}
        )
        yield "throughput.svg"


def _bars(results: Mapping[str, Raw], names: list[str]) -> Any:
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "benchmarks"  # the same plot is the same file
    figure, _ = pyplot.subplots(1, len(names), figsize=(2.2 * len(names), 3))
    for axis, name in zip(figure.axes, names, strict=True):
        _panel(axis, results[name])
        axis.set_title(SHOWN[name], fontsize=9)
    figure.axes[0].set_ylabel("requests per second")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper center", ncols=3, fontsize=8, bbox_to_anchor=(0.5, 1.08)
    )
    figure.tight_layout()
    return figure


def _panel(axis: Any, raw: Raw) -> None:
    clients = sorted({run["clients"] for run in raw["runs"] if "clients" in run})
    for offset, side in ((-0.2, "ours"), (0.2, "hugging-face")):
        heights = [middle(raw, side, ("per_s",), clients=count) or 0.0 for count in clients]
        places = [place + offset for place in range(len(clients))]
        axis.bar(places, heights, 0.4, color=COLOURS[side], label=LABELS[side])
    bare = plain(raw)
    if bare is not None:
        axis.axhline(bare, color=COLOURS["bare"], linestyle="--", label=LABELS["bare"])
    axis.set_xticks(range(len(clients)), [f"{count}" for count in clients])
    axis.set_xlabel("clients", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
