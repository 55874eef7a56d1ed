#!/usr/bin/env bash
# Proves: the official Python clients of OpenAI and Anthropic make plain, streamed, tool-calling and failing calls through the
# daemon. Installs them from the registry into a folder of its own; skips where it cannot.
exec "${PYTHON:-python3}" "$(dirname "$0")/lib/gateway.py" "$@"
