"""A program with the web sockets of fal's own SDK, HTTP over a web socket and realtime: nothing in it names this server.
Prints its results as JSON."""

import json
import sys

from fal import apps

endpoint, arguments = sys.argv[1], json.loads(sys.argv[2])
printed = {}
with apps.ws(endpoint) as connection:
    printed["run"] = json.loads(connection.run(arguments))
    connection.send(arguments)
    connection.send({})
    printed["second"] = json.loads(connection.recv())
    printed["refused"] = json.loads(connection.recv())
with apps.ws(endpoint, path="/stream") as connection:
    connection.send(arguments)
    printed["stream"] = "".join(connection.stream())
with apps._connect(endpoint) as connection:
    printed["realtime"] = connection.run(arguments)
print(json.dumps(printed))
