"""`python -m chameleon_ray` is the same as `chameleon-ray`."""

from chameleon_ray.cli import main

if __name__ == "__main__":
    main()
