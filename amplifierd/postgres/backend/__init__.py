"""Django's PostgreSQL backend, with one more case in which the database counts as unavailable."""
