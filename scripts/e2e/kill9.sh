#!/usr/bin/env bash
# Proves: a daemon killed with SIGKILL under load, and again while it starts, loses nothing that it acknowledged.
# Usage: kill9.sh [KILLS], 200 if not given.
exec "${PYTHON:-python3}" "$(dirname "$0")/lib/kill9.py" "$@"
