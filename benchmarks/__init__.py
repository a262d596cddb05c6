"""LayerHub beside hand-written programs and Keras, on one machine in one run: ``python -m benchmarks``."""
