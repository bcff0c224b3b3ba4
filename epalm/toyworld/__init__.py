"""The embedded default: a small made-up world of pictures in which learning is real, with its own pretrained backbones."""
