"""The frozen network: weights, layers, pooling, preprocessing, device."""
