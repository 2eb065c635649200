"""Small HTTP servers on the test's event loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Answer = Callable[[str, str, bytes], Awaitable[int | None]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[int]:
    """Yield the port. `answer` gets method, path and body; None closes the connection without an answer."""
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            while await _one(reader, writer, answer):
                pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> bool:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    length = next(int(line.split(":")[1]) for line in lines if line.startswith("Content-Length"))
    verb, path, _ = lines[0].split()
    status = await answer(verb, path, await reader.readexactly(length))
    if status is not None:
        writer.write(b"HTTP/1.1 %d Something\r\nContent-Length: 2\r\n\r\nok" % status)
    return status is not None


def after(seconds: float) -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    loop.call_later(seconds, future.set_result, None)
    return future
