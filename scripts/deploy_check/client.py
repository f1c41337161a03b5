"""A program that uses the server through a proxy: `client.py URL` with FAL_KEY and SSL_CERT_FILE in the environment.

Prints a line for each thing that it saw; ends with an error at the first that is wrong.
"""

import asyncio
import os
import sys
import time

import fal_client
import fal_client.client as C
import httpx

ENDPOINT = "fal-ai/stable-diffusion-v35-large"
SMALL = {"prompt": "a lighthouse", "image_size": {"width": 128, "height": 96}, "num_inference_steps": 4}
# A second or more on two cores.
LONG = {"prompt": "a lighthouse", "image_size": {"width": 640, "height": 640}, "num_inference_steps": 28}
UPLOAD_BYTES = 12 << 20


def point_client_at(base):
    C.RUN_URL_FORMAT = base + "/"
    C.QUEUE_URL_FORMAT = base + "/queue/"
    C.REALTIME_URL_FORMAT = base.replace("http", "ws", 1) + "/"
    C.REST_URL = C.CDN_URL = base


def submit(base):
    result = fal_client.subscribe(ENDPOINT, SMALL, with_logs=True)
    url = result["images"][0]["url"]
    assert url.startswith(base + "/files/"), url
    image = httpx.get(url, headers=authorization())
    assert image.status_code == 200 and image.content[:2] == b"\xff\xd8", image
    return f"an image of {len(image.content)} bytes at {url[: len(base) + 7]}…"


def stream(_):
    started, times, last = time.monotonic(), [], None
    for event in fal_client.stream(ENDPOINT, LONG):
        times.append(time.monotonic() - started)
        last = event
    assert last["images"], last
    assert len(times) >= 3 and times[0] < times[-1] / 2, f"the events arrived at once, at {times}"
    return f"{len(times)} events, the first after {times[0]:.2f} s, the last after {times[-1]:.2f} s"


def cancelled_stream(base):
    """A request that fails while its events are sent: the connection breaks, and the client raises an exception."""
    request = None
    try:
        for event in fal_client.stream(ENDPOINT, LONG):
            if request is None:
                request = event["request_id"]
                httpx.put(f"{base}/queue/{ENDPOINT}/requests/{request}/cancel", headers=authorization())
    except Exception as error:
        assert request, error
        return f"{type(error).__name__} after the first event"
    raise AssertionError("a stream whose request was cancelled ended without an exception")


def late_run(base):
    started = time.monotonic()
    with httpx.stream("POST", f"{base}/run/{ENDPOINT}", json=LONG, headers=authorization(), timeout=300) as answer:
        head = time.monotonic() - started
        body = answer.read()
    total = time.monotonic() - started
    assert answer.status_code == 200 and answer.json()["images"], body
    assert body[:1] == b" " or total < 1.5, f"no white space before a result after {total:.2f} s: {body[:20]}"
    return f"headers after {head:.2f} s, the result after {total:.2f} s"


def lost_client(base):
    """The request of a client that disconnects is cancelled."""
    endless = LONG | {"num_inference_steps": 50, "num_images": 4}
    with httpx.stream("POST", f"{base}/run/{ENDPOINT}", json=endless, headers=authorization(), timeout=300) as answer:
        request = answer.headers["x-fal-request-id"]
    status = f"{base}/queue/{ENDPOINT}/requests/{request}"
    started = time.monotonic()
    while httpx.get(f"{status}/status", headers=authorization()).json()["status"] != "COMPLETED":
        assert time.monotonic() - started < 120, "it still runs"
        time.sleep(0.1)
    result = httpx.get(status, headers=authorization())
    assert result.status_code == 499, f"it ran to its end: {result.status_code}"
    return f"cancelled after {time.monotonic() - started:.2f} s"


def realtime(_):
    """With the asynchronous client: on a busy machine the other one, which uses a TLS connection in two threads at once,
    sometimes never sends its request (Python 3.11)."""

    async def two_images():
        async with fal_client.AsyncClient().realtime(ENDPOINT) as connection:
            for seed in (1, 2):
                await connection.send(SMALL | {"seed": seed})
                answer = await connection.recv()
                assert answer["seed"] == seed and answer["images"], answer

    asyncio.run(two_images())
    return "two images over one web socket"


def upload(_):
    content = os.urandom(1 << 20) * (UPLOAD_BYTES >> 20)
    url = fal_client.upload(content, "application/octet-stream")
    back = httpx.get(url, headers=authorization(), timeout=300)
    assert back.status_code == 200 and back.content == content, f"{back.status_code}, {len(back.content)} bytes"
    return f"{len(content) >> 20} MiB there and back"


def long_url(base):
    settings = {"prompt": "a lighthouse " * 1500, "num_inference_steps": 2, "image_size": '{"width":64,"height":64}'}
    answer = httpx.get(f"{base}/run/{ENDPOINT}", params=settings, headers=authorization(), timeout=300)
    assert answer.status_code == 200, f"{answer.status_code} {answer.text[:200]}"
    return f"a URL of {len(str(answer.request.url))} bytes"


def forged_headers(base):
    forged = {
        "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "81",
        "X-Forwarded-Prefix": "/evil", "Forwarded": "host=evil.example;proto=http",
    }
    hosts = {base: {}, "https://localhost": {"Host": "localhost"}}  # with a port, and without one
    for names in (list(forged), ["Forwarded"], ["X-Forwarded-Port"], ["X-Forwarded-Prefix"]):
        for origin, host in hosts.items():
            sent = {name: forged[name] for name in names} | host | authorization()
            answer = httpx.post(f"{base}/queue/{ENDPOINT}", json=SMALL, headers=sent)
            assert answer.status_code == 200, answer
            for name in ("response_url", "status_url", "cancel_url"):
                url = answer.json()[name]
                assert url.startswith(f"{origin}/queue/fal-ai/"), f"with {names}: {url}"
    return "URLs have the proxy's scheme, host and port"


def authorization():
    return {"Authorization": f"Key {os.environ['FAL_KEY']}"}


def main():
    base = sys.argv[1]
    point_client_at(base)
    checks = [submit, stream, cancelled_stream, late_run, lost_client, realtime, upload, long_url, forged_headers]
    for check in [check for check in checks if not sys.argv[2:] or check.__name__ in sys.argv[2:]]:
        print(f"{check.__name__}: {check(base)}", flush=True)


main()
