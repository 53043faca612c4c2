"""From frame to verdict: batching, engine, worker, detectors and their training. May import `ingest` and `storage`."""
