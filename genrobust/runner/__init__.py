"""The runner: plan, run shards, make a record; and the curve of smallest changes."""
