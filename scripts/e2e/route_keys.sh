#!/usr/bin/env bash
# Proves: a route's key goes from the vault to its provider and nowhere else, and is rotated and revoked while runs go on.
exec "${PYTHON:-python3}" "$(dirname "$0")/lib/route_keys.py" "$@"
