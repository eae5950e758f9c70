"""deploykit's own networks for small images; importing this package registers them all."""

from deploykit.models.nets import cnn4, mobilenetv2, resnet

__all__ = ["cnn4", "mobilenetv2", "resnet"]
