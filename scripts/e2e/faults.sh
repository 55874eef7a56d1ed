#!/usr/bin/env bash
# Proves: what a hostile machine does to a state root (odd files, loose modes, newer formats, failing, slow and interrupted
# system calls, kills in the middle of any of them, no inodes) is refused or survived as docs/threats.md says. Needs strace
# and, for the inodes, the right to mount; what is missing is told.
exec "${PYTHON:-python3}" "$(dirname "$0")/lib/faults.py" "$@"
