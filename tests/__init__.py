"""Every test's docstring states the fact that it proves."""
