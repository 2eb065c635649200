"""What setup.py declares, read without running it.

python tests/versions/declared.py prints what product and local platform need as a requirements file for pip:
without PyTorch, which would bring CUDA's libraries; tests/versions/cpu_torch.py does without them.
"""

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def requirements(*lists: str) -> list[str]:
    """The entries of these lists of setup.py, such as `SERVING`."""
    tree = ast.parse((REPOSITORY / "setup.py").read_text("utf-8"))
    found = {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and statement.targets[0].id in lists
    }
    return [entry for name in lists for entry in found[name]]


def pins(file: str) -> dict[str, str]:
    """Versions by name, as the constraints file spells it."""
    lines = (REPOSITORY / file).read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found, requirement
    return found[0]


if __name__ == "__main__":
    every = requirements("SERVING", "FORMATS", "LOCAL_PLATFORM")
    print(*(each for each in every if name(each) != "torch"), sep="\n")
