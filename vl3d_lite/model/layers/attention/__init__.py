"""Attention over neighborhoods and over fields."""
