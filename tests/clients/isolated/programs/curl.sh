#!/bin/sh
# curl, once in its environment and once without any variable, when it trusts the system's certificates.
set -e
ask() {
  "$@" curl --silent --show-error --fail "https://fal.run/$endpoint" -H 'Authorization: Key of:mine' \
    -H 'Content-Type: application/json' -d "$arguments" | sed 's/.*"url": *"\([^"]*\)".*/\1/'
}
endpoint=$1 arguments=$2
image=$(ask)
[ "$(curl --silent --show-error --fail --output /dev/null --write-out '%{content_type}' "$image")" = image/jpeg ]
[ -n "$(ask env -i "PATH=$PATH")" ]
echo OK
