"""Two containers behind one endpoint, one of which is killed under load; the client is boto3."""

import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import pytest
from botocore.config import Config

from emulator.hosting.fleet_hosting import create_hosting
from emulator.limits import PlatformLimits
from emulator.platform import LocalSageMaker
from tests.archives import packed
from tests.artifacts import bert_classifier
from tests.contract.artifacts import Zoo

pytestmark = pytest.mark.differs(
    "mms", reason="not compared: the platform starts its own containers"
)

ROLE = "arn:aws:iam::123456789012:role/execution"
TARGET = "team/model.tar.gz"
CALLERS = 4
PATIENCE_S = 60


class Traffic:
    """Clients that send one request after another until the end, without retries."""

    def __init__(self, aws: LocalSageMaker) -> None:
        once = Config(retries={"total_max_attempts": 1}, read_timeout=70)
        self._runtime = aws.client("sagemaker-runtime", config=once)
        self._pool = ThreadPoolExecutor(CALLERS)
        self._callers: list[Future[None]] = []
        self._over = threading.Event()
        self._changed = threading.Condition()
        self._answered = 0

    def __enter__(self) -> Self:
        self._callers = [self._pool.submit(self._call) for _ in range(CALLERS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()
        for caller in self._callers:
            caller.result()  # raises what it met

    def reach(self, more: int) -> None:
        """Return after this many more responses."""
        with self._changed:
            goal = self._answered + more
            assert self._changed.wait_for(lambda: self._answered >= goal, PATIENCE_S)

    def _call(self) -> None:
        body = json.dumps({"inputs": "a wonderful surprise"})
        while not self._over.is_set():
            answer = self._runtime.invoke_endpoint(
                EndpointName="two", TargetModel=TARGET, ContentType="application/json", Body=body
            )
            assert json.loads(answer["Body"].read())[0]["label"] in ("yes", "no")
            with self._changed:
                self._answered += 1
                self._changed.notify_all()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "instances"


@pytest.fixture
def aws(root: Path, tmp_path: Path, zoo: Zoo) -> Iterator[LocalSageMaker]:
    """The endpoint is in service. Two concurrent requests for a model make both instances load it."""
    limits = PlatformLimits(hot=1)
    with LocalSageMaker(
        lambda url: create_hosting(s3=url, root=root, tick_every_s=None, limits=limits), environ={}
    ) as platform:
        s3 = platform.client("s3")
        s3.create_bucket(Bucket="bucket")
        model = zoo.dressed(bert_classifier(tmp_path / "model", labels=("yes", "no")))
        s3.put_object(Bucket="bucket", Key=f"p/{TARGET}", Body=packed(model))
        deploy(platform.client("sagemaker"))
        yield platform


def deploy(sagemaker: Any) -> None:
    sagemaker.create_model(
        ModelName="two",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={
            "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/mme:latest",
            "Mode": "MultiModel",
            "ModelDataUrl": "s3://bucket/p/",
            "Environment": {"MME_DEVICE": "cpu"},
        },
    )
    variant = {
        "VariantName": "v",
        "ModelName": "two",
        "InstanceType": "ml.m5.xlarge",
        "InitialInstanceCount": 2,
    }
    sagemaker.create_endpoint_config(EndpointConfigName="two", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="two", EndpointConfigName="two")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="two")


def containers(root: Path) -> dict[int, str]:
    """Process group → address. Only containers of this platform: other tests run their own."""
    found = {}
    for process in psutil.Process().children():
        environment = process.environ() if process.status() != psutil.STATUS_ZOMBIE else {}
        if environment.get("MME_MODEL_ROOT", "").startswith(str(root)):
            port = environment["SAGEMAKER_BIND_TO_PORT"]
            found[process.pid] = f"http://127.0.0.1:{port}"
    return found


def instances(aws: LocalSageMaker) -> int:
    described = aws.client("sagemaker").describe_endpoint(EndpointName="two")
    assert described["EndpointStatus"] == "InService"
    count: int = described["ProductionVariants"][0]["CurrentInstanceCount"]
    return count


def loaded(url: str) -> bool:
    return bool(httpx.get(f"{url}/models").json()["models"])


@pytest.mark.case(100)
def test_one_of_two_is_killed_and_nothing_is_lost(
    aws: LocalSageMaker, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The container is stopped before it is killed, so that requests are certainly in flight."""
    before = containers(root)
    assert len(before) == instances(aws) == 2
    with Traffic(aws) as traffic, caplog.at_level(logging.WARNING, "emulator"):
        while not all(loaded(url) for url in before.values()):
            traffic.reach(1)
        killed, survivor = before
        os.killpg(killed, signal.SIGSTOP)
        traffic.reach(20)
        assert "connection broken" not in caplog.messages
        os.killpg(killed, signal.SIGKILL)
        traffic.reach(100)
        while instances(aws) < 2:
            traffic.reach(1)
    assert "connection broken" in caplog.messages
    after = containers(root)
    assert len(after) == 2
    assert survivor in after
    assert killed not in after
