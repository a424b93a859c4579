"""Training of the network: settings, data, optimizers, schedules, metrics, trainers."""
