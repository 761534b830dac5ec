"""Everything of Cloudflare's shape: the REST and wire doors, and the `roost` command."""
