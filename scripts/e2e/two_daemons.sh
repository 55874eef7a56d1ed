#!/usr/bin/env bash
# Proves: one state root has one daemon, by whatever path a second one comes.
exec "${PYTHON:-python3}" "$(dirname "$0")/lib/two_daemons.py" "$@"
