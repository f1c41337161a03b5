"""A program with `fal.apps` of fal's own SDK: nothing in it names this server. Prints its results as JSON."""

import json
import sys

from fal import apps

endpoint, arguments = sys.argv[1], json.loads(sys.argv[2])

handle = apps.submit(endpoint, arguments, path="/turbo")
events = [type(event).__name__ for event in handle.iter_events(logs=True)]
completed = handle.status(logs=True)
printed = {"events": events, "completed": completed.__dict__, "result": handle.fetch_result()}
printed["run"] = apps.run(endpoint, arguments)

endless = arguments | {"image_size": "square_hd", "num_inference_steps": 50, "num_images": 4}
cancelled = apps.submit(endpoint, endless)
cancelled.cancel()
printed["cancelled"] = [type(event).__name__ for event in cancelled.iter_events()]
printed["error"] = cancelled.status().error_type
try:
    cancelled.fetch_result()
except Exception as error:
    printed["raised"] = f"{type(error).__name__} {error}"

elsewhere = apps.RequestHandle("workflows/o/a", handle.request_id)
printed["elsewhere"] = type(elsewhere.status()).__name__
printed["stream"] = [line for line in apps.stream(endpoint, arguments, path="/stream") if line.startswith("data:")]
print(json.dumps(printed))
