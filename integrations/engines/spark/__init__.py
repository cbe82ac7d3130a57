"""The Spark engine: a real Spark reads and writes, through Spark Connect; PyIceberg publishes."""
