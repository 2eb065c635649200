"""Archives with unsafe members or too many bytes are refused before anything is written."""

import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.containers.archive import ArchiveTooLarge, BadArchive, extract, measure
from tests import hostile_archives
from tests.hostile_archives import HOSTILE


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def archive(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path / "a.tar.gz", "w:gz") as tar:
        for info in members:
            tar.addfile(info, io.BytesIO(b"\0" * info.size))
    return path / "a.tar.gz"


@pytest.mark.parametrize(
    "bad",
    [
        member("/etc/passwd"),
        member("../up"),
        member("a/../../up"),
        member("a/link", tarfile.SYMTYPE, "../../up"),
        member("link", tarfile.SYMTYPE, "/etc"),
        member("hard", tarfile.LNKTYPE, "../up"),
        member("device", tarfile.CHRTYPE),
        member("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda info: f"{info.name} {info.linkname}",
)
def test_bad_members_are_refused(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    with pytest.raises(BadArchive):
        measure(archive(tmp_path, member("fine"), bad), 1000)
    with pytest.raises(BadArchive):
        extract(tmp_path / "a.tar.gz", tmp_path / "out")
    assert {path.name for path in tmp_path.rglob("*")} <= {"a.tar.gz", "out", "fine", "a"}


def test_bomb_is_refused_by_its_size(tmp_path: Path) -> None:
    bomb = member("bomb")
    bomb.size = 10_000_000
    with pytest.raises(ArchiveTooLarge):
        measure(archive(tmp_path, bomb), 9_999_999)
    assert measure(tmp_path / "a.tar.gz", 10_000_000) == 10_000_000


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08\0\0\0\0\0\0\x03cut"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(BadArchive):
        measure(tmp_path / "a.tar.gz", 1000)


def test_links_inside_are_kept(tmp_path: Path) -> None:
    link = member("code/link", tarfile.SYMTYPE, "../weights")
    path = archive(tmp_path, member("weights"), link, member("code/here"))
    assert measure(path, 1000) == 0
    extract(path, tmp_path / "out")
    assert (tmp_path / "out" / "code" / "link").resolve() == tmp_path / "out" / "weights"


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE)
def test_hostile_archives_are_refused(tmp_path: Path, members: Callable[[], bytes]) -> None:
    """By `measure`, or by `extract`, which leaves nothing."""
    path = hostile_archives.write(tmp_path / "a.tar.gz", members())
    began = time.process_time()
    with pytest.raises(BadArchive):
        _unpack(path, tmp_path / "out")
    assert time.process_time() - began < 5
    assert not (tmp_path / "out").exists()


def _unpack(path: Path, into: Path) -> None:
    measure(path, 1 << 30)
    extract(path, into)
