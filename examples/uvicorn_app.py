"""A small ASGI application for uvicorn.toml: says which worker answered; /slow answers in two parts, half a second apart."""

import asyncio
import os

WHO = f"{os.environ['POOLMASTER_POOL']}:{os.environ['POOLMASTER_SLOT']} pid {os.getpid()}"


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = f"hello from {WHO}\n".encode()
    slow = scope["path"] == "/slow"
    length = len(body) * (2 if slow else 1)
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(length).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if slow:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await asyncio.sleep(0.5)
    await send({"type": "http.response.body", "body": body})
