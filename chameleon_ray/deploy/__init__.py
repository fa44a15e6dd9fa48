"""From a model and the best records of its layers to a network that runs.

`best` reads the records; `packing`, `scheduling` and `preparing` make the code; `folder` is what
comes out, with `examples` that run it as `loading` does; and `bench` times it beside torch and
others, each in a process of its own (`contenders`).
"""
