"""The API's description: OpenAPI made of the views and their serializers."""
