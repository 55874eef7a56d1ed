#!/usr/bin/env bash
# Proves: a full disk refuses writes with 507, nothing else, and loses nothing. Needs the right to mount.
exec "${PYTHON:-python3}" "$(dirname "$0")/lib/full_disk.py" "$@"
