#!/usr/bin/env bash
# The Dockerfile's CPU steps in an empty folder, for machines where images can't be built: copy what it copies,
# install what it installs, start its entry point with its environment and run its health check.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; wait; rm -rf "$work"' EXIT

grep '^COPY' "$root/Dockerfile" | while read -r _ line; do
    set -- $line
    target=${*: -1}
    for source in "${@:1:$#-1}"; do
        if [ -d "$root/$source" ]; then cp -R "$root/$source" "$work/$target"; else cp "$root/$source" "$work/"; fi
    done
done
cd "$work"
"${PYTHON:-python3}" -m venv image
grep -A1 '^FROM base AS cpu' "$root/Dockerfile" | sed -n 's/^RUN pip/image\/bin\/pip --quiet/p' | bash -euo pipefail

export ROOST_CACHE=${ROOST_CACHE:-$work/cache} ROOST_TOKEN=dry-run PATH="$work/image/bin:$PATH"
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
entry=$(sed -n 's/^ENTRYPOINT //p' "$root/Dockerfile" | python -c 'import json, sys; print(*json.load(sys.stdin))')
cd / # nothing of the sources may be needed to run
${entry/8790/$port} &
server=$!
check=$(sed -n 's/^ *CMD \(\[.*\]\)$/\1/p' "$root/Dockerfile" | python -c 'import json, sys; print(json.load(sys.stdin)[2])')
for _ in $(seq 120); do
    if python -c "${check/8790/$port}" 2>/dev/null; then
        curl --fail --silent --show-error -H 'authorization: Bearer dry-run' -d '{"prompt": "Say hello", "max_tokens": 8}' \
            "http://127.0.0.1:$port/client/v4/accounts/local/ai/run/@hf/nexusflow/starling-lm-7b-beta"
        printf '\nthe image would serve\n'
        exit 0
    fi
    sleep 1
done
echo "the health check never passed" >&2
exit 1
