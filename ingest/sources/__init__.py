"""One file per kind of camera. Imports only `ingest.frame` and `ingest.errors`."""
