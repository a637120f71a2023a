"""Backends compared blob by blob."""
