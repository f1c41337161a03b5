"""Only Python's standard library, for `python -I`, which ignores PYTHONPATH."""

import json
import sys
import urllib.request

assert sys.flags.isolated and "sitecustomize" not in sys.modules
request = urllib.request.Request(
    f"https://fal.run/{sys.argv[1]}", sys.argv[2].encode(), {"Authorization": "Key of:mine", "Content-Type": "application/json"}
)
image = json.load(urllib.request.urlopen(request))["images"][0]["url"]
assert urllib.request.urlopen(image).read(2) == b"\xff\xd8"
print("OK")
