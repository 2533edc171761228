"""The samplers' numeric kernels: arrays in, arrays out, no policy."""
