"""build_and_push.sh pushes to ECR and to another registry."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from emulator.hosting.fleet_hosting import create_hosting
from emulator.platform import LocalSageMaker
from tests.contract import image
from tests.image.registry import (
    MANIFEST,
    Login,
    Registry,
    Tunnel,
    ecr_registry,
    open_registry,
    tunnel_to,
)
from tests.scripts.runs import REPOSITORY, without_aws

SCRIPT = REPOSITORY / "scripts/build_and_push.sh"
NAME = "localhost/mme-push-test"
HOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
FIRST, SECOND = "a" * 40, "b" * 40
TAGS = {"first": f"{'a' * 12}-cpu", "second": f"{'b' * 12}-cpu", "version": "1.2.3-cpu"}

with_podman = pytest.mark.skipif(
    image.engine() == "docker", reason="an engine has a proxy and trusted certificates of its own"
)


@pytest.fixture
def built(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Images of a few bytes with one version: from two commits, from uncommitted files, without a commit."""
    revisions = {"first": FIRST, "second": SECOND, "dirty": f"{FIRST}-dirty", "unknown": ""}
    names = {each: f"{NAME}:{each}" for each in revisions}
    for each, revision in revisions.items():
        build(tmp_path / each, names[each], revision)
    yield names
    present = image.ask("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    image.ask("rmi", "--force", *(each for each in present if "/mme-push-test:" in each))


def build(folder: Path, name: str, revision: str) -> None:
    folder.mkdir()
    (folder / "file").write_text(name)
    labels = {
        "org.opencontainers.image.revision": revision,
        "org.opencontainers.image.version": "1.2.3",
        "com.amazonaws.sagemaker.inference.cuda.verified_versions": "none",
    }
    lines = [f'LABEL {label}="{text}"' for label, text in labels.items() if revision]
    (folder / "Dockerfile").write_text("\n".join(["FROM scratch", "COPY file /", *lines]))
    image.ask("build", "--tag", name, str(folder))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Registry]:
    with open_registry(tmp_path) as registry:
        yield registry


@pytest.fixture
def platform() -> Iterator[LocalSageMaker]:
    with LocalSageMaker(lambda url: create_hosting(s3=url), environ={}) as aws:
        yield aws


@pytest.fixture
def tunnel(platform: LocalSageMaker, tmp_path: Path) -> Iterator[Tunnel]:
    """A tunnel to a registry that requires the password of the local platform's ECR."""
    login = Login("AWS", "123456789012-auth-token")
    with ecr_registry(tmp_path, HOST, login) as registry, tunnel_to(registry) as tunnel:
        yield tunnel


def pushed(name: str, environment: Mapping[str, str]) -> list[str]:
    done = run(name, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def run(name: str, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(SCRIPT)],
        env=without_aws() | {"IMAGE": name, "REPOSITORY": "mme-push-test"} | dict(environment),
        capture_output=True,
        text=True,
        timeout=120,
    )


def beside_aws(platform: LocalSageMaker, tunnel: Tunnel, folder: Path) -> dict[str, str]:
    assert tunnel.registry.certificate
    return platform.environment | {
        "HTTPS_PROXY": tunnel.url,
        "NO_PROXY": "",
        "SSL_CERT_FILE": str(tunnel.registry.certificate),
        "REGISTRY_AUTH_FILE": str(folder / "auth.json"),
    }


def tags(registry: Registry) -> set[str]:
    return set(json.loads(registry.ask("/v2/mme-push-test/tags/list"))["tags"])


def manifest(registry: Registry, tag: str) -> str:
    return registry.ask(f"/v2/mme-push-test/manifests/{tag}").decode()


@with_podman
def test_to_ecr(
    built: dict[str, str], platform: LocalSageMaker, tunnel: Tunnel, tmp_path: Path
) -> None:
    """The repository is created, and both tags are pushed under ECR's host name, by TLS and with a
    password."""
    lines = pushed(built["first"], beside_aws(platform, tunnel, tmp_path))
    assert lines[-1] == f"{HOST}/mme-push-test:{TAGS['first']}"
    assert tunnel.hosts == {f"{HOST}:443"}
    assert tags(tunnel.registry) == {TAGS["first"], TAGS["version"]}
    (described,) = platform.client("ecr").describe_repositories()["repositories"]
    assert f"{described['repositoryUri']}:{TAGS['first']}" == lines[-1]
    assert described["imageTagMutability"] == "IMMUTABLE"
    assert described["imageScanningConfiguration"] == {"scanOnPush": True}


@with_podman
def test_a_tag_that_ecr_has_does_not_move(
    built: dict[str, str], platform: LocalSageMaker, tunnel: Tunnel, tmp_path: Path
) -> None:
    """For the same commit nothing is pushed; for the next commit with the same version only its commit
    tag."""
    environment = beside_aws(platform, tunnel, tmp_path)
    pushed(built["first"], environment)
    before = {tag: manifest(tunnel.registry, tag) for tag in (TAGS["first"], TAGS["version"])}
    ecr = platform.client("ecr")
    for tag, text in before.items():
        ecr.put_image(repositoryName="mme-push-test", imageManifest=text, imageTag=tag)
    assert [line.split()[0] for line in pushed(built["first"], environment)[-3:-1]] == ["kept"] * 2
    lines = pushed(built["second"], environment)
    assert [line.split()[0] for line in lines[-3:-1]] == ["pushed", "kept"]
    assert tags(tunnel.registry) == set(TAGS.values())
    assert manifest(tunnel.registry, TAGS["version"]) == before[TAGS["version"]]


def test_to_a_registry_that_is_not_ecr(built: dict[str, str], elsewhere: Registry) -> None:
    """No AWS service is called."""
    lines = pushed(built["first"], {"REGISTRY": f"127.0.0.1:{elsewhere.port}"})
    assert lines[-1] == f"127.0.0.1:{elsewhere.port}/mme-push-test:{TAGS['first']}"
    assert tags(elsewhere) == {TAGS["first"], TAGS["version"]}
    document: dict[str, Any] = json.loads(manifest(elsewhere, TAGS["version"]))
    assert document["mediaType"] == MANIFEST


@pytest.mark.parametrize("which", ["dirty", "unknown"])
def test_of_no_commit(which: str, built: dict[str, str], elsewhere: Registry) -> None:
    done = run(built[which], {"REGISTRY": f"127.0.0.1:{elsewhere.port}"})
    assert done.returncode != 0
    assert f"{built[which]} is of no commit" in done.stderr
    assert json.loads(elsewhere.ask("/v2/_catalog"))["repositories"] == []
