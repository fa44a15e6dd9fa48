"""What earlier measurements teach: of other layers, networks, kernels and devices."""
