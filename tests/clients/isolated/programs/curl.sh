#!/bin/sh
# curl, once as it is and once without any variable, when it trusts what the system does.
set -e
ask() {
  "$@" curl --silent --show-error --fail "https://fal.run/$endpoint" -H 'Authorization: Key of:mine' \
    -H 'Content-Type: application/json' -d "$arguments" | sed 's/.*"url": *"\([^"]*\)".*/\1/'
}
endpoint=$1 arguments=$2
picture=$(ask)
[ "$(curl --silent --show-error --fail --output /dev/null --write-out '%{content_type}' "$picture")" = image/jpeg ]
[ -n "$(ask env -i "PATH=$PATH")" ]
echo OK
