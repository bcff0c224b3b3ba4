"""Scenes of coloured shapes, as pictures."""
