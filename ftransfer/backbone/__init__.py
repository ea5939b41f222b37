"""The frozen network: weights, layers, pooling, preprocessing, device."""

from ftransfer.backbone.light_import import import_torchvision

import_torchvision()  # before any module here does
