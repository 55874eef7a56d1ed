#!/usr/bin/env bash
# Proves: both tokens can be replaced under load in every usual way, and a broken file never locks anybody out or in.
exec "${PYTHON:-python3}" "$(dirname "$0")/lib/token_rotation.py" "$@"
