"""Points fal_client at the server under test, as README.md tells a program's author to."""

import os

import fal_client.client as C

BASE = os.environ.get("LATENTD_URL", "http://127.0.0.1:8080")

C.RUN_URL_FORMAT = BASE + "/"
C.QUEUE_URL_FORMAT = BASE + "/queue/"
C.REALTIME_URL_FORMAT = BASE.replace("http", "ws", 1) + "/"
C.REST_URL = BASE
C.CDN_URL = BASE
