"""python -m tests.notebooks.execute [--into DIRECTORY] [NAME …]

Runs the notebooks against the local platform and saves them with their outputs. The kernel is the running
interpreter; no kernel has to be registered.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
LIMIT_S = 120


class ThisPython(KernelSpecManager):
    """Starts this interpreter, whatever kernel a notebook names."""

    def get_kernel_spec(self, kernel_name: str) -> Any:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")


def names() -> list[str]:
    return sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))


def read(name: str, folder: Path = NOTEBOOKS) -> Any:
    return nbformat.read(folder / name, as_version=4)


def executed(name: str) -> Any:
    """The notebook with fresh outputs. Raises on the first cell that fails."""
    notebook = read(name)
    manager = AsyncKernelManager(kernel_spec_manager=ThisPython())
    folder = {"metadata": {"path": str(NOTEBOOKS)}}
    NotebookClient(
        notebook, km=manager, timeout=LIMIT_S, resources=folder, coalesce_streams=True
    ).execute()
    return notebook


def _store(path: Path, notebook: Any) -> None:
    """Save the notebook without metadata that changes with every run."""
    notebook.metadata = {"language_info": {"name": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = {}
    nbformat.write(notebook, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=names())
    parser.add_argument("--into", type=Path, default=NOTEBOOKS)
    options = parser.parse_args()
    for name in options.names:
        print(name, flush=True)
        _store(options.into / name, executed(name))


if __name__ == "__main__":
    main()
