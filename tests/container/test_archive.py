"""Archives: valid ones unpack unchanged; refused ones leave no files."""

import gzip
import io
import os
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from container import archive
from container.archive import ArchiveRefused
from tests import hostile_archives
from tests.hostile_archives import HOSTILE

REGULAR = [("config.json", b"{}"), ("sub/model.bin", b"weights")]


def packed(path: Path, members: Sequence[tarfile.TarInfo | tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            if isinstance(member, tuple):
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
            else:
                tar.addfile(member)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def test_files_directories_and_inner_links(tmp_path: Path) -> None:
    source = packed(
        tmp_path / "a.tar.gz",
        [
            special("./sub", tarfile.DIRTYPE),
            *REGULAR,
            special("link", tarfile.SYMTYPE, "sub/model.bin"),
            special("sub/up", tarfile.SYMTYPE, "../config.json"),
            special("hard", tarfile.LNKTYPE, "config.json"),
            special("empty", tarfile.DIRTYPE),
        ],
    )
    archive.unpack(source, tmp_path / "out")
    out = tmp_path / "out"
    assert (out / "config.json").read_bytes() == b"{}"
    assert (out / "link").read_bytes() == b"weights"
    assert (out / "sub/up").read_bytes() == b"{}"
    assert (out / "hard").read_bytes() == b"{}"
    assert (out / "empty").is_dir()


EVIL: dict[str, list[tarfile.TarInfo | tuple[str, bytes]]] = {
    "absolute": [("/tmp/evil", b"")],
    "parent": [("../evil", b"")],
    "parent inside": [("sub/../../evil", b"")],
    "absolute link": [special("l", tarfile.SYMTYPE, "/etc/passwd")],
    "parent link": [special("l", tarfile.SYMTYPE, "../../etc")],
    "write through a link": [special("l", tarfile.SYMTYPE, "/tmp"), ("l/evil", b"")],
    "link through a link": [
        special("l", tarfile.SYMTYPE, "/tmp"),
        special("l/evil", tarfile.SYMTYPE, "x"),
    ],
    "chain of links": [
        special("d/e", tarfile.DIRTYPE),
        special("a", tarfile.SYMTYPE, "d/e"),
        special("b", tarfile.SYMTYPE, "a/../../.."),
    ],
    "link made bad later": [
        special("b", tarfile.SYMTYPE, "a/x"),
        special("a", tarfile.SYMTYPE, ".."),
    ],
    "hard link out": [special("h", tarfile.LNKTYPE, "../../../../etc/passwd")],
    "hard link to nothing": [special("h", tarfile.LNKTYPE, "nothing")],
    "device": [special("null", tarfile.CHRTYPE)],
    "pipe": [special("pipe", tarfile.FIFOTYPE)],
    "twice": [("a", b"1"), ("a", b"2")],
    "file over directory": [special("a", tarfile.DIRTYPE), ("a", b"")],
    "link over file": [("a", b""), special("a", tarfile.SYMTYPE, "b")],
    "name too long": [("n" * 300, b"")],
}


@pytest.mark.parametrize("members", EVIL.values(), ids=EVIL)
def test_evil_archives_leave_nothing(
    tmp_path: Path, members: Sequence[tarfile.TarInfo | tuple[str, bytes]]
) -> None:
    source = packed(tmp_path / "evil.tar.gz", [*REGULAR, *members])
    with pytest.raises(ArchiveRefused) as caught:
        archive.unpack(source, tmp_path / "deep/out")
    assert str(caught.value)
    assert list((tmp_path / "deep").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"deep", "evil.tar.gz"}


def test_a_bomb_is_stopped(tmp_path: Path) -> None:
    source = packed(tmp_path / "bomb.tar.gz", [("zeros", bytes(archive.SLACK_NBYTES * 3 // 2))])
    with pytest.raises(ArchiveRefused, match="more bytes than allowed"):
        archive.unpack(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("keep", [0, 1, 10, 100, 200])
def test_damaged_archives_are_refused(tmp_path: Path, keep: int) -> None:
    whole = packed(tmp_path / "a.tar.gz", [("a", os.urandom(100_000))])
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(ArchiveRefused):
        archive.unpack(cut, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wrong_checksum_is_noticed(tmp_path: Path) -> None:
    source = packed(tmp_path / "a.tar.gz", [("weights", os.urandom(100_000))])
    damaged = bytearray(source.read_bytes())
    damaged[50_000] ^= 1
    source.write_bytes(damaged)
    with pytest.raises(ArchiveRefused):
        archive.unpack(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_extended_header_that_is_too_long(tmp_path: Path) -> None:
    header = special("x", tarfile.XHDTYPE)
    header.size = 40 << 20
    source = tmp_path / "a.tar.gz"
    with gzip.open(source, "wb") as file:
        file.write(header.tobuf())
        file.write(bytes(header.size))
    with pytest.raises(ArchiveRefused, match="too long"):
        archive.unpack(source, tmp_path / "out")


def test_a_link_that_a_later_link_redirects_outside(tmp_path: Path) -> None:
    """Harmless when created: only after the later link does it point outside."""
    (tmp_path / "secret").write_text("outside")
    members = [
        special("d", tarfile.DIRTYPE),
        special("a", tarfile.SYMTYPE, "d/b/../../secret"),
        special("d/b", tarfile.SYMTYPE, "../"),
    ]
    with pytest.raises(ArchiveRefused, match="points outside"):
        archive.unpack(packed(tmp_path / "a.tar.gz", members), tmp_path / "into")
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE)
def test_hostile_archives_are_refused(tmp_path: Path, members: Callable[[], bytes]) -> None:
    source = hostile_archives.write(tmp_path / "a.tar.gz", members())
    began = time.process_time()
    with pytest.raises(ArchiveRefused) as caught:
        archive.unpack(source, tmp_path / "out")
    assert str(caught.value)
    assert time.process_time() - began < 5
    assert not (tmp_path / "out").exists()


def test_the_directories_of_a_name_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_ENTRIES", 300)
    names = ["/".join(f"{number}-{depth}" for depth in range(60)) for number in range(6)]
    source = packed(tmp_path / "a.tar.gz", [special(name, tarfile.DIRTYPE) for name in names])
    with pytest.raises(ArchiveRefused, match="more than 300 files and directories"):
        archive.unpack(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_process_of_its_own_unpacks_and_refuses_alike(tmp_path: Path) -> None:
    good = packed(tmp_path / "good.tar.gz", REGULAR)
    archive.unpack_apart(good, tmp_path / "good")
    assert (tmp_path / "good/sub/model.bin").read_bytes() == b"weights"
    bad = packed(tmp_path / "bad.tar.gz", [*REGULAR, ("../evil", b"")])
    with pytest.raises(ArchiveRefused, match="points outside the archive"):
        archive.unpack_apart(bad, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_a_process_that_does_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "START_S", 0.0)
    source = packed(tmp_path / "a.tar.gz", REGULAR)
    with pytest.raises(ArchiveRefused, match="not unpacked within 0 s"):
        archive.unpack_apart(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
