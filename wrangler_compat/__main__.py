"""``python -m wrangler_compat`` is the ``roost`` command."""

from wrangler_compat.cli import main

main(prog_name="roost")
