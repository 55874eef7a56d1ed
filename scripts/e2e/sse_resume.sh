#!/usr/bin/env bash
# Proves: streams go on across kills, drains and cut connections without a gap, a duplicate or a changed byte.
exec "${PYTHON:-python3}" "$(dirname "$0")/lib/sse_resume.py" "$@"
