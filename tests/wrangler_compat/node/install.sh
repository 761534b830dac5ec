#!/bin/sh
# The packages of JavaScript Workers' tools: wrangler, workerd, vitest. Never fails: where they can't be had it says so,
# and the tests that need them are skipped with that reason.
cd "$(dirname "$0")" || exit

if ! command -v npm >/dev/null; then
    echo "there is no npm here: the tests of JavaScript Workers will be skipped"
elif ! cmp -s package-lock.json node_modules/.installed; then
    echo "adding wrangler, workerd and vitest to tests/wrangler_compat/node (800 MB, once)"
    # Two tries of a minute at most: npm's own five minutes are for worse networks than tests should wait for.
    if npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error \
        --fetch-retries=1 --fetch-retry-mintimeout=1000 --fetch-timeout=60000; then
        cp package-lock.json node_modules/.installed
    else
        echo "npm can't fetch the packages, see its words above: the tests of JavaScript Workers will be skipped" >&2
    fi
fi
