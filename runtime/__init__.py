"""Tokens and ONNX: artifacts, sessions, the engine, and the tasks over it. Knows no Cloudflare word and no HTTP."""
