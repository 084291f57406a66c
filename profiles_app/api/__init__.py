"""The catalogue over REST: request → serializer → service → serializer."""
