"""The directions of parameters."""

IN = "IN"
IN_DELETE = "IN_DELETE"
COLLECTION_IN = "COLLECTION_IN"
