"""Who may call: API keys, their scopes and owners, and on which addresses a daemon may listen."""
