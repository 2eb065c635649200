"""Bring up the loopback device in a new network namespace. Linux only."""

import fcntl
import socket
import struct

SIOCSIFFLAGS, IFF_UP = 0x8914, 1  # linux/sockios.h, linux/if.h

if __name__ == "__main__":
    with socket.socket() as any_socket:
        request = struct.pack("16sh22x", b"lo", IFF_UP)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, request)
