"""A program with the web sockets of fal's own SDK, HTTP over one and its realtime: nothing in it knows of this server.
Prints what it got as JSON."""

import json
import sys

from fal import apps

endpoint, arguments = sys.argv[1], json.loads(sys.argv[2])
said = {}
with apps.ws(endpoint) as connection:
    said["run"] = json.loads(connection.run(arguments))
    connection.send(arguments)
    connection.send({})
    said["second"] = json.loads(connection.recv())
    said["refused"] = json.loads(connection.recv())
with apps.ws(endpoint, path="/stream") as connection:
    connection.send(arguments)
    said["stream"] = "".join(connection.stream())
with apps._connect(endpoint) as connection:
    said["realtime"] = connection.run(arguments)
print(json.dumps(said))
