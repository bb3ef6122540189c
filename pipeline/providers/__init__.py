"""Runs that a provider's service trains; one module a service, found by its name."""
