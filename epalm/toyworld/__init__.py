"""The embedded default: a small made-up world of pictures with its own pretrained backbones, where learning is real."""
