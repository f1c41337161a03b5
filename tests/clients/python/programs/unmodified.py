"""A program as in fal's documentation: nothing in it names this server. Prints its results as JSON."""

import json
import sys

import fal_client
import httpx

endpoint, arguments = sys.argv[1], json.loads(sys.argv[2])
messages = []


def update(status):
    messages.extend(log["message"] for log in getattr(status, "logs", None) or [])


subscribed = fal_client.subscribe(endpoint, arguments, with_logs=True, on_queue_update=update)
handle = fal_client.submit(endpoint, arguments)
got = handle.get()
ran = fal_client.run(endpoint, arguments)
*events, streamed = fal_client.stream(endpoint, arguments)
uploaded = fal_client.upload(b"words", "text/plain")
images = []
for result in (subscribed, got, ran, streamed):
    for image in result["images"]:
        images.append({"url": image["url"], "type": httpx.get(image["url"]).headers["content-type"]})
print(json.dumps({"images": images, "messages": messages, "events": len(events), "uploaded": uploaded,
                  "read": httpx.get(uploaded).text, "status_url": handle.status_url, "client": fal_client.__file__}))
