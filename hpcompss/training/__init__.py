"""What happens on a worker: data sets, devices and threads, fitting, metrics, checkpoints."""
