"""An artifact's code, imported under the name it expects, from its own directories first.

Always true: nothing is written next to the code, and after `Imports.close` no other model's imports can
find this one's modules.
"""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

from model_handler.errors import ModelLoadFailed


class Imports:
    """`with Imports(directories, root) as imports`: what is imported meanwhile may come from there.

    `keep`: the process belongs to this one model, which may import more of its modules later.
    """

    def __init__(self, directories: Sequence[Path], root: Path, *, keep: bool) -> None:
        self._paths = [str(directory) for directory in directories]
        self._root = root
        self._keep = keep
        self._before: set[str] = set()

    def __enter__(self) -> Self:
        sys.dont_write_bytecode = True
        self._before = set(sys.modules)
        sys.path[:0] = self._paths
        return self

    def module(self, file: Path) -> ModuleType:
        """Run the file as a module named after it, as `import` would. Raises ModelLoadFailed."""
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[file.stem] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except ModuleNotFoundError as error:
            raise self._missing(error) from error
        return module

    def _missing(self, error: ModuleNotFoundError) -> ModelLoadFailed:
        listed = (self._root / "code/requirements.txt").is_file()
        where = "is listed in" if listed else "belongs into"
        return ModelLoadFailed(
            f"{error.msg}: what the image lacks {where} code/requirements.txt,"
            " which is installed when MME_INSTALL_REQUIREMENTS is true"
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._keep and error is None:
            return
        for path in self._paths:
            sys.path.remove(path)
        for name in set(sys.modules) - self._before:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if Path(file).is_relative_to(self._root):
                del sys.modules[name]
