"""A boto3 program written for AWS runs on the platform with only its environment changed."""

import os
import subprocess
import sys
from pathlib import Path

from emulator.hosting.fleet_hosting import create_hosting
from emulator.platform import LocalSageMaker
from tests.archives import packed
from tests.artifacts import bert_classifier

CITIES = ("austin", "berlin", "cairo", "delhi", "essen", "fargo", "geneva", "hanoi")
PROGRAM = Path(__file__).parent / "programs" / "house_prices.py"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/many-models:1"


def test_a_program_for_multi_model_endpoints(tmp_path: Path) -> None:
    """Archives in subfolders, 100 random targets, models added during service, deletion of everything."""
    archives = tmp_path / "archives"
    archives.mkdir()
    for seed, city in enumerate(CITIES):
        labels = (f"{city}-cheap", f"{city}-dear")
        directory = bert_classifier(tmp_path / city, labels=labels, seed=seed)
        (archives / f"{city}.tar.gz").write_bytes(packed(directory))
    with LocalSageMaker(
        lambda url: create_hosting(s3=url, root=tmp_path / "root"), environ={}
    ) as platform:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        done = subprocess.run(
            [sys.executable, str(PROGRAM), IMAGE, str(archives)],
            env=kept | platform.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert printed.pop("model").startswith("arn:aws:sagemaker:us-east-1:123456789012:model/")
    assert printed == {
        "status": "InService",
        "invoked": "100",
        "added": "2",
        "missing": "ValidationError",
        "left": "0",
    }
