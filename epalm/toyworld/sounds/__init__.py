"""Voices of the shapes, as recordings."""
