"""The directions of parameters."""

IN = "IN"
COLLECTION_IN = "COLLECTION_IN"
