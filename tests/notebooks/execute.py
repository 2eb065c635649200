"""python -m tests.notebooks.execute: runs the notebooks against the local platform and stores their outputs.

A notebook's kernel is the running interpreter; nothing needs to be registered.
"""

import sys
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
LIMIT_S = 120


class ThisPython(KernelSpecManager):  # type: ignore[misc]
    """Whatever kernel a notebook asks for, it is this interpreter."""

    def get_kernel_spec(self, kernel_name: str) -> Any:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")


def names() -> list[str]:
    return sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))


def read(name: str) -> Any:
    return nbformat.read(NOTEBOOKS / name, as_version=4)


def executed(name: str) -> Any:
    """The notebook with fresh outputs. Raises on the first cell that fails."""
    notebook = read(name)
    manager = AsyncKernelManager(kernel_spec_manager=ThisPython())
    folder = {"metadata": {"path": str(NOTEBOOKS)}}
    NotebookClient(
        notebook, km=manager, timeout=LIMIT_S, resources=folder, coalesce_streams=True
    ).execute()
    return notebook


def _store(name: str, notebook: Any) -> None:
    """Without what changes from run to run and says nothing."""
    notebook.metadata = {"language_info": {"name": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = {}
    nbformat.write(notebook, NOTEBOOKS / name)


def main() -> None:
    for name in names():
        print(name, flush=True)
        _store(name, executed(name))


if __name__ == "__main__":
    main()
