"""An artifact's code, imported under the name it expects, from its own directories first.

Always true: nothing is written next to the code, and after `Imports.close` no other model's imports can
find this one's modules.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

# Stand-ins for toolkits that handlers import helpers from; found last, so that the real ones win
TOOLKITS = str(Path(__file__).with_name("toolkits"))


class Imports:
    """`with Imports(directories, packages) as imports`: what is imported meanwhile may come from there.

    `packages`: what was installed for the artifact. `keep`: the process belongs to this one model,
    which may import more of its modules later.
    """

    def __init__(self, directories: Sequence[Path], packages: Path | None, *, keep: bool) -> None:
        self._own = [*directories, *([packages] if packages else [])]
        self._paths = [str(directory) for directory in self._own]
        self._keep = keep

    def __enter__(self) -> Self:
        sys.dont_write_bytecode = True
        if not self._keep:  # an artifact may stand where another one stood
            importlib.invalidate_caches()
        sys.path[:0] = self._paths
        if TOOLKITS not in sys.path:
            sys.path.append(TOOLKITS)
        return self

    def module(self, file: Path) -> ModuleType:
        """Run the file as a module named after it, as `import` would."""
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
        """Packages without an `__init__.py` have no file, but places."""
        about = vars(module)  # some modules raise at attributes they do not have
        places = [about.get("__file__"), *(about.get("__path__") or ())]
        return any(
            Path(place).is_relative_to(own) for place in places if place for own in self._own
        )
