"""Refuses connections from processes with code from artifacts, by the user that owns the peer's socket.

Such a process shares the container's network, so it can reach the container's port. The kernel's table of TCP
sockets has the user of each socket; it has no entry for a socket outside this network namespace.
"""

import asyncio
import ipaddress
import socket
import struct
from pathlib import Path
from typing import Any, cast

from container.http.error_replies import ForeignPeer
from container.http.protocol import HttpConnection

TABLES = {socket.AF_INET: "/proc/net/tcp", socket.AF_INET6: "/proc/net/tcp6"}


class GuardedConnection(HttpConnection):
    """Answers requests of the users in `uids` with 403."""

    uids = range(0)
    _refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._refused = is_refused(transport, self.uids)

    def on_headers_complete(self) -> None:
        if self._refused:
            raise ForeignPeer("processes with a model's code cannot use the container's port")
        super().on_headers_complete()


def guarded(uids: tuple[int, int]) -> type[HttpConnection]:
    """The connection class that refuses the users from the first to the last of `uids`."""
    return cast(
        "type[HttpConnection]",
        type("GuardedConnection", (GuardedConnection,), {"uids": range(uids[0], uids[1] + 1)}),
    )


def is_refused(transport: asyncio.BaseTransport, uids: range) -> bool:
    """True also where a local peer's user is unknown, as after its end: it could have been one of them."""
    peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    if not isinstance(peer, tuple) or not _is_local(peer[0]):
        return False
    owner = _owner(peer, own)
    return owner is None or owner in uids


def _is_local(address: str) -> bool:
    """Whether the address is one of this machine's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _owner(peer: tuple[Any, ...], own: tuple[Any, ...]) -> int | None:
    """The uid of the socket whose local end is `peer` and whose remote end is `own`; None if it is closed."""
    ends = _ends(peer, own)
    for table in TABLES.values():
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if (fields[1], fields[2]) in ends:
                return int(fields[7]) if fields[9] != "0" else None  # inode 0: no process has it
    return None


def _ends(peer: tuple[Any, ...], own: tuple[Any, ...]) -> set[tuple[str, str]]:
    """Both ends as the tables have them: as IPv4, and as IPv4 mapped to IPv6."""
    return {(_end(peer, mapped=mapped), _end(own, mapped=mapped)) for mapped in (False, True)}


def _end(end: tuple[Any, ...], *, mapped: bool) -> str:
    """proc(5): the address in words of the machine's byte order, and the port, in hexadecimal."""
    address = ipaddress.ip_address(str(end[0]).partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped and not mapped:
        address = address.ipv4_mapped
    elif isinstance(address, ipaddress.IPv4Address) and mapped:
        address = ipaddress.IPv6Address(f"::ffff:{address}")
    words = struct.unpack(f"={len(address.packed) // 4}I", address.packed)
    return "".join(f"{word:08X}" for word in words) + f":{end[1]:04X}"
