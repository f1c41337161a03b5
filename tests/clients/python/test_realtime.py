"""fal_client's realtime, sync and async, by token and by key, and its plain web socket."""

import asyncio
import json
from urllib.parse import quote

import fal_client
import pytest
import wire
from fal_client.client import RealtimeError

from support import ENDPOINT, check_output, endless, small


WAYS = pytest.mark.parametrize("use_jwt", [True, False])


@WAYS
def test_realtime(use_jwt):
    with fal_client.SyncClient().realtime(ENDPOINT, use_jwt=use_jwt) as connection:
        for name in ("first", "second"):
            connection.send(small(request_id=name))
            output = connection.recv()
            check_output(output)
            assert output["request_id"] == name
    call = wire.call("GET", "/realtime")
    assert [frame["kind"] for frame in call["frames"] if frame["from"] == "client"][:2] == ["binary"] * 2
    if use_jwt:
        asked = wire.call("POST", "^/tokens/")
        assert asked["body"] == {"allowed_apps": ["stable-diffusion-v35-large"], "token_expiration": 120}
        assert call["url"] == f"/{ENDPOINT}/realtime?fal_jwt_token={quote(json.loads(asked['answer']))}"
        wire.sent(call, authorization=None)
    else:
        assert call["url"] == f"/{ENDPOINT}/realtime"
        wire.sent(call, authorization="Key local:test", user_agent="fal-client/1.0.3 (python)")


@WAYS
def test_realtime_async(use_jwt):
    async def program():
        async with fal_client.AsyncClient().realtime(ENDPOINT, use_jwt=use_jwt, max_buffering=60) as connection:
            for name in range(4):
                await connection.send(small(request_id=str(name)))
            outputs = [await connection.recv() for _ in range(4)]
            assert [output["request_id"] for output in outputs] == ["0", "1", "2", "3"]
            for output in outputs:
                check_output(output)

    asyncio.run(program())


def test_an_error_is_raised_and_the_connection_stays_open():
    with fal_client.SyncClient().realtime(ENDPOINT, path="/turbo/realtime") as connection:
        connection.send(small(num_images=9, request_id="wrong"))
        with pytest.raises(RealtimeError, match="^INVALID_INPUT: num_images: Input should be") as caught:
            connection.recv()
        assert caught.value.payload["request_id"] == "wrong"
        connection.send(small())
        check_output(connection.recv())


def test_an_image_inside_the_result():
    with fal_client.SyncClient().realtime(ENDPOINT) as connection:
        connection.send(small(sync_mode=True))
        assert connection.recv()["images"][0]["url"].startswith("data:image/jpeg;base64,/9j")


def test_json_both_ways():
    options = {"encode_message": json.dumps, "decode_message": None}
    with fal_client.SyncClient().realtime(ENDPOINT, **options) as connection:
        connection.send(small())
        check_output(connection.recv())


def test_closing_the_connection_frees_the_worker():
    with fal_client.SyncClient().realtime(ENDPOINT) as connection:
        connection.send(endless())
    check_output(fal_client.run(ENDPOINT, small()))


@WAYS
def test_ws_connect(use_jwt):
    with fal_client.SyncClient().ws_connect(ENDPOINT, path="/realtime", use_jwt=use_jwt) as websocket:
        websocket.send(json.dumps(small()))
        check_output(json.loads(websocket.recv()))


def test_ws_connect_async():
    async def program():
        async with fal_client.AsyncClient().ws_connect(ENDPOINT) as websocket:
            await websocket.send(json.dumps(small()))
            check_output(json.loads(await websocket.recv()))

    asyncio.run(program())
