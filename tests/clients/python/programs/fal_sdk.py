"""A program with `fal.apps` of fal's own SDK: nothing in it knows of this server. Prints what it got as JSON."""

import json
import sys

from fal import apps

endpoint, arguments = sys.argv[1], json.loads(sys.argv[2])

handle = apps.submit(endpoint, arguments, path="/turbo")
events = [type(event).__name__ for event in handle.iter_events(logs=True)]
completed = handle.status(logs=True)
said = {"events": events, "completed": completed.__dict__, "result": handle.fetch_result()}
said["run"] = apps.run(endpoint, arguments)

endless = arguments | {"image_size": "square_hd", "num_inference_steps": 50, "num_images": 4}
cancelled = apps.submit(endpoint, endless)
cancelled.cancel()
said["cancelled"] = [type(event).__name__ for event in cancelled.iter_events()]
said["error"] = cancelled.status().error_type
try:
    cancelled.fetch_result()
except Exception as error:
    said["raised"] = f"{type(error).__name__} {error}"

elsewhere = apps.RequestHandle("workflows/o/a", handle.request_id)
said["elsewhere"] = type(elsewhere.status()).__name__
said["stream"] = [line for line in apps.stream(endpoint, arguments, path="/stream") if line.startswith("data:")]
print(json.dumps(said))
