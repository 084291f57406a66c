"""The API's description: OpenAPI made of the views, and of what the apps say of them."""
