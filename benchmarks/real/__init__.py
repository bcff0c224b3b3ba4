"""Trainings on really pretrained backbones, from files to scores, by the command line alone; see docs/real.md."""
