"""Reads an object of S3 with the standard library alone, and prints its size and SHA-256.

    read_back.py ENDPOINT /BUCKET/OBJECT KEY SECRET
"""

import datetime
import hashlib
import hmac
import sys
import urllib.parse
import urllib.request

REGION = "us-east-1"


def signature(secret, date, text):
    key = ("AWS4" + secret).encode()
    for part in (date, REGION, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def main():
    endpoint, path, key, secret = sys.argv[1:]
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    date, empty = now[:8], hashlib.sha256(b"").hexdigest()
    headers = {
        "host": urllib.parse.urlsplit(endpoint).netloc,
        "x-amz-content-sha256": empty,
        "x-amz-date": now,
    }
    signed = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = f"GET\n{path}\n\n{lines}\n{signed}\n{empty}"
    scope = f"{date}/{REGION}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={signed}, "
        f"Signature={signature(secret, date, text)}"
    )
    with urllib.request.urlopen(urllib.request.Request(endpoint + path, headers=headers)) as answer:
        content = answer.read()
    print(len(content), hashlib.sha256(content).hexdigest())


main()
