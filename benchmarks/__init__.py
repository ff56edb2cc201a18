"""Measurements behind the project's performance claims."""
