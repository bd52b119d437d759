"""Images with identities: bundled, from Parquet, from folders."""
