"""The bill of a month as a file that cost tools read: FOCUS 1.2, in CSV or Parquet."""
