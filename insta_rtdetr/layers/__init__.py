"""Layers and tensor functions that do not depend on any model."""
