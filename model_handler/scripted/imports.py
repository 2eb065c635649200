"""Import an artifact's code under the names it expects, with its own directories first on the path.

Invariants: no bytecode is written next to the code. In a process with several models, the imports of one
cannot find modules of another.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

# Stand-ins for toolkits from which handlers import. Last on the path, so that installed toolkits win
TOOLKITS = str(Path(__file__).with_name("toolkits"))


class Imports:
    """`with Imports(…) as imports`: imports inside the block search `directories` and `packages` first.

    `packages`: the artifact's installed requirements. `keep`: do not reset path and modules after the
    block, because the process belongs to this model, which may import more of its modules later.
    """

    def __init__(self, directories: Sequence[Path], packages: Path | None, *, keep: bool) -> None:
        self._own = [*directories, *([packages] if packages else [])]
        self._paths = [str(directory) for directory in self._own]
        self._keep = keep

    def __enter__(self) -> Self:
        sys.dont_write_bytecode = True
        if not self._keep:  # a directory may now hold another artifact than before
            importlib.invalidate_caches()
        sys.path[:0] = self._paths
        if TOOLKITS not in sys.path:
            sys.path.append(TOOLKITS)
        return self

    def module(self, file: Path) -> ModuleType:
        """Import the file as a module named after it."""
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[file.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._keep and error is None:
            return
        sys.path[:] = [path for path in sys.path if path not in self._paths]
        for name, module in list(sys.modules.items()):
            if self._is_own(module):
                del sys.modules[name]

    def _is_own(self, module: ModuleType) -> bool:
        """Whether the module is the artifact's. Packages without `__init__.py` have a path and no file."""
        about = vars(module)  # getattr on some modules raises for missing attributes
        places = [about.get("__file__"), *(about.get("__path__") or ())]
        return any(
            Path(place).is_relative_to(own) for place in places if place for own in self._own
        )
