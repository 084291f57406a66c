"""The REST API of sessions: request → serializer → service → serializer."""
