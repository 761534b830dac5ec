"""Tokens and ONNX: artifacts, sessions, the engine, and the tasks over it. Knows no Cloudflare word and no HTTP."""

import os

# ONNX Runtime 1.32 reports to its makers unless this is set before it is imported: it keeps an id of the device and a
# database of events below ~/.cache/Microsoft, and a thread sends them. Nothing of roost's phones home.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
