#!/usr/bin/env bash
# Proves: kills while a command runs, drains, stopped and crowding clients, a log that nobody reads, and 64 descriptors do
# no harm.
exec "${PYTHON:-python3}" "$(dirname "$0")/lib/stress.py" "$@"
