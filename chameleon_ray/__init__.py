"""Finds the fastest code for each layer of a neural network, with few measurements, on Ray."""
