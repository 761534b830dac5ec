"""What runs inside a Python Worker's process: the JavaScript that the SDK expects, and the way to roost.

An isolate loads this folder as ``roost_isolate`` and has nothing else of roost on its path, so that a user's
``worker.py`` or ``runtime.py`` is theirs. Standard library only, and imports among its own files are relative.
"""
