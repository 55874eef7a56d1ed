#!/usr/bin/env bash
# Proves: what deploy/reverse-proxy promises, with its own files and a real nginx on loopback.
set -euo pipefail
if ! command -v nginx >/dev/null || ! command -v openssl >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "FAILED proxy: nginx or openssl is not installed, and only root may install them"; exit 1
    fi
    # Installed, but not started: the proof runs an instance of its own.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; trap 'rm -f "$policy"' EXIT
    fi
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nginx-light openssl; } >/dev/null
fi
"${PYTHON:-python3}" "$(dirname "$0")/lib/proxy.py" "$@"
