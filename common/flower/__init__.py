"""Flower at the border: the app bundle, message records and every private symbol of Flower in use."""
