"""Ray Tune over the settings of a policy, judged where they were not chosen."""
