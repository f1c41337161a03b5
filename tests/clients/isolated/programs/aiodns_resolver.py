"""aiohttp as installed by `pip install aiohttp[speedups]`: aiodns (c-ares) resolves names without the system's resolver."""

import asyncio
import json
import sys

import aiohttp

assert aiohttp.resolver.DefaultResolver.__name__ == "AsyncResolver"


async def main():
    async with aiohttp.ClientSession(headers={"Authorization": "Key of:mine"}) as session:
        async with session.post(f"https://fal.run/{sys.argv[1]}", json=json.loads(sys.argv[2])) as answer:
            image = (await answer.json())["images"][0]["url"]
        async with session.get(image) as answer:
            assert answer.headers["content-type"] == "image/jpeg"


asyncio.run(main())
print("OK")
