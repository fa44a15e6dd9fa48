"""The journal: an append-only Parquet record of every measurement of a run."""
