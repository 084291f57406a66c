"""The lists of the console: filtered, counted, searched, paged, exported, acted on."""
