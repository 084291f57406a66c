"""The sessions' part of the API's description, each operation with an example."""
