"""Archives that make a careless reader crash, hang or fill the disk; each is small and cheap to build."""

import gzip
import tarfile
from collections.abc import Callable
from pathlib import Path

END = bytes(2 * tarfile.BLOCKSIZE)


def block(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: str) -> bytes:
    """One member: header and content. `fields` are attributes of the header."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    padding = bytes(-len(content) % tarfile.BLOCKSIZE)
    return info.tobuf(tarfile.GNU_FORMAT) + content + padding


def _with_size(header: bytes, size: bytes) -> bytes:
    """The header with another size field, and its checksum."""
    raw = bytearray(header)
    raw[124:136] = size
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def _pax(**records: str) -> bytes:
    lines = b""
    for name, value in records.items():
        key = name.replace("__", ".")
        body = f" {key}={value}\n"
        length = len(body) + len(str(len(body) + 3))
        lines += f"{length}{body}".encode()
    return block("pax", tarfile.XHDTYPE, lines)


def _old_sparse() -> bytes:
    raw = bytearray(block("sparse", tarfile.GNUTYPE_SPARSE))
    raw[386:410] = b"%011o\0%011o\0" % (0, 0)  # a map with one empty piece
    raw[483:495] = b"%011o\0" % (7 << 30)  # the real size
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def _endless_sparse_map() -> bytes:
    records = _pax(GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__realsize="99")
    return records + block("sparse", tarfile.REGTYPE, b"9999999\n")


NEGATIVE = b"\xff" * 10 + (-512 & 0xFFFF).to_bytes(2, "big")
HOSTILE: dict[str, Callable[[], bytes]] = {
    "deep file": lambda: block("a/" * 1900 + "f"),
    "deep directory": lambda: block("a/" * 1900, tarfile.DIRTYPE),
    "deep link": lambda: block("a/" * 1900 + "f", tarfile.SYMTYPE, linkname="x"),
    "deep target of a hard link": lambda: block("f", tarfile.LNKTYPE, linkname="a/" * 1900),
    "name of a megabyte": lambda: block("n" * (1 << 20)),
    "chain of extended headers": lambda: b"".join([_pax(comment="x")] * 3000) + block("f"),
    "chain of long names": lambda: (
        b"".join([block("././@LongLink", tarfile.GNUTYPE_LONGNAME, b"name\0")] * 3000) + block("f")
    ),
    "negative size": lambda: _with_size(block("f"), NEGATIVE) + block("g"),
    "negative size of an extended header": lambda: _with_size(
        block("pax", tarfile.XHDTYPE), NEGATIVE
    ),
    "huge extended header": lambda: _with_size(block("pax", tarfile.XHDTYPE), b"77777777777\0"),
    "many extended headers": lambda: b"".join(
        _pax(comment="x" * 250_000) + block(f"f{number}") for number in range(150)
    ),
    "sparse file": _old_sparse,
    "sparse map that does not end": _endless_sparse_map,
    "extended header that is not UTF-8": lambda: (
        block("pax", tarfile.XHDTYPE, b"13 path=\xff\xfe\xfd\n") + _with_size(block("f"), b"zz" * 6)
    ),
    "long chain of links": lambda: (
        b"".join(
            block(f"l{number}", tarfile.SYMTYPE, linkname=f"l{number + 1}")
            for number in range(1200)
        )
        + block("l1200", tarfile.SYMTYPE, linkname="/etc/passwd")
    ),
}


def write(path: Path, members: bytes) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(block("config.json", content=b"{}"))
        file.write(members)
        file.write(END)
    return path
